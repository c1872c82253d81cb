#!/usr/bin/env bash
# The 13B model on one GPU: a step at 544x960x129 and 720x1280x129 in every way there is and by diffusers, the autoencoder, the peaks.
#   runs/bench_gpu.sh                          rows in runs/out/bench_gpu.jsonl; what has a row already is left out
#   DEVICE=cpu SMALL=1 runs/bench_gpu.sh       tries the script without a GPU, on a tiny model
#   STEPS="peak step-720p-cudnn" LIMIT=300 runs/bench_gpu.sh
# Each measurement is a process of its own with LIMIT seconds; one that fails leaves a row that says why, and is tried again next time.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=.venv/bin/python
[ -x "$PYTHON" ] || { export PYTHONPATH=src; PYTHON=python3; } # a machine where nothing may be installed
OUT=${OUT:-runs/out/bench_gpu.jsonl}
DEVICE=${DEVICE:-cuda}
LIMIT=${LIMIT:-400}
STEPS=${STEPS:-"peak attention step-720p-sdpa step-720p-cudnn step-720p-diffusers step-540p-sdpa step-540p-cudnn step-540p-diffusers decode
step-720p-compile step-720p-fp8 step-720p-sliding-tile step-720p-radial step-720p-flash3 step-720p-sage step-540p-fp8 step-720p-offload encode step-540p-graphs"}
mkdir -p "$(dirname "$OUT")"
for name in $STEPS; do
    timeout "$LIMIT" "$PYTHON" runs/bench_gpu.py "$name" --rows "$OUT" --device "$DEVICE" ${SMALL:+--small}
    status=$?
    [ $status -eq 0 ] || echo "{\"name\": \"$name\", \"error\": \"ended with status $status\"}" | tee -a "$OUT"
done
