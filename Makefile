# make figures      set up, then everything from the embedded galaxies to a figure
# make paper        set up, then the stores, figures and PDF of the manuscript
# make check-paper  set up, then compare the manuscript with stores made here
# make test         set up, then every test
# make test-fast    set up, then the tests that are not marked slow or faults
# make test-faults  set up, then the whole campaign of faults (a quarter of an hour at most)
# make test-differential  set up, then random networks on every path (MINUTES=60)
# make bench        set up, then every benchmark (ten minutes of a quiet machine)
# make lint         ruff and mypy
# make notebook     set up, then run the notebooks of the documentation and keep what they show
# make docs         set up, then the documentation, in site/; a warning is an error

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet
MINUTES ?= 60
MANUSCRIPT ?= manuscripts/grad-cam-metallicity

.PHONY: figures paper check-paper test test-fast test-faults test-differential bench lint notebook docs clean

figures: $(VENV)/installed
	$(VENV)/bin/galfig build-maps
	$(VENV)/bin/galfig render --n 5 --zmin 0.05 --zmax 0.08 --overwrite

paper: $(VENV)/installed
	$(VENV)/bin/galfig manuscript build $(MANUSCRIPT) --pdf

check-paper: $(VENV)/installed
	$(VENV)/bin/galfig manuscript build $(MANUSCRIPT) --only-stores
	$(VENV)/bin/galfig manuscript check $(MANUSCRIPT)

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest

test-fast: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m "not slow and not faults"

test-faults: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m faults --campaign full

test-differential: $(VENV)/installed-test
	cd tests && ../$(VENV)/bin/python differential.py --minutes $(MINUTES)
	cd tests && ../$(VENV)/bin/python differential.py --minutes $(MINUTES) --timm

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m benchmarks

lint: $(VENV)/installed-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# In a folder of its own, since a notebook writes its store where it runs.
notebook: $(VENV)/installed-test
	$(VENV)/bin/python docs/notebooks/run.py

docs: $(VENV)/installed-docs
	$(VENV)/bin/mkdocs build --strict --clean

clean:
	rm -rf $(VENV) site

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "galfig needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[$*]'
	touch $@ $(VENV)/installed
