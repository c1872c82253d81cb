#!/usr/bin/env bash
# mini learns to see a picture of its subject, on a machine without a GPU: draw pictures and clips with portraits, encode them, train; then
# small clips of all shots whose subjects count more, and the average of both. Every step goes on where it was stopped.
#   runs/mini_reference.sh [KEY=VALUE ...]     e.g. loop.seconds=4500, in place of steps, for each of the two
# OUT/mini holds the result: kinema evaluate world --weights OUT/mini
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/mini_reference}
WORKERS=${WORKERS:-1}
PATH=$PWD/.venv/bin:$PATH

draw() { # NAME CLIPS FRAMES SIDE FIRST_SEED [MORE ...]
    local name=$1 clips=$2 frames=$3 side=$4 seed=$5
    shift 5
    OMP_NUM_THREADS=1 kinema world render --out "$OUT/clips/$name" --clips "$clips" --frames "$frames" --size "$side" "$side" \
        --first-seed "$seed" --workers "$WORKERS" "$@"
    OMP_NUM_THREADS=1 kinema encode --clips "$OUT/clips/$name" --out "$OUT/latents/$name"
}
draw pictures "${PICTURES:-20000}" 1 64 60000000 --shots close-up 'medium shot'
draw small "${SMALL:-7000}" 33 64 70000000 --shots close-up
draw large "${LARGE:-3000}" 33 128 91000000
draw wide "${WIDE:-5000}" 33 64 93000000
FOLDERS=$(printf '"%s",' "$OUT"/latents/{pictures,small,large})
kinema train runs/mini_reference.toml "task.folders=[${FOLDERS%,}]" "task.weights=[1.0,0.5,1.0]" "loop.out=$OUT/run" "$@"
FOLDERS=$(printf '"%s",' "$OUT"/latents/{pictures,small,large,wide})
kinema train runs/mini_focus.toml "task.folders=[${FOLDERS%,}]" "task.weights=[0.2,0.4,0.7,1.0]" "start=$OUT/run" "loop.out=$OUT/focus" "$@"
python runs/average.py "$OUT/run" "$OUT/focus" "$OUT/mini"
