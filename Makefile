# Everything here sets itself up: `make demo` and `make test` work on a fresh machine with Python ≥ 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-slow test-thorough test-browser test-attack lint format clean

help:
	@echo "make demo         install, train on an embedded data set, leave demo/report.html"
	@echo "make test         install, run the fast tests"
	@echo "make test-slow    the statistical and end-to-end tests as well"
	@echo "make test-thorough whole grids (a quarter of an hour)"
	@echo "make test-browser the tests of the report in a headless Chromium"
	@echo "make test-attack  files damaged, processes killed, disks filled by the thousand, with the figures"
	@echo "make lint         ruff, mypy, import-linter"
	@echo "make format       let ruff format the code"
	@echo "make clean        remove the environment and what was built"

$(INSTALLED): pyproject.toml constraints.txt $(wildcard setup.py native/* native/*/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/timelocal demo --out demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow and not thorough and not browser and not attack"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "slow and not thorough and not attack"

test-thorough: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m thorough

test-browser: $(INSTALLED)
	$(BIN)/python -m pytest -m browser tests/report

# TIMELOCAL_ATTACK=0.1 makes a tenth of the attacks, 10 ten times as many.
test-attack: $(INSTALLED)
	$(BIN)/python -m pytest -m attack -s -q

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist src/*.egg-info demo
