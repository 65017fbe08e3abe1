# make figures      set up, then everything from the embedded galaxies to a figure
# make paper        set up, then the stores, figures and PDF of the manuscript
# make check-paper  set up, then compare the manuscript with stores made here
# make test         set up, then every test that is not marked long (PROCESSES=2 at a time)
# make test-fast    set up, then the tests that are not marked slow or faults
# make test-long    set up, then the tests that are marked long, which train many networks
# make test-faults  set up, then the whole campaign of faults (about twenty minutes)
# make test-differential  set up, then random networks on every path (MINUTES=60)
# make bench        set up, then every benchmark (ten minutes of a quiet machine)
# make bench-gpu    set up, then the tests and the benchmarks of a GPU (under eight minutes)
# make lint         ruff and mypy
# make notebook     set up, then run the notebooks of the documentation and keep what they show
# make test-lowest  the fast tests with the oldest packages that pyproject.toml allows, in .venv-lowest
# make requirements write requirements/*.txt anew: exact versions, each with its hashes (needs uv)
# make docs         set up, then the documentation, in site/; a warning is an error

PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet
MINUTES ?= 60
# Processes that run tests side by side; each takes 1 to 2 GB.
PROCESSES ?= 2
# Threads of several processes would wait for each other in turn.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses $(PROCESSES)
MANUSCRIPT ?= manuscripts/grad-cam-metallicity

# LOCKED=1 installs the exact versions of requirements/ci.txt and checks their hashes, as CI does.
LOCKED ?=

.PHONY: figures paper check-paper test test-fast test-long test-lowest test-faults test-differential bench \
  bench-gpu lint notebook docs requirements clean

figures: $(VENV)/installed
	$(VENV)/bin/galfig build-maps
	$(VENV)/bin/galfig render --n 5 --zmin 0.05 --zmax 0.08 --overwrite

paper: $(VENV)/installed
	$(VENV)/bin/galfig manuscript build $(MANUSCRIPT) --pdf

check-paper: $(VENV)/installed
	$(VENV)/bin/galfig manuscript build $(MANUSCRIPT) --only-stores
	$(VENV)/bin/galfig manuscript check $(MANUSCRIPT)

test: $(VENV)/installed-test
	$(PYTEST) -m "not long"

test-fast: $(VENV)/installed-test
	$(PYTEST) -m "not slow and not faults and not long"

test-long: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m long

test-faults: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m faults --campaign full

# Old packages meet newer ones that they do not know, and warn of it.
test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -m "not slow and not faults and not long" \
	  -W ignore::DeprecationWarning -W ignore::FutureWarning

test-differential: $(VENV)/installed-test
	cd tests && ../$(VENV)/bin/python differential.py --minutes $(MINUTES)
	cd tests && ../$(VENV)/bin/python differential.py --minutes $(MINUTES) --timm

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m benchmarks

# Without a GPU it ends at once.
bench-gpu: $(VENV)/installed-test $(VENV)/installed-bench
	$(VENV)/bin/python -m benchmarks.gpu --only-check
	$(VENV)/bin/python -m pytest -m gpu
	$(VENV)/bin/python -m benchmarks.gpu

lint: $(VENV)/installed-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# In a folder of its own, since a notebook writes its store where it runs.
notebook: $(VENV)/installed-test
	$(VENV)/bin/python docs/notebooks/run.py

docs: $(VENV)/installed-docs
	$(VENV)/bin/mkdocs build --strict --clean

requirements:
	uv pip compile pyproject.toml requirements/build.in --constraint requirements/constraints.in \
	  --extra test --extra lint --extra docs --universal --python-version 3.11 \
	  --generate-hashes --quiet --custom-compile-command "make requirements" \
	  --output-file requirements/ci.txt
	uv pip compile pyproject.toml requirements/build.in --extra test --resolution lowest-direct \
	  --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	  --generate-hashes --quiet --custom-compile-command "make requirements" \
	  --output-file requirements/lowest.txt
	uv pip compile requirements/tools.in --universal --python-version 3.11 \
	  --generate-hashes --quiet --custom-compile-command "make requirements" \
	  --output-file requirements/tools.txt

clean:
	rm -rf $(VENV) $(LOWEST) site

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "galfig needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

ifeq ($(LOCKED),)
$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[$*]'
	touch $@ $(VENV)/installed
else
$(VENV)/installed $(VENV)/installed-%: requirements/ci.txt | $(VENV)/bin/python
	$(PIP) --require-hashes --requirement requirements/ci.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/installed
endif

$(LOWEST)/installed: requirements/lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet \
	  --require-hashes --requirement requirements/lowest.txt
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet \
	  --no-deps --no-build-isolation --editable .
	touch $@
