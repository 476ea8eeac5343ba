# make quickstart   search, train, evaluate and export on the embedded images (minutes on 2 cores)
# make test         lint, then the test suite
# make lint         ruff: rules and format
# make venv         only .venv, with fpnas and its development tools
#
# Every target creates or refreshes .venv itself. PYTHON chooses the interpreter it is made from.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

# Arguments for pytest, such as PYTEST_ARGS="tests/search -k budget".
PYTEST_ARGS ?=

.PHONY: quickstart test lint venv

quickstart: $(STAMP)
	$(BIN)/fpnas quickstart

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

venv: $(STAMP)

$(STAMP): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@
