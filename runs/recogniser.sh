#!/usr/bin/env bash
# The recogniser that judges the world's videos (subject of 734, place), trained apart on rendered clips and sprites over a frozen
# backbone. One quiet CPU thread: a quarter of an hour for CLIPS clips, ten minutes for their pieces, six for the training.
# All of it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
work="${1:-outputs/recogniser}"
python -m kinema.evaluate.practice --out "$work/clips" --clips "${CLIPS:-7600}"
python -m kinema.evaluate.naming --clips "$work/clips" --out "$work/run" --steps "${STEPS:-1500}"
# To ship it: copy recogniser.safetensors, recogniser.json, scores.json and log.jsonl from $work/run to src/kinema/pretrained/recogniser.
