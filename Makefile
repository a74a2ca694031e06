# make demo [ARGS=--once]   see it work, on this machine alone: registries, an image, the daemon
# make test [ARGS=...]      everything that is checked: style, types, walls, tests
# make bench [ARGS=...]     measure copies beside crane, regsync and skopeo, and the front beside other caches; ARGS="--runs 1" is quicker
#
# Needs Python 3.11 or newer with venv; everything else goes into .venv. PYTHON=/path/to/python3 chooses another one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := test

demo: $(VENV)/.runtime
	@exec $(BIN)/mirrord demo $(ARGS)

# tests/test_house.py runs what `make lint` runs, so that one summary tells everything.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -ra -n auto --durations=40 --durations-min=8 $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

bench: $(VENV)/.dev
	for one in fanout small slow front; do $(BIN)/python -m bench.$$one $(ARGS) || exit; done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps are younger than what they were made from, so that nothing is installed twice.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.runtime $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is missing or older than Python 3.11; name a newer one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
