# `make demo` and `make test` do everything on a machine with only Python (3.11 or newer), make and git.
#
#   PYTHON=python3.12               another interpreter for the environment
#   CONSTRAINTS=my-constraints.txt  another torch build (a GPU user's); CONSTRAINTS=/dev/null takes pip's choice
#
# Both count when the environment is made: run `make clean` first to change them later.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
OUT ?= demo-output
SEED ?= 0

BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install demo test lint types format bench bench-gpu mutants clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s%s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## make the environment in .venv

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Expected Python 3.11 or newer, actual {sys.version.split()[0]}: set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

demo: $(INSTALLED) ## robust PCA, l2-VAE, iC-VAE and RiC-VAE on two dirty data sets; table, pictures, models in $(OUT)
	$(BIN)/ricvae demo --out $(OUT) --seed $(SEED) --overwrite

test: $(INSTALLED) ## the tests and the docstring examples
	$(BIN)/python -m pytest -q

lint: $(INSTALLED) ## style and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy, strict on the package
	$(BIN)/mypy

format: $(INSTALLED) ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## time the training step beside others, into $(OUT)/bench: hours; see benchmarks/README.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[bench]'
	$(BIN)/python -m benchmarks steps --out $(OUT)/bench
	$(BIN)/python -m benchmarks startup --out $(OUT)/bench
	$(BIN)/python -m benchmarks render $(OUT)/bench

bench-gpu: $(INSTALLED) ## the same on a CUDA device
	$(BIN)/python -m benchmarks steps --device cuda --out $(OUT)/bench-gpu
	$(BIN)/python -m benchmarks startup --device cuda --out $(OUT)/bench-gpu
	$(BIN)/python -m benchmarks render $(OUT)/bench-gpu

mutants: $(INSTALLED) ## break the code on purpose, one fault at a time: each must make a test fail
	$(BIN)/python tests/mutants.py

clean: ## remove the environment and everything the commands above made
	rm -rf .venv $(OUT) .mypy_cache .pytest_cache .ruff_cache
