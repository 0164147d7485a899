# Bare `make` lists the verbs. `make demo` and `make test` set up .venv by themselves.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO   := demo

.DEFAULT_GOAL := help
.PHONY: help setup check format lint types test test-all demo bench figures clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

setup: $(STAMP)  ## make .venv with the package and its tools

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy
	$(BIN)/mypy

check: lint types  ## lint and types

test: $(STAMP)  ## the tests, on all cores (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

test-all: $(STAMP)  ## the tests, slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

demo: $(STAMP)  ## train, score and apply a small network on synthetic CT (minutes)
	$(BIN)/python docs/demo.py --output_dir $(DEMO)

bench: $(STAMP)  ## LSH attention against full attention and reformer-pytorch: seconds and memory
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ".[bench]"
	$(BIN)/python docs/bench_lsh_attention.py

clean:  ## remove what was made here, .venv too
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
