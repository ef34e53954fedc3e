# Every way to run this project. `make help` lists them. Nothing has to be installed first but python3 with its venv
# module, make and git: the first target that needs the environment builds it.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVERS := $(VENV)/.servers
UV_VERSION := 0.13.9
UV := $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help check test demo bench bench-growth docs lock clean lint mypy pyright imports

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# uv installs everything in seconds; where it cannot, pip does the same from the same pins. The system's certificates
# are the ones that git has just trusted, so a company's own authority is among them.
$(READY): requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "retrysafe needs Python 3.11 or later: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "the venv module is missing: install python3-venv"; exit 1; }
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) \
		&& UV_LINK_MODE=copy $(UV) pip install --quiet --system-certs --python $(BIN)/python -r requirements/dev.txt -e . ; \
	then :; \
	else echo "uv did not manage; trying pip" && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt -e . ; \
	fi
	@touch $@

# Databases and most brokers came with the environment, as wheels. What has no wheel is Debian's, unpacked into the
# environment without root; where that cannot be had, a line says so, the tests that need it are skipped, and the next
# run tries again.
$(SERVERS): tests/services/debian.py | $(READY)
	@if $(BIN)/python -m tests.services.debian; then touch $@; fi

check: $(READY)  ## style, types and import rules, under a minute
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going pyright mypy imports

# Two at once, as most tests wait for processes; a file stays together, and so do the servers that it starts.
test: $(READY) $(SERVERS)  ## every test; ARGS="-k lease" narrows it, ARGS="-n 0" runs one after another
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(ARGS)

demo: $(READY)  ## kill -9 a shop again and again; ARGS="--help" for options
	@$(BIN)/retrysafe demo $(ARGS)

bench: $(READY) $(SERVERS)  ## measure on this machine; ARGS="--quick" for a look
	@$(BIN)/python -m bench $(ARGS)

bench-growth: $(READY) $(SERVERS)  ## the same for tables of up to ten million rows; ARGS="--rows 1000000"
	@$(BIN)/python -m bench --only growth $(ARGS)

docs: $(READY)  ## build the pages into site/; a warning is an error
	$(BIN)/zensical build --clean --strict

lock: $(READY)  ## pin what pyproject.toml asks for, for every supported Python
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --all-extras --group dev pyproject.toml --output-file requirements/dev.txt

clean:  ## remove what the targets made, the environment too
	rm -rf $(VENV) site dist .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy: $(READY)
	$(BIN)/mypy

pyright: $(READY)
	$(BIN)/pyright --warnings

imports: $(READY)
	$(BIN)/lint-imports --no-logo
