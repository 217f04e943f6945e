# The doors: `make serve` starts the service, `make test` proves it. Both work on a machine with nothing but Python.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: serve test check install format

serve: install
	$(BIN)/manet-serve

test: check
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,ray,train,dev]'
	touch $@
