# Every command of the project. CI calls `make test` and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SPARK  := $(VENV)/.spark
BEAM   := .venv-beam
PEERS  := .cache/peers

.PHONY: help install demo test check lint fix types bench bench-bigquery bench-client bench-workflow clean

help:            ## list the commands
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

install: $(STAMP) $(SPARK) $(BEAM)/.installed ## make .venv with the product and what its tests need

$(STAMP): pyproject.toml scripts/install.sh
	PYTHON="$(PYTHON)" sh scripts/install.sh $(VENV)
	@touch $@

$(SPARK): $(STAMP) scripts/install_spark.sh
	sh scripts/install_spark.sh $(VENV)
	@touch $@

$(BEAM)/.installed: pyproject.toml scripts/install_beam.sh
	PYTHON="$(PYTHON)" sh scripts/install_beam.sh $(BEAM)
	@touch $@

demo: $(STAMP)   ## the main job on real data; ONCE=1 ends by itself
	@$(BIN)/eventmill demo $(if $(ONCE),--once --json,)

test: $(STAMP) $(SPARK) $(BEAM)/.installed ## every test, lint and type check
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

bench-bigquery: $(STAMP) ## the BigQuery surface beside Google's own client; QUICK=1 as well
	$(BIN)/python -m benchmarks.bigquery $(if $(QUICK),--quick,)

bench-client: $(STAMP) $(PEERS)/.installed  ## sending beside other clients; QUICK=1 as well
	$(BIN)/python -m benchmarks.client $(if $(QUICK),--quick,)

bench-workflow: $(STAMP) $(BEAM)/.installed  ## workflows beside Beam and SQL by hand; QUICK=1 as well
	$(BIN)/python -m benchmarks.workflow $(if $(QUICK),--quick,)

$(PEERS)/.installed: benchmarks/client/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

clean:           ## remove everything that a command here made
	rm -rf $(VENV) $(BEAM) .cache build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
