# diptych: the commands a newcomer and a maintainer need. Everything goes into .venv; nothing else is touched.
#
#   make demo            reconstruct a measured Siemens star, with a picture
#   make test            style, types and tests
#   make coverage        the same tests with their coverage, which makes them half as long again
#   make integration     tests that start several processes, a browser or long reconstructions
#   make studies         every study at its quick size
#   make other-programs  our files opened by cdtools, Ptychodus and py4DSTEM, each in an environment of its own
#
# Another Python: make demo PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Two workers share the machine; one thread each is faster than letting both spin.
TEST_ENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg

.DEFAULT_GOAL := help
.PHONY: help venv install demo studio test coverage integration slow other-programs studies docs bench lint format clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Stamps: an environment is renewed only when what it is made from has changed.
$(VENV)/made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "diptych needs Python 3.11 or newer; pass PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/core: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/test: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[test]'
	@touch $(VENV)/core $@

$(VENV)/studio: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[studio]'
	@touch $(VENV)/core $@

$(VENV)/docs: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $(VENV)/core $@

venv: $(VENV)/made  ## Make an empty .venv.

install: $(VENV)/core  ## Install diptych into .venv.

demo: $(VENV)/core  ## Fetch a measured scan, reconstruct it, write demo/.
	$(BIN)/diptych demo

studio: $(VENV)/studio  ## Open the browser app over this folder (DATA=FOLDER: over another).
	$(BIN)/diptych studio $(if $(DATA),--data $(DATA))

lint: $(VENV)/test  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## Style, types, tests.
	$(TEST_ENV) $(BIN)/pytest -n 2

coverage: $(VENV)/test  ## The tests of `make test` with their coverage, which must be above 90 %.
	$(TEST_ENV) $(BIN)/pytest -n 2 --cov --cov-report=term --cov-fail-under=90

integration: $(VENV)/test  ## Tests that start several processes, a browser or long reconstructions; no coverage.
	$(TEST_ENV) $(BIN)/pytest -m integration

slow: $(VENV)/test  ## Tests that take minutes.
	$(TEST_ENV) $(BIN)/pytest -m slow

other-programs: $(VENV)/core  ## Open our files with the programs they are for, each in an environment of its own (pip).
	OMP_NUM_THREADS=1 $(BIN)/python tests/ptycho/io/other_programs/run.py $(ARGS)

studies: $(VENV)/test  ## Every study at its quick size, into studies/: that they work, no evidence.
	for name in dose-response grid-lines overlap generalisation shootout frontier; do \
		MPLBACKEND=Agg $(BIN)/diptych study $$name --quick --scheduler processes || exit 1; \
	done

format: $(VENV)/test  ## Put the code into its standard form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs  ## Build the documentation into site/.
	$(BIN)/mkdocs build --strict

bench: $(VENV)/core  ## Compare the engines with bare FFTs, and with peers that are installed.
	$(BIN)/python benchmarks/engines.py $(ARGS)

clean:  ## Remove .venv and everything that tools leave behind.
	rm -rf $(VENV) .other-programs build dist site htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
