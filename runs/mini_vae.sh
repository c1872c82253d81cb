#!/usr/bin/env bash
# mini's autoencoder from nothing: render the world and train beside it. Every step goes on where it was stopped.
#   runs/mini_vae.sh [KEY=VALUE ...]     e.g. loop.seconds=250 task.compile=true
# Measured on one H100 with 16 cores, of the first edition: 8,000 steps of 8 clips in 190 s after 110 s of compiling; 28.0 dB on
# held-out clips. The second edition (docs/vae-training.md) is meant for loop.seconds=250 task.compile=true there.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/mini}
WORKERS=${WORKERS:-$(nproc)}
PATH=$PWD/.venv/bin:$PATH
KINEMA=kinema
command -v kinema >/dev/null || { export PYTHONPATH=src; KINEMA="python3 -m kinema"; } # a machine where nothing may be installed

$KINEMA world build
$KINEMA world render --out "$OUT/heldout" --clips 48 --first-seed 0 --split heldout --workers 2
OMP_NUM_THREADS=1 nice -n 10 $KINEMA world render --out "$OUT/clips" --clips "${CLIPS:-24000}" --workers "$WORKERS" &
trap 'kill $! 2>/dev/null || true' EXIT
$KINEMA train runs/mini_vae.toml "task.clips=$OUT/clips" "task.heldout=$OUT/heldout" "loop.out=$OUT/vae" "$@"
