#!/bin/sh
# Trains the watermark detector on one thread of a processor: half an hour, and a sprite pack (kinema world build).
# START=FILE.onnx goes on from a detector, at a lower rate: the shipped one came so, in three goes (its card). CLIPS, STEPS: how many.
# FOOTAGE: folder with bbb.mp4 (Big Buck Bunny, CC-BY 3.0, Blender Foundation) and vtest.avi (OpenCV's samples); without it only the world is used.
set -eu
OUT=${OUT:-runs/out/watermark}
set -- --out "$OUT" --clips "${CLIPS:-300}" --steps "${STEPS:-3000}" ${START:+--start "$START"}
if [ -n "${FOOTAGE:-}" ]; then
  set -- "$@" --footage "$FOOTAGE/bbb.mp4" 30 300 --footage "$FOOTAGE/vtest.avi" 0 50
fi
OMP_NUM_THREADS=1 nice -n ${NICE:-10} "${PYTHON:-python3}" -m kinema.curation.watermark_training "$@"
