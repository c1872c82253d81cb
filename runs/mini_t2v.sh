#!/usr/bin/env bash
# mini's transformer from rendered clips, through all stages of its schedule. Rendering, encoding and training run side by side;
# every step goes on where it was stopped.
#   runs/mini_t2v.sh [KEY=VALUE ...]     e.g. loop.seconds=900 task.compile=true
# On a borrowed machine `loop.seconds` takes the place of steps: every stage then has its share of the time. SIDES and FRAMES are
# those of the stages; REVIEWED names a folder of encoded clips that people have approved, for the last one.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/mini}
WORKERS=${WORKERS:-$(nproc)}
PATH=$PWD/.venv/bin:$PATH
KINEMA=kinema
command -v kinema >/dev/null || { export PYTHONPATH=src; KINEMA="python3 -m kinema"; } # a machine where nothing may be installed

mkdir -p "$OUT/clips"
OMP_NUM_THREADS=1 nice -n 10 $KINEMA world render --out "$OUT/clips" --clips "${CLIPS:-60000}" --workers "$WORKERS" --ahead 900 &
RENDERER=$!
$KINEMA encode --clips "$OUT/clips" --vae "$OUT/vae" --out "$OUT/latents" --sides 64 128 --follow 600 --per-shard "${PER_SHARD:-32}" &
ENCODER=$!
trap 'kill $RENDERER $ENCODER 2>/dev/null || true' EXIT
STAGES=("task.stages=mini_pretraining")
[ -z "${REVIEWED:-}" ] || STAGES=("task.reviewed=[\"$REVIEWED\"]" "task.stages=mini")
$KINEMA train runs/mini_t2v.toml "task.folders=[\"$OUT/latents\"]" task.follow=600 "sample.vae=$OUT/vae" "loop.out=$OUT/t2v" "${STAGES[@]}" "$@"
