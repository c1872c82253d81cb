#!/usr/bin/env bash
# mini learns a creature that it has never seen, from twenty clips: a video of it before and after.
#   runs/mini_lora.sh [KEY=VALUE ...]     e.g. loop.steps=100; for clips of your own: clips=FOLDER trigger=WORD
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/out/zorbs}
PATH=$PWD/.venv/bin:$PATH

python runs/zorbs.py "$OUT/clips" 20
kinema train runs/mini_lora.toml "clips=$OUT/clips" "loop.out=$OUT/lora" "$@"
for strength in 0 1; do
  kinema generate --prompt "A zorb wobbles on a sandy beach, close-up shot." --seed 0 --lora "$OUT/lora/lora.safetensors:$strength" --out "$OUT/strength$strength"
done
