# Everything sets itself up: `make demo` and `make test` work in a clean clone on a machine with only Python and make.
# The processor's own torch: make PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" demo

PYTHON   ?= python3
PIP_ARGS ?=
VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
PIP      := $(BIN)/python -m pip --disable-pip-version-check install -qq $(PIP_ARGS) -c constraints.txt
WORKERS  ?= 2

.PHONY: help setup demo test test-all lint results docs site clean

help:
	@echo "make demo      a tour of a few minutes: teacher, baseline, student, report.html"
	@echo "make test      lint and the fast tests"
	@echo "make test-all  lint and every test"
	@echo "make results   write docs/results.md and the README's tables again, from the files in results/"
	@echo "make docs      write docs/recipe.md again"
	@echo "make site      the documentation as a site, in build/site"

setup: $(READY)

# torch first: the largest piece, at exactly the tested version.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes)" >&2
	@$(PYTHON) -c 'import sys; sys.exit("understudy needs Python 3.11 or newer; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@$(PIP) -e '.[dev,demo]'
	@touch $@

demo: $(READY)
	$(BIN)/understudy demo --out runs/demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright

test: lint
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow"

test-all: lint
	$(BIN)/python -m pytest -q -n $(WORKERS)

results: $(READY)
	$(BIN)/python benchmarks/results.py

docs: $(READY)
	$(BIN)/python -m understudy.recipe.reference > docs/recipe.md

site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
