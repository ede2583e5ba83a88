PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PULUMI_ERROR_OUTPUT_STRING := 1

.DEFAULT_GOAL := help
.PHONY: help preview consortium down ledger test test-engine ledger-test ledger-bench ledger-soak lint bench soak docs lock clean

help: ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.txt requirements-dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not there; wanted Python 3.11, or PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV), once ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	@touch $@

preview: $(READY) ## What a sample bank would create (STACK=dev, or a file; default prod)
	@$(BIN)/python -m offline.plan $(STACK)

consortium: $(READY) ## Bring three banks up, without Azure
	@$(BIN)/python -m offline.consortium up

down: $(READY) ## Take the three banks apart again
	@$(BIN)/python -m offline.consortium down

ledger: $(READY) ## The five steps with real Corda nodes of three banks on this machine, a takeover among them
	@$(BIN)/python -m local.scenario

test: $(READY) ## All tests that need neither a Pulumi CLI nor a running ledger
	@$(BIN)/python -m pytest -m "not engine and not ledger"

ledger-test: $(READY) ## The tests with real Corda nodes; want a JDK, Maven, PostgreSQL, Node.js and HAProxy
	@$(BIN)/python -m pytest -m ledger -ra

ledger-soak: $(READY) ## An hour of faults with real Corda nodes: nothing lost, nothing doubled (SECONDS=3600, SEED=...)
	@$(BIN)/python -m local.soak $(SEED)

test-engine: $(READY) ## The tests on the real Pulumi engine; wants a CLI on PATH or in ~/.pulumi/bin
	@$(BIN)/python -m pytest -m engine -ra

lint: $(READY) ## Format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(READY) ## Where the time goes; prints ratios within one run
	@$(BIN)/python -m benchmarks.planning
	@$(BIN)/python -m benchmarks.deployment
	@$(BIN)/python -m benchmarks.agent

ledger-bench: $(READY) ## What real Corda nodes do on this machine, from three runs; half an hour of its own
	@$(BIN)/python -m benchmarks.ledger

soak: $(READY) ## 100,000 random histories of agents in virtual time; half an hour
	@HISTORIES=100000 $(BIN)/python -m pytest -s --show-capture=no tests/test_agent_simulated.py -k older

docs: $(READY) ## Write what is generated: README tables, Pulumi.yaml, schema, checklist, sample card
	@$(BIN)/python -m docs.generate

lock: $(READY) ## Write the locked requirements anew
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url requirements.in --output-file requirements.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url requirements-dev.in --output-file requirements-dev.txt
	@$(BIN)/python -m delivery.lock > delivery/requirements.new && mv delivery/requirements.new delivery/requirements.txt

clean: ## Remove what was set up and cached
	@rm -rf $(VENV) .offline .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
