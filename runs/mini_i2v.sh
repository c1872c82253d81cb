#!/usr/bin/env bash
# mini learns to go on from pictures: render clips, encode them at two sizes, train. Every step goes on where it was stopped.
#   runs/mini_i2v.sh [KEY=VALUE ...]     e.g. loop.seconds=2700, in place of steps
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/mini_i2v}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
PATH=$PWD/.venv/bin:$PATH

mkdir -p "$OUT"
kinema world render --out "$OUT/clips" --clips "${CLIPS:-3000}" --first-seed "${FIRST_SEED:-5000000}" --workers "${WORKERS:-1}"
kinema encode --clips "$OUT/clips" --out "$OUT/latents" --sides 64 128 --frames 33
kinema train runs/mini_i2v.toml "task.folders=[\"$OUT/latents\"]" "loop.out=$OUT/run" "$@"
kinema evaluate i2v --weights "$OUT/run" --out "$OUT/evaluate-i2v"
