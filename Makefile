# The doors: `make serve` starts the service, `make test` proves it. Both work on a machine with nothing but Python.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: serve test check install format bench

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

# Ours and other servers, measured in turns: about half an hour on a machine that does nothing else.
bench: .venv/bench
	$(BIN)/python -m bench.run

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,train,dev]'
	touch $@

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@
