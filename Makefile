# Everything a clean clone needs is made in .venv: `make demo`, `make test`, `make bench`, `make lint`.
# `make fresh` and `make oldest` install pyfront as a user does, outside this folder.

PYTHON ?= python3
# What `make fresh` installs before pyfront; torch alone may be older than the newest, since the
# newest is a CUDA build of several gigabytes.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(wildcard csrc/*/*)

.PHONY: demo test bench lint format fresh oldest clean

demo: $(VENV)/.installed
	$(BIN)/python -m pyfront demo $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto $(ARGS)

bench: $(VENV)/.bench
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest bench --benchmark-only $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror csrc/*/* tests/*.cpp tests/emulated_cuda/*
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*/* tests/*.cpp tests/emulated_cuda/*

fresh:
	PYTHON=$(PYTHON) TORCH=$(TORCH) .ci/install newest

oldest:
	PYTHON=$(PYTHON) .ci/install oldest

clean:
	rm -rf $(VENV) build

$(VENV)/.dependencies: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "pyfront needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "pip>=25.1"
	$(BIN)/pip install --quiet --group dev
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --group bench
	@touch $@
