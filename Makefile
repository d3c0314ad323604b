# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint check clean

demo: $(VENV)/default ## extract preferences from the example dialogues, and apply in a second session what a first one taught
	$(BIN)/penchant extract examples/dialogues.jsonl --format table
	$(BIN)/python examples/two_sessions.py

test: $(VENV)/dev ## run the tests
	$(BIN)/pytest

lint: $(VENV)/dev ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test ## everything that must hold before a commit

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/default: $(VENV)/pyvenv.cfg pyproject.toml
	@echo "setting up $(VENV): about 370 MB of packages"
	$(BIN)/pip install --quiet --editable .
	@touch $@

# torch is pinned so that a machine with a CPU build at hand takes that one
$(VENV)/dev: $(VENV)/pyvenv.cfg pyproject.toml
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev,train]'
	@touch $@ $(VENV)/default
