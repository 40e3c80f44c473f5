# The two commands for a fresh machine: `make demo` runs the main job, `make test` passes the tests. Both install first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := torch==2.13.0

.PHONY: demo test install clean

demo: install
	$(BIN)/workbench demo

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist worksteal

install: $(VENV)/installed

clean:
	rm -rf $(VENV)

$(VENV)/python: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older. Try: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@touch $@

# First and alone: what torch brings along (CUDA or not) is for the machine to say, not for the constraints.
$(VENV)/torch: $(VENV)/python
	$(PIP) install "$(TORCH)"
	@touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml constraints.txt
	$(PIP) install -e ".[engine,dev]" -c constraints.txt
	@touch $@
