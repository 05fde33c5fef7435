# Four commands; each makes its own .venv and installs into it only when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench

demo: $(VENV)/installed-broker
	$(BIN)/soundranger-broker demo

test: lint
	$(BIN)/pytest -n 2 -m "not slow"
	$(BIN)/pytest -n 2 --dist loadfile -m slow tests/broker
	$(BIN)/pytest -m slow tests/node

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/installed-bench
	-$(BIN)/python -m pip install --quiet --no-deps "pyocto>=0.2"
	$(BIN)/python bench/run.py

# One marker an extra: `make demo` on a fresh machine installs no test tools.
$(VENV)/installed-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@echo "compiling the locator (once; about a minute)"
	$(BIN)/python -m soundranger_broker.warm
	touch $@
