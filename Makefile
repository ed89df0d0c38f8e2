# `make demo` and `make test` need Python 3.10 or later and nothing else.
PYTHON ?= python3
OUT = runs/demo
# Further arguments, e.g. `make demo ARGS='--epochs 1'`.
ARGS =
# The whole suite has to cover the package, a selection of it need not. What
# only sets how much pytest reports selects nothing.
COV = $(if $(filter-out -r% -q% -v%,$(ARGS)),,--cov-fail-under=95)

VENV := .venv
BIN := $(VENV)/bin/python
INSTALL := $(BIN) -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt --editable

.PHONY: demo test lint docs clean

demo: $(VENV)/.demo
	$(BIN) examples/amazon_baby.py --dataset demo --out '$(OUT)' $(ARGS)

test: lint
	$(BIN) -m pytest --cov=pyg_sea --cov-report=term-missing \
		$(COV) $(ARGS)

lint: $(VENV)/.full
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy

docs: $(VENV)/.full
	$(BIN) -m sphinx -W --keep-going -E -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) build dist pyg_sea.egg-info docs/_build \
		.coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The stamps tell what is installed; `full` holds all that `demo` holds.
$(VENV)/.demo: setup.cfg pyproject.toml constraints.txt | $(BIN)
	$(INSTALL) '.[demo]'
	@touch $@

$(VENV)/.full: setup.cfg pyproject.toml constraints.txt | $(BIN)
	$(INSTALL) '.[full]'
	@touch $@ $(VENV)/.demo

$(BIN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"Python 3.10 or later is needed: make PYTHON=<python3.x>")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
