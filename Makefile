# Everything a clean clone needs is made in .venv: `make demo`, `make test`, `make bench`, `make lint`.
# `make fresh` and `make oldest` install pyfront as a user does, outside this folder.

PYTHON ?= python3
# What `make fresh` installs before pyfront; torch alone may be older than the newest, since the
# newest is a CUDA build of several gigabytes.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(wildcard csrc/*/*)

.PHONY: demo test bench bench-baseline bench-compare growth lint format docs fresh oldest sdist wheel wheels
.PHONY: release-check clean

demo: $(VENV)/.installed
	$(BIN)/python -m pyfront demo $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto $(ARGS)

# Writes build/bench/table.md; BENCH_FULL=1 measures for hours, as for the tables of bench/README.md.
BENCH := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --benchmark-only

bench: $(VENV)/.bench
	@mkdir -p build/bench
	$(BENCH) bench --benchmark-json=build/bench/run.json $(ARGS)
	$(BIN)/python bench/results.py table build/bench/run.json | tee build/bench/table.md

# What is watched: ratios within a run, of ours and of what they are over. A baseline is measured on
# the same machine: `make bench-baseline` before a change, or AGAINST=REF, the last release or any
# other commit, which is built and measured here first. Fails where a ratio is worse beyond noise.
WATCHED := (pyfront or (ours and (1e6 or generic or hard)) or quadprog or (highspy_kept and dual)) \
  and not 2]
WATCH := bench/test_step.py bench/test_gramian.py bench/test_min_norm.py bench/test_epo.py \
  -k "$(WATCHED)"

bench-baseline: $(VENV)/.bench
	@mkdir -p build/bench
	BENCH_FULL=1 $(BENCH) $(WATCH) --benchmark-json=build/bench/baseline.json $(ARGS)

bench-compare: $(VENV)/.bench
	@mkdir -p build/bench
	$(if $(AGAINST),.ci/bench_baseline $(AGAINST) $(BIN) $(WATCH) $(ARGS))
	BENCH_FULL=1 $(BENCH) $(WATCH) --benchmark-json=build/bench/now.json $(ARGS)
	$(BIN)/python bench/results.py compare build/bench/baseline.json build/bench/now.json

growth: $(VENV)/.bench
	OMP_NUM_THREADS=1 $(BIN)/python bench/growth.py $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror csrc/*/* tests/*.cpp tests/emulated_cuda/* bench/soak/*.?pp
	$(BIN)/python .ci/typed_readme.py build/typed/readme.py
	$(BIN)/mypy
	$(BIN)/mypy build/typed/readme.py
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*/* tests/*.cpp tests/emulated_cuda/* bench/soak/*.?pp

# The site, in build/site; a warning is an error.
docs: $(VENV)/.docs
	MPLBACKEND=agg NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# TESTS=all runs all tests there, and not only those that meet other dependencies than torch.
fresh:
	PYTHON=$(PYTHON) TORCH="$(TORCH)" TESTS=$(TESTS) .ci/install newest

oldest:
	PYTHON=$(PYTHON) .ci/install oldest

# What a release uploads, in dist, from the last commit. KIND is cpu or cuda12.
KIND ?= cpu

sdist: $(VENV)/.release
	rm -rf build/sdist dist
	mkdir -p build/sdist dist
	git archive HEAD | tar -x -C build/sdist
	$(BIN)/python .ci/package_page.py build/sdist
	cd build/sdist && $(abspath $(BIN))/python -c \
	  "from scikit_build_core.build import build_sdist; build_sdist('$(abspath dist)')"
	$(BIN)/twine check --strict dist/*.tar.gz

# One wheel, for this machine alone: auditwheel says which glibc it needs.
wheel: sdist
	PYFRONT_WHEEL=$(KIND) $(BIN)/pip wheel --quiet --no-deps --wheel-dir dist dist/*.tar.gz
	$(BIN)/twine check --strict dist/*.whl
	[ "$$(uname)" != Linux ] || $(BIN)/auditwheel show dist/*.whl

# Wheels for every Python, in manylinux images on Linux, which needs docker or podman.
wheels: sdist
	PYFRONT_WHEEL=$(KIND) $(BIN)/cibuildwheel --output-dir dist dist/*.tar.gz

release-check:
	$(PYTHON) .ci/release_check.py $(TAG)

clean:
	rm -rf $(VENV) build dist

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

$(VENV)/.release: $(VENV)/.dependencies
	$(BIN)/pip install --quiet --group release
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --group docs
	@touch $@

# The standing checks of bench/reliability.md. `make soak-short` takes minutes, `make soak` hours.
.PHONY: sanitize sanitize-short soak soak-short fuzz

FUZZ_INPUTS ?= 7000000
FUZZ_RUNS ?= 3000000
EXACT_INPUTS ?= 1000000
RESUME_PAIRS ?= 348
STEPS ?= 1000000
KILLS ?= 500
CLANG ?= clang++
SOAK := OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python
FUZZ_SOURCES := bench/soak/fuzz_solvers.cpp $(wildcard csrc/solvers/*.cpp)
FUZZ_FLAGS := -std=c++20 -O2 -g -ffp-contract=off -Icsrc -Ibench/soak $(FUZZ_SOURCES) -ldl

sanitize: $(VENV)/.installed
	PYTHON=$(BIN)/python bench/soak/sanitize.sh "address thread" $(ARGS)

# One build, one test file of each part of the core.
sanitize-short: $(VENV)/.installed
	PYTHON=$(BIN)/python bench/soak/sanitize.sh address tests/backend/test_gramian.py \
	  tests/backend/test_min_norm.py tests/backend/test_dual_cone.py tests/backend/test_graph.py

soak-short:
	$(MAKE) soak FUZZ_INPUTS=100000 FUZZ_RUNS=0 EXACT_INPUTS=2000 RESUME_PAIRS=29 STEPS=5000 KILLS=3

soak: $(VENV)/.installed build/fuzz_random
	build/fuzz_random $(FUZZ_INPUTS)
	[ $(FUZZ_RUNS) = 0 ] || $(MAKE) fuzz
	$(SOAK) bench/soak/exact.py --inputs $(EXACT_INPUTS)
	$(SOAK) bench/soak/resume.py --pairs $(RESUME_PAIRS)
	$(SOAK) bench/soak/steps.py --steps $(STEPS)
	$(SOAK) bench/soak/kills.py --kills $(KILLS)

# Guided by coverage; needs clang, as CLANG=clang++-16
fuzz: $(FUZZ_SOURCES) $(wildcard bench/soak/*.hpp csrc/*/*.hpp)
	@mkdir -p build/corpus
	$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -o build/fuzz_guided
	build/fuzz_guided -runs=$(FUZZ_RUNS) -max_len=200 -print_final_stats=1 build/corpus

build/fuzz_random: $(FUZZ_SOURCES) $(wildcard bench/soak/*.hpp csrc/*/*.hpp)
	@mkdir -p build
	$(CXX) $(FUZZ_FLAGS) -DSOAK_RANDOM -o $@
