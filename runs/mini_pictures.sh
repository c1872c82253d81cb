#!/usr/bin/env bash
# mini learns what its subjects look like, on a machine without a GPU: draw pictures and clips, encode them, train. Every step goes on
# where it was stopped.
#   runs/mini_pictures.sh [KEY=VALUE ...]     e.g. loop.seconds=9000, in place of steps
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/mini_pictures}
WORKERS=${WORKERS:-1}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
PATH=$PWD/.venv/bin:$PATH
OFTEN=(
    T-Rex airplane alien astronaut bear bee bird 'black cat' bus butterfly car cat clown cow crab dog dolphin dragon duck elephant
    'fire truck' fish flamingo 'flying saucer' fox frog ghost giraffe hedgehog helicopter horse kangaroo koala lion mermaid monkey
    motorcycle mouse octopus owl panda parrot penguin pig 'polar bear' 'police car' rabbit 'racing car' rainbow 'red heart' robot rocket
    rooster sailboat shark sheep ship snail snake snowman spider star 'steam locomotive' sun taxi 'teddy bear' tiger tractor train turtle
    unicorn whale wolf zebra
) # what people ask for first

mkdir -p "$OUT"
draw() { # NAME CLIPS FRAMES SIDE FIRST_SEED [MORE ...]
    local name=$1 clips=$2 frames=$3 side=$4 seed=$5
    shift 5
    kinema world render --out "$OUT/clips/$name" --clips "$clips" --frames "$frames" --size "$side" "$side" --first-seed "$seed" \
        --workers "$WORKERS" --often "${OFTEN[@]}" "$@"
    kinema encode --clips "$OUT/clips/$name" --out "$OUT/latents/$name"
}
draw small "${SMALL:-12000}" 1 64 20000000 --shots close-up
draw large "${LARGE:-5000}" 1 128 30000000
draw clips "${CLIPS:-2200}" 33 128 40000000
draw close "${CLOSE:-2600}" 33 64 50000000 --shots close-up
FOLDERS=$(printf '"%s",' "$OUT"/latents/{small,large,clips,close})
kinema train runs/mini_pictures.toml "task.folders=[${FOLDERS%,}]" "task.weights=[1.0,1.0,1.0,3.0]" "loop.out=$OUT/run" "$@"
