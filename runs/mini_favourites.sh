#!/usr/bin/env bash
# A last stage for mini, made for a CPU: ten subjects that people ask for first, three quarters of the clips; the rest is everything.
#   runs/mini_favourites.sh [KEY=VALUE ...]     e.g. loop.seconds=3600
# Every step goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/favourites}
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

kinema world build
kinema world render --out "$OUT/clips" --clips 280 --first-seed 7000000 --workers 1 \
  --subjects cat dog rabbit penguin horse fish car robot rocket "red heart"
kinema world render --out "$OUT/others" --clips 96 --first-seed 8000000 --workers 1
kinema encode --clips "$OUT/clips" --out "$OUT/latents" --sides 128 --frames 33
kinema encode --clips "$OUT/others" --out "$OUT/latents-others" --sides 128 --frames 33
kinema train runs/mini_favourites.toml "task.folders=[\"$OUT/latents\", \"$OUT/latents-others\"]" "loop.out=$OUT/t2v" "$@"
