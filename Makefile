# make demo    the whole product on embedded street scenes: runs/demo/report/report.html
# make test    all tests but the slow ones
# make test-slow    the slow ones, such as runs that are killed and resumed, or made on clusters
# make lint    style, types, and who imports whom
# make bench   speed and memory on this machine: tables, ratios within one run
# make docs    the documentation with an API reference, all links checked: site/index.html
# make wheel   a wheel in dist/, installed into a fresh environment and imported there
# make clean   remove what these made, except runs/

PYTHON ?= python3
VENV ?= .venv
TEST_PROCESSES ?= 2
BIN = $(VENV)/bin
# Modules are compiled when they are first imported; compiling all of torch beforehand takes longer than the rest.
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
INSTALL = $(BIN)/python $(PIP_INSTALL)

.PHONY: demo test test-slow lint bench docs wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python -m scenepalette.flows.local augment demo --out runs/demo

# One thread a process, since two of them share two cores; a file's tests stay together, with what they share.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile

test: $(VENV)/.installed-test
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.inference --sizes 96x128 128x256
	$(BIN)/python -m benchmarks.trainings
	$(BIN)/python -m benchmarks.segmenters
	$(BIN)/python -m benchmarks.read_shards
	$(BIN)/python -m benchmarks.runners
	$(BIN)/python -m benchmarks.clusters
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.generate_memory

# The notice that is switched off recommends other programs.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Elsewhere than in the checkout, whose folders would be imported in place of the installed ones.
wheel: $(BIN)/python
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(BIN)/python -m venv build/wheel
	build/wheel/bin/python $(PIP_INSTALL) dist/*.whl
	cd build/wheel && bin/python -c 'import scenepalette; from scenepalette import *; print(scenepalette.__file__)'
	cd build/wheel && bin/scenepalette recipes

clean:
	rm -rf $(VENV) build dist site *.egg-info src/*.egg-info .pytest_cache .ruff_cache .import_linter_cache

# Stamp files, so that nothing is installed twice; a change of what is needed installs again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("scenepalette needs Python 3.11 or newer, and $(PYTHON) is " \
	  + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

INSTALLED_FROM = pyproject.toml constraints.txt src/scenepalette/__init__.py

$(VENV)/.installed: $(INSTALLED_FROM) | $(BIN)/python
	@echo "Installing into $(VENV); torch is large, so that this takes some minutes the first time."
	$(INSTALL) -e .
	@touch $@

# With all that the package itself needs, in one go.
$(VENV)/.installed-test $(VENV)/.installed-dev $(VENV)/.installed-docs: $(VENV)/.installed-%: $(INSTALLED_FROM) | $(BIN)/python
	@echo "Installing into $(VENV); torch is large, so that this takes some minutes the first time."
	$(INSTALL) -e '.[$*]'
	@touch $(VENV)/.installed $@
