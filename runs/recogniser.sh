#!/usr/bin/env bash
# The recogniser that judges the world's videos (subject of 734, place), trained apart on clean sprites and rendered clips.
# Two minutes on one GPU; the weights are 5 MB. On a CPU it takes hours: the published weights come with the package.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m kinema.evaluate.recogniser --out "${1:-src/kinema/pretrained/recogniser}" --seconds "${SECONDS_TO_TRAIN:-120}"
