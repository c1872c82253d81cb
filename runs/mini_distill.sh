#!/usr/bin/env bash
# mini's students: first one that takes its guidance as an input, then one of four steps. Clips are rendered and encoded beside the
# training, unless `kinema encode` has filled OUT/latents before; every step goes on where it was stopped.
#   runs/mini_distill.sh [KEY=VALUE ...]     e.g. loop.seconds=240 data.compile=true on a borrowed machine, for each of the two
# Compare with the teacher: kinema evaluate world --weights OUT/distilled, and OUT/4steps.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/mini}
PATH=$PWD/.venv/bin:$PATH
KINEMA=kinema
command -v kinema >/dev/null || { export PYTHONPATH=src; KINEMA="python3 -m kinema"; } # a machine where nothing may be installed

mkdir -p "$OUT/clips"
OMP_NUM_THREADS=1 nice -n 10 $KINEMA world render --out "$OUT/clips" --clips "${CLIPS:-20000}" --workers "${WORKERS:-$(nproc)}" --ahead 900 &
RENDERER=$!
$KINEMA encode --clips "$OUT/clips" --out "$OUT/latents" --sides 128 --follow 600 &
ENCODER=$!
trap 'kill $RENDERER $ENCODER 2>/dev/null || true' EXIT
DATA=("data.folders=[\"$OUT/latents\"]" data.follow=600)
$KINEMA distill runs/mini_distill.toml "${DATA[@]}" "loop.out=$OUT/distilled" "$@"
$KINEMA distill runs/mini_steps.toml "${DATA[@]}" "teacher=$OUT/distilled" "loop.out=$OUT/4steps" "$@"
