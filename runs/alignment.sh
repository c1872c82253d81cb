#!/usr/bin/env bash
# The image-text and video-text model, trained on the clips of runs/recogniser.sh and their captions, over frozen backbones and
# the recogniser. One CPU thread: about ten minutes for views and texts, four for the training. All of it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
clips="${1:-outputs/recogniser/clips}" out="${2:-outputs/alignment}"
python -m kinema.evaluate.alignment.training --clips "$clips" --out "$out" --steps "${STEPS:-1500}"
python -m kinema.evaluate.alignment.styles --clips "$clips" --out "$out"
# To ship it: copy alignment.safetensors, scores.json, styles.safetensors, styles.json and log.jsonl from $out to src/kinema/pretrained/alignment.
