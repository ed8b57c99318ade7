# Every command of the project. CI calls `make test` and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install demo test check lint fix types bench clean

help:            ## list the commands
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

install: $(STAMP) ## make .venv with the product and what its tests need

$(STAMP): pyproject.toml scripts/install.sh
	PYTHON="$(PYTHON)" sh scripts/install.sh $(VENV)
	@touch $@

demo: $(STAMP)   ## the main job on real data; ONCE=1 ends by itself
	@$(BIN)/eventmill demo $(if $(ONCE),--once --json,)

test: $(STAMP)   ## every test, lint and type check
	$(BIN)/python scripts/run_tests.py all

check: $(STAMP)  ## the fast part: lint, types, unit tests (under two minutes)
	$(BIN)/python scripts/run_tests.py fast

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

fix: $(STAMP)    ## mend what lint can mend
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)  ## ratios against the machine's limits; QUICK=1 runs in under a minute
	$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick,)

clean:           ## remove everything that a command here made
	rm -rf $(VENV) .cache build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
