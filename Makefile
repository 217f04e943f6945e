# `make serve` starts the service, `make test` proves it. Both work on a machine with nothing but Python.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

.PHONY: serve test test-ci test-all test-alone test-ray check install format contract audit fuzz soak bench

serve: .venv/serving
	$(BIN)/manet-serve

# Tests share the processors: a thread of PyTorch's that waits for another must not keep one busy, which made 76 seconds
# of 24.
export OMP_WAIT_POLICY := PASSIVE

# The promises, in eight minutes on two cores.
test: check
	$(PROMISES)
	$(OPERATIONS)

# Each of two processes has whole files, whose tests share what is dear.
PROMISES = $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --ignore=tests/ray --ignore=$(EXAMINED)

# In a process of its own: Schemathesis gives all operations of the contract one name, of which pytest-xdist runs one.
EXAMINED := tests/service/openapi/test_document_examined.py
OPERATIONS = $(BIN)/python -m pytest $(EXAMINED)

# The rest, too; CI leaves out what is marked `long`, for it has 25 minutes, the installation included.
#
# What leaves one of two processors idle runs side by side. Files stay in their order, for the two that take minutes
# would else run last, one beside nothing.
test-all: export LENGTHS := long or not long
test-ci: export LENGTHS := not long
test-all test-ci: install
	$(MAKE) --jobs 2 --output-sync=target test-ray test-alone
	$(PROMISES)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'slow and ($(LENGTHS))' --ignore=tests/ray bench/tests tests

test-alone: check
	$(OPERATIONS)

# In a process of its own: in one that had run half of the tests before, Ray's driver hung in its first call to its
# server, and no part of that half alone did it.
test-ray: install
	$(BIN)/python -m pytest -m '$(LENGTHS)' tests/ray

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Asks an advisory service on the network about every installed package; not part of `make test`.
audit: install
	$(BIN)/pip-audit --local --skip-editable --strict

# Mixed load, good and bad, for MINUTES (20); writes bench/results/soak.json. With FRONT_ENDS=2, one of the processes is
# killed every 20 seconds, and the result is soak_front_ends.json.
soak: install
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),20) \
		$(if $(FRONT_ENDS),--front-ends $(FRONT_ENDS) --kill-every 20 --out bench/results/soak_front_ends.json,--out bench/results/soak.json)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What the service promises its clients, written down; a change of it is seen in review.
contract: install
	$(BIN)/python -m tests.service.openapi.snapshot

# Hostile bytes against the decoders and the form's parser, for MINUTES (10); findings and the grown corpus are kept in runs/fuzz.
fuzz: install
	$(PIP) --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run --minutes $(or $(MINUTES),10) --folder runs/fuzz --out bench/results/fuzz.json

# Ours and other servers, measured in turns: about half an hour on a machine that does nothing else.
bench: .venv/bench
	$(BIN)/python -m bench.run

install: .venv/installed

.venv/serving: pyproject.toml constraints.txt
	@echo "Installing into .venv what serving needs, about 330 MB"
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv what training and the tests need, too: PyTorch, Ray and tools, about 7 GB"
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable '.[otel,ray,train,dev]'
	@touch .venv/serving $@

.venv/bench: .venv/installed
	$(PIP) --editable '.[bench]'
	touch $@
