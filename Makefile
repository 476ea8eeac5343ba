# make quickstart   search, train, evaluate and export on the embedded images (minutes on 2 cores)
# make test         lint, then the test suite
# make lint         ruff: rules and format
# make docs         the pages of docs/, into docs/_build/html; a warning is an error
# make venv         only .venv, with fpnas and its development tools
#
# Every target creates or refreshes .venv itself. PYTHON chooses the interpreter it is made from.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
DOCS_STAMP := .venv/installed-docs

# Arguments for pytest, such as PYTEST_ARGS="tests/search -k budget".
PYTEST_ARGS ?=

# Arguments for Sphinx, such as DOCS_ARGS="-j 2".
DOCS_ARGS ?=

.PHONY: quickstart test lint docs venv

quickstart: $(STAMP)
	$(BIN)/fpnas quickstart

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(DOCS_STAMP)
	$(BIN)/python -m sphinx --fail-on-warning --builder html $(DOCS_ARGS) docs docs/_build/html

venv: $(STAMP)

$(STAMP): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[docs]"
	touch $@
