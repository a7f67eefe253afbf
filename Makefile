# `make demo` and `make test` do everything on a machine with only Python (3.11 or newer), make and git.
#
#   PYTHON=python3.12               another interpreter for the environment
#   CONSTRAINTS=my-constraints.txt  another torch build (a GPU user's); CONSTRAINTS=/dev/null takes pip's choice
#   PYTHON312=python3.12            the interpreter of `make test-arviz1`
#
# They count when an environment is made: run `make clean` first to change them later.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
PYTHON312 ?= python3.12
OUT ?= demo-output
SEED ?= 0
JOBS ?= 2

ARVIZ1 := .venv-arviz1/bin
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install demo test test-fast test-core test-arviz1 coverage conformance lint types format bench bench-gpu reproduce mutants clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-13s%s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## make the environment in .venv

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Expected Python 3.11 or newer, actual {sys.version.split()[0]}: set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

demo: $(INSTALLED) ## robust PCA, l2-VAE, iC-VAE and RiC-VAE on two dirty data sets; table, pictures, models in $(OUT)
	$(BIN)/ricvae demo --out $(OUT) --seed $(SEED) --overwrite

# A process a core, and so a thread each, also where tests run scripts.
test test-fast coverage conformance: export OMP_NUM_THREADS ?= 1

test: $(INSTALLED) ## the tests and the docstring examples, a process a core
	$(BIN)/python -m pytest -q -n auto --durations=20

test-fast: $(INSTALLED) ## the same without those marked slow: real compilations, examples, the demo
	$(BIN)/python -m pytest -q -n auto -m "not slow"

test-core: .venv-core/.installed ## the core alone: the wheel with torch, Pyro and NumPy, in an environment of its own, .venv-core
	cd tests && ../.venv-core/bin/python core_alone.py

.venv-core/.installed: $(INSTALLED) Makefile $(shell find pyro_ricvae -name '*.py')
	rm -rf .venv-core build/wheel
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/wheel .
	$(PYTHON) -m venv .venv-core
	.venv-core/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) build/wheel/*.whl
	@touch $@

coverage: $(INSTALLED) ## the tests, and which lines they run
	$(BIN)/python -m pytest -q -n auto --cov=pyro_ricvae --cov-report=term:skip-covered

test-arviz1: .venv-arviz1/.installed ## the conversion to ArviZ with ArviZ 1.x, in an environment of its own, .venv-arviz1
	PYTHONPATH=. $(ARVIZ1)/python -m pytest -q --noconftest tests/core/test_arviz.py pyro_ricvae/_core/arviz.py

.venv-arviz1/.installed: Makefile
	@$(PYTHON312) -c 'import sys; sys.exit(sys.version_info < (3, 12) and f"Expected Python 3.12 or newer, actual {sys.version.split()[0]}: set PYTHON312=...")'
	$(PYTHON312) -m venv .venv-arviz1
	$(ARVIZ1)/python -m pip install --quiet --disable-pip-version-check 'arviz[h5netcdf]>=1' numpy 'matplotlib<3.11' pytest
	@touch $@

conformance: $(INSTALLED) ## every model under SVI and CompiledSVI, compiled too, and a table of what differs: hours
	cd tests && ../$(BIN)/python -m conformance --compiled --jobs $$(nproc)

lint: $(INSTALLED) ## style, docstrings, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

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

reproduce: $(INSTALLED) ## the paper's experiments, into $(OUT)/paper: a day of two cores, resumed where it was cut off; QUICK=1 in minutes
	$(BIN)/python -m experiments reproduce all --jobs $(JOBS) --out $(OUT)/paper $(if $(QUICK),--quick)

mutants: $(INSTALLED) ## break the code on purpose, one fault at a time: each must make a test fail
	$(BIN)/python tests/mutants.py

clean: ## remove the environment and everything the commands above made
	rm -rf .venv .venv-arviz1 .venv-core build $(OUT) .mypy_cache .pytest_cache .ruff_cache .coverage .import_linter_cache
