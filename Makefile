# Everything here sets itself up: `make demo` and `make test` work on a fresh machine with Python ≥ 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Without --no-compile, pip would compile every module of every package: a minute, mostly for what is never imported.
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest
# Tests that share a cluster or a large file share a group, and with it a worker.
PARALLEL := -n auto --dist loadgroup
# The tests of mathematics, which has to be the same without the native kernels.
TORCH_TESTS := cells network rules testing training test_feedback.py test_losses.py
# Bytecode is kept: else each worker, and each process that a test starts, compiles all of the source again.
unexport PYTHONDONTWRITEBYTECODE
FAST := not slow and not thorough and not browser and not attack

.PHONY: help demo docs test test-torch test-slow test-thorough test-browser test-attack lint format clean

help:
	@echo "make demo         install, train on an embedded data set, leave demo/report.html"
	@echo "make test         install, run the fast tests"
	@echo "make test-torch   the tests of mathematics without the native kernels"
	@echo "make test-slow    the statistical and end-to-end tests as well; MINUTES=5: as many as begin in so long"
	@echo "make test-thorough whole grids (a quarter of an hour)"
	@echo "make test-browser the tests of the report in a headless Chromium"
	@echo "make test-attack  files damaged, processes killed, disks filled by the thousand, with the figures"
	@echo "make lint         ruff, mypy, import-linter"
	@echo "make docs         the site of the docs, in build/docs"
	@echo "make format       let ruff format the code"
	@echo "make clean        remove the environment and what was built"

$(INSTALLED): pyproject.toml constraints.txt $(wildcard setup.py native/* native/*/*)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/timelocal demo --out demo

test: $(INSTALLED)
	$(PYTEST) $(PARALLEL) -m "$(FAST)"

test-torch: $(INSTALLED)
	TIMELOCAL_KERNELS=torch $(PYTEST) $(PARALLEL) -m "$(FAST)" $(addprefix tests/,$(TORCH_TESTS))

test-slow: $(INSTALLED)
	$(PYTEST) $(PARALLEL) $(if $(MINUTES),--minutes $(MINUTES)) -m "slow and not thorough and not attack"

test-thorough: $(INSTALLED)
	$(PYTEST) $(PARALLEL) -m thorough

test-browser: $(INSTALLED)
	$(PYTEST) -m browser tests/report

# TIMELOCAL_ATTACK=0.1 makes a tenth of the attacks, 10 ten times as many; RECORD=FILE writes the figures.
test-attack: $(INSTALLED)
	$(PYTEST) -m attack -s -q $(if $(RECORD),--record $(RECORD))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What the extra `docs` names, without building the package a second time.
DOCS_EXTRA := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -c '$(DOCS_EXTRA)' | xargs $(PIP)
	@touch $@

# Notebooks are executed; a warning is an error, and so is a link within the site that leads nowhere.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	$(BIN)/python tests/site_links.py build/docs

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist src/*.egg-info demo
