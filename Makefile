# `make demo` and `make test` need Python 3.11 or newer and make, and set up the rest themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
FUZZ_SECONDS ?= 60
.PHONY: fuzz help demo test check lint format types coverage clean

help:
	@echo "make demo     24 jobs against the built-in emulator; the videos are in demo-out/"
	@echo "make test     the test suite"
	@echo "make check    what CI runs: lint, formatting, types, and the test suite with the layers"
	@echo "make coverage the test suite once more, with the branches it covers"
	@echo "make torture  kill a batch again and again for ten minutes; nothing may be lost"
	@echo "make bench    every benchmark beside its rivals; tables, JSON and plots, half an hour"
	@echo "make fuzz     a coverage-guided fuzzer on the parser of answers, for a minute"
	@echo "make format   format the code"
	@echo "make clean    remove what make has made"

# A Debian without python3-venv has no ensurepip: it is installed where that is possible.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one by PYTHON=..."; exit 1; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear $(VENV) || { apt-get update -q \
	  && apt-get install -qy python3-venv && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,emulator,dev]'
	@touch $@

demo: $(READY)
	$(BIN)/seedance demo --output demo-out

test: $(READY)
	$(BIN)/python -m pytest -n auto

check: $(READY) lint types test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/pyright

# Branches of the whole package, child processes included.
coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# The fuzzer has wheels for some Pythons only, so it is not among the other tools.
fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	$(BIN)/python fuzz/fuzz_protocol.py -max_total_time=$(FUZZ_SECONDS) -max_len=600

format: $(READY)
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

clean:
	rm -rf $(VENV) .fuzz demo-out .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# 10,000 submissions under random faults, the worker killed 200 times; about ten minutes.
.PHONY: torture
torture: $(READY)
	$(BIN)/python -m benchmarks.torture

# Each prints a table with its targets and writes benchmarks/results/<name>.json and .png; the
# tables of docs/performance.md are then replaced by these.
BENCHMARKS := imports polling throttle overhead flight peers download journal connections
.PHONY: bench
bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@for each in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$each || exit 1; echo; done
	$(BIN)/python -m benchmarks.document
