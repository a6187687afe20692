# make demo    the whole product on embedded street scenes: runs/demo/report/report.html
# make test    all tests
# make lint    style, types, and who imports whom
# make bench   speed and memory on this machine: tables, ratios within one run
# make clean   remove what these made, except runs/

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Modules are compiled when they are first imported; compiling all of torch beforehand takes longer than the rest.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: demo test lint bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python -m scenepalette.flows.local augment demo --out runs/demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.inference --sizes 96x128 128x256
	$(BIN)/python -m benchmarks.trainings
	$(BIN)/python -m benchmarks.read_shards
	$(BIN)/python -m benchmarks.runners
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.generate_memory

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info .pytest_cache .ruff_cache .import_linter_cache

# Stamp files, so that nothing is installed twice; a change of what is needed installs again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("scenepalette needs Python 3.11 or newer, and $(PYTHON) is " \
	  + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt src/scenepalette/__init__.py | $(BIN)/python
	@echo "Installing into $(VENV); torch is large, so that this takes some minutes the first time."
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test $(VENV)/.installed-dev: $(VENV)/.installed-%: $(VENV)/.installed
	$(INSTALL) -e '.[$*]'
	@touch $@
