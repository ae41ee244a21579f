# make repro · make test · make bench · make ui       (PYTHON=python3.11 chooses the interpreter)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: repro data test test-slow test-llm lint types docs bench bench-stats ui starter clean

repro: data
	dvc repro
	@mondegreen summary

data: $(VENV)/.installed
	python scripts/get_sample.py

# Four workers for two cores: a quarter of the time is waiting for servers, locks and processes that are killed.
test: data
	python -m pytest -n 4 --dist loadgroup -m "not slow and not llm"

test-slow: data
	python -m pytest -m slow

# Needs an Ollama server (OLLAMA_HOST) with the model that MONDEGREEN_TEST_LLM names.
test-llm: $(VENV)/.installed
	python -m pytest -m llm

lint: $(VENV)/.installed
	ruff check .
	ruff format --check .

types: $(VENV)/.installed
	mypy
	mypy scripts experiments benchmarks

# The pages as a site, in build/site; a link that leads nowhere, or a page that no menu names, fails it.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo build/site/index.html

bench: data
	python -m benchmarks

bench-stats: $(VENV)/.installed
	python -m benchmarks --only statistics

ui: $(VENV)/.installed
	mondegreen ui

starter: $(VENV)/.installed
	starter/train.sh

# Pinned versions, so that a fresh machine gets what the tests ran with.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

# What can be made again. The cases (var/mondegreen.db, var/blobs) and the registry (mlruns) cannot.
clean:
	rm -rf build var/benchmarks var/checkpoints var/features var/hypotheses
