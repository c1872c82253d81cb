#!/usr/bin/env bash
# mini's transformer from encoded clips: 64 pixels first, then 128. Rendering, encoding and training run side by side; every
# step goes on where it was stopped.
#   runs/mini_t2v.sh [KEY=VALUE ...]     e.g. loop.steps=20000 task.compile=true
# Measured on one H100 with 16 cores (task.compile=true): stage 1 of 256 clips a step at 14 steps/s, stage 2 of 128 at 11 steps/s;
# validation loss has not levelled off after 1,700 + 2,950 steps, which is what the shipped weights have had.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/mini}
WORKERS=${WORKERS:-$(nproc)}
PATH=$PWD/.venv/bin:$PATH
KINEMA=kinema
command -v kinema >/dev/null || { export PYTHONPATH=src; KINEMA="python3 -m kinema"; } # a machine where nothing may be installed

OMP_NUM_THREADS=1 nice -n 10 $KINEMA world render --out "$OUT/clips" --clips "${CLIPS:-60000}" --workers "$WORKERS" --ahead 900 &
RENDERER=$!
$KINEMA encode --clips "$OUT/clips" --vae "$OUT/vae" --out "$OUT/latents" --scales 1 2 --follow 600 &
ENCODER=$!
trap 'kill $RENDERER $ENCODER 2>/dev/null || true' EXIT
$KINEMA train video runs/mini_t2v.toml "task.latents=$OUT/latents" "loop.out=$OUT/t2v-64" \
  task.scale=2 task.batch=256 task.shift=1.5 loop.steps=1700 loop.lr=1.2e-3 loop.muon_lr=1.2e-3 loop.lr_floor=0.5 loop.ema=0.998 "$@"
$KINEMA train video runs/mini_t2v.toml "task.latents=$OUT/latents" "loop.out=$OUT/t2v-128" "start=$OUT/t2v-64/dit.safetensors" "$@"
