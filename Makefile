# make figures      set up, then everything from the embedded galaxies to a figure
# make paper        set up, then the stores, figures and PDF of the manuscript
# make check-paper  set up, then compare the manuscript with stores made here
# make test         set up, then every test
# make test-faults  set up, then the whole campaign of faults (a quarter of an hour at most)
# make bench        set up, then every benchmark (ten minutes of a quiet machine)
# make lint         ruff and mypy

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet
MANUSCRIPT ?= manuscripts/grad-cam-metallicity

.PHONY: figures paper check-paper test test-faults bench lint clean

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

test-faults: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m faults --campaign full

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m benchmarks

lint: $(VENV)/installed-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV)

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
