# `make demo` and `make test` need Python 3.11 or newer and make, and set up the rest themselves.
PYTHON ?= python3

# The environment of `python3` is .venv; that of another version has its version in its name.
version_of = $(shell $(1) -c 'import platform, sys; print(platform.python_version() + sys.abiflags)' 2>/dev/null)
VERSION := $(call version_of,$(PYTHON))
VENV := $(if $(filter $(VERSION),$(call version_of,python3)),.venv,.venv-$(VERSION))
BIN := $(VENV)/bin
# The version is in the marker's name too, so that an environment made by another Python is noticed.
READY := $(VENV)/.ready-$(VERSION)

.DEFAULT_GOAL := help
FUZZ_SECONDS ?= 60
# What `make test` runs: all tests, or those named here.
TESTS ?=
# Many tests wait for processes of their own: two for each core keep it busy.
TESTERS ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
.PHONY: fuzz help demo test test-all check lint format types coverage package clean

help:
	@echo "make demo     24 jobs against the built-in emulator; the videos are in demo-out/"
	@echo "make test     the test suite; PYTHON=python3.13 runs it on another Python"
	@echo "make test-all the test suite on every Python from 3.11 on that is on this machine"
	@echo "make check    what CI runs: lint, formatting, types, and the test suite with the layers"
	@echo "make coverage the test suite once more, with the branches it covers"
	@echo "make package  build the sdist and the wheel, and try both in empty environments"
	@echo "make torture  kill a batch again and again for ten minutes; nothing may be lost"
	@echo "make torture-fleet  kill, stop and cut off many workers of one run; PostgreSQL is restarted"
	@echo "make universes  100,000 random programs in simulated universes; SEEDS and FIRST choose others"
	@echo "make universes-mutants  take out each safeguard: some universe must notice"
	@echo "make bench    every benchmark beside its rivals; tables, JSON and plots, half an hour"
	@echo "make fuzz     a coverage-guided fuzzer on the parser of answers, for a minute"
	@echo "make format   format the code"
	@echo "make clean    remove what make has made"

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEBIAN_VENV := python$(basename $(VERSION))-venv

# A Debian without python3-venv has no ensurepip: it is installed where that is possible.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with PYTHON=..."; exit 1; }
	@[ ! -e $(VENV) ] || [ "$(VERSION)" = "$(call version_of,$(BIN)/python)" ] || \
	  { echo "$(VENV) was made by another Python than $(VERSION): it is made again"; rm -rf $(VENV); }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear $(VENV) || { apt-get update -q \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -qy $(DEBIAN_VENV) \
	  && $(PYTHON) -m venv --clear $(VENV); }
	@echo "Python $(VERSION) in $(VENV)"
	$(PIP) -e '.[cli,emulator,media,dev]'
	$(PIP) --no-deps 'axe-playwright-python>=0.1.8' # for axe-core in it: Playwright is not used
	@touch $@

# The gallery is tested in a real Chromium, which is installed where that is possible.
.PHONY: browser
browser:
	@{ command -v chromium || command -v google-chrome; } >/dev/null && command -v chromedriver \
	  >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy \
	  --no-install-recommends chromium chromium-driver; } || \
	  echo "Chromium and chromedriver are missing: the tests of the gallery will fail"

# The journal in Postgres is tested on a real server, which the tests start themselves.
.PHONY: postgres
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy \
	  --no-install-recommends postgresql; } || \
	  echo "PostgreSQL is missing: the tests of the journal in Postgres do not run"

demo: $(READY)
	$(BIN)/seedance demo --output demo-out

test: $(READY) browser postgres
	$(BIN)/python -m pytest -n $(TESTERS) $(TESTS)

# The summary comes last, whatever failed before it.
test-all:
	@pythons=$$($(PYTHON) .ci/pythons.py) && [ -n "$$pythons" ] || \
	  { echo "no Python from 3.11 on was found"; exit 1; }; \
	ran=; failed=0; \
	for python in $$pythons; do \
	  if $(MAKE) test PYTHON=$$python; then result=passed; else result=FAILED; failed=1; fi; \
	  ran="$$ran\n$$result  $$python"; \
	done; \
	printf "\nmake test, by Python:$$ran\n"; exit $$failed

check: $(READY) lint types test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# Branches of the whole package, child processes included.
coverage: $(READY) browser postgres
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(TESTERS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# The fuzzer has wheels for some Pythons only, so it is not among the other tools.
fuzz: $(READY)
	$(PIP) atheris
	$(BIN)/python fuzz/fuzz_protocol.py -max_total_time=$(FUZZ_SECONDS) -max_len=600

# Builds into dist/ and tries what it built elsewhere; TESTS names the tests run from the sdist.
package: $(READY)
	$(PIP) build twine
	BIN=$(BIN) .ci/package $(TESTS)

format: $(READY)
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* dist .fuzz demo-out .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# 10,000 submissions under random faults, the worker killed 200 times; about ten minutes.
.PHONY: torture torture-bucket torture-film torture-fleet
torture: $(READY)
	$(BIN)/python -m benchmarks.torture

# The same for `seedance batch` into a bucket, on an S3 server of its own; about five minutes.
torture-bucket: $(READY)
	$(BIN)/python -m benchmarks.torture --bucket

# A film of twelve shots, each from the end of the one before, killed at every step of every shot.
torture-film: $(READY)
	$(BIN)/python -m benchmarks.torture.film

# Four workers on 5,000 tasks, killed 60 times, stopped 10 times, cut off from PostgreSQL 5 times;
# that is restarted 5 times.
torture-fleet: $(READY) postgres
	$(BIN)/python -m benchmarks.torture.fleet --apart

# Random programs over the public API on virtual time, with a server, a disk and kills of their own.
SEEDS ?= 100000
FIRST ?= 0
.PHONY: universes universes-mutants
universes: $(READY)
	$(BIN)/python -m tests.universes --first $(FIRST) --seeds $(SEEDS)

universes-mutants: $(READY)
	$(BIN)/python -m tests.universes --mutants --first $(FIRST)

# Each prints a table with its targets and writes benchmarks/results/<name>.json and .png; the
# tables of docs/performance.md are then replaced by these.
BENCHMARKS := imports polling waiting throttle overhead flight peers download store gallery journal connections fleet
.PHONY: bench
bench: $(READY) postgres
	$(PIP) -e '.[bench]'
	@for each in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$each || exit 1; echo; done
	$(BIN)/python -m benchmarks.document
