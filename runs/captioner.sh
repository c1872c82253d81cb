#!/bin/sh
# Trains the offline captioner's judge: minutes on one thread, after runs/recogniser.sh has rendered its clips (CLIPS).
# FOOTAGE: folder with bbb.mp4 (Big Buck Bunny, CC-BY 3.0, Blender Foundation), vtest.avi and tree.avi (OpenCV's samples).
set -eu
OUT=${OUT:-outputs/captioner}
OMP_NUM_THREADS=1 "${PYTHON:-python3}" -m kinema.caption.sight_training --clips "${CLIPS:-outputs/recogniser/clips}" --out "$OUT" \
  --film "$FOOTAGE/bbb.mp4" 30 300 --live "$FOOTAGE/vtest.avi" 0 50 --live "$FOOTAGE/tree.avi" 0 15
