PYTHONS := python3.11 python3.12 python3.13 python3.14
# The first that runs: pyenv has a shim on PATH for a Python that it has not chosen.
PYTHON ?= $(firstword $(foreach each,$(PYTHONS),$(shell $(each) -c '' 2>/dev/null && echo $(each))))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests of one file share what they start: they stay in one process.
PARALLEL := --numprocesses 2 --dist loadfile
export PULUMI_ERROR_OUTPUT_STRING := 1
# Without its bytecode azure-native is compiled again by every process.
export PYTHONDONTWRITEBYTECODE :=

# A variable that a command does not read would be ignored, as REGION=... by `make preview`.
VARIABLES := STACK REGION USAGE FORMAT AGAINST OUT RECORD LINKS LATENCY
others = $(strip $(foreach each,$(filter-out $(1),$(VARIABLES)),$(if $(filter command,$(origin $(each))),$(each))))
takes = @$(if $(call others,$(1)),echo "error: $(call others,$(1)): make $@ has no such variable; wanted $(or $(1),none)" >&2; exit 1)

.DEFAULT_GOAL := help
.PHONY: help policy preview diagram cost prices consortium down ledger test test-processes test-links test-engine test-ledger test-vm test-all ledger-bench ledger-soak lint fuzz bench bench-quick histories sbom osv regions docs lock clean

help: ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.txt requirements-dev.txt
	@[ -n "$(PYTHON)" ] || { echo "error: none of $(PYTHONS) is there; wanted one of them, or PYTHON=..." >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "error: PYTHON=$(PYTHON) is not there; wanted Python 3.11 to 3.14" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON), once ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@awk '/^[a-zA-Z]/ {uv = /^uv==/} uv' requirements-dev.txt > $(VENV)/uv.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
	@bash -o pipefail -c "$(BIN)/uv pip install --require-hashes --requirement requirements-dev.txt --python $(BIN)/python 2>&1 | sed '/^ + /d' >&2"
	@touch $@

preview: $(READY) ## What a bank would create (STACK=NAME|FILE, default prod; FORMAT=text|markdown|json; AGAINST=last|NAME|FILE)
	$(call takes,STACK FORMAT AGAINST)
	@$(BIN)/python -m lab.azure.plan $(if $(FORMAT),--format '$(FORMAT)') $(if $(AGAINST),--against '$(AGAINST)') $(STACK)

diagram: $(READY) ## Draw a member, or a folder's consortium (STACK=NAME|FILE|FOLDER; FORMAT=mermaid|svg; OUT=FILE); without STACK, the documents' pictures
	$(call takes,STACK FORMAT OUT)
	@$(BIN)/python -m docs.diagrams $(STACK) $(if $(FORMAT),--format '$(FORMAT)') $(if $(OUT),--out '$(OUT)')

cost: $(READY) ## What the sizes cost a month, or a bank (STACK=NAME|FILE, REGION=NAME, USAGE=FILE; FORMAT=text|markdown|json|svg; AGAINST=last|NAME|FILE)
	$(call takes,STACK REGION USAGE FORMAT AGAINST)
	@$(BIN)/python -m cost $(if $(FORMAT),--format '$(FORMAT)') $(if $(REGION),--region '$(REGION)') $(if $(USAGE),--usage '$(USAGE)') $(if $(AGAINST),--against '$(AGAINST)') $(STACK)

prices: $(READY) ## Update cost/prices.json with Azure's list prices (REGION=NAME adds a region)
	$(call takes,REGION)
	@$(BIN)/python -m cost.refresh $(if $(API),--api '$(API)') $(REGION)

consortium: $(READY) ## Bring the offline consortium of three banks up, without Azure
	@$(BIN)/python -m lab.azure.consortium up

down: $(READY) ## Delete every bank of the offline consortium (`make consortium`)
	@$(BIN)/python -m lab.azure.consortium down

ledger: $(READY) ## The five steps with real Corda nodes of three banks, a takeover among them (RECORD=FILE: bank A's rows of Log Analytics; LINKS=ipsec: through tunnels, where a packet and its answer take LATENCY=MS longer)
	$(call takes,RECORD LINKS $(if $(LINKS),LATENCY))
	@$(if $(filter-out ipsec,$(LINKS)),echo "error: LINKS=$(LINKS); wanted ipsec" >&2; exit 1)
	@$(BIN)/python -m lab.$(if $(LINKS),links,banks).scenario $(if $(RECORD),--record '$(RECORD)') $(if $(LATENCY),--latency '$(LATENCY)')

test: $(READY) ## The default tier, for every change: pure units, and the program in-process
	@$(BIN)/python -m pytest tests/unit tests/program $(PARALLEL) $(TESTS)

test-processes: $(READY) ## Whole consortia; real agents, leases, databases and JVMs; what a machine lacks is skipped, and said
	@$(BIN)/python -m pytest tests/processes -ra $(PARALLEL) $(TESTS)

test-links: $(READY) ## Gateways that speak IKEv2 and BGP, from three banks' plans; want root, strongSwan and FRR (LONG=1: Corda nodes through them too)
	@$(BIN)/python -m pytest tests/links -ra $(if $(LONG),,-m 'not long') $(TESTS)

test-engine: $(READY) ## The real Pulumi engine; wants a CLI on PATH or in ~/.pulumi/bin
	@$(BIN)/python -m pytest tests/engine -ra $(TESTS)

test-ledger: $(READY) ## Real Corda nodes; want a JDK, Maven, Node.js and HAProxy (LONG=1: a network's whole life, and the applications' own tests too)
	@$(BIN)/python -m pytest tests/ledger -ra $(if $(LONG),,-m 'not long') $(TESTS)

test-vm: $(READY) ## A VM that boots, in an emulator; wants root on Debian, QEMU and more (LONG=1: also VMs that install their wheels, start from the bank's image, or run a Corda node)
	@$(BIN)/python -m pytest tests/vm -ra $(if $(LONG),,-m 'not long') $(TESTS)

test-all: test test-processes test-links test-engine test-ledger test-vm ## All tiers, one after the other

ledger-soak: $(READY) ## An hour of faults with real Corda nodes: nothing lost, nothing doubled (SECONDS=3600, SEED=..., LINKS=ipsec: through tunnels)
	$(call takes,LINKS)
	@$(if $(filter-out ipsec,$(LINKS)),echo "error: LINKS=$(LINKS); wanted ipsec" >&2; exit 1)
	@$(if $(SECONDS),SOAK_SECONDS='$(SECONDS)') $(BIN)/python -m lab.$(if $(LINKS),links,banks).soak $(SEED)

policy: .venv-policy/.ready ## Set the policy pack up: pulumi preview --policy-pack policy

.venv-policy/.ready: $(READY) policy/requirements.txt
	@$(PYTHON) -m venv .venv-policy
	@$(BIN)/uv pip install --quiet --require-hashes --requirement policy/requirements.txt --python .venv-policy/bin/python
	@touch $@

lint: $(READY) ## Format, lint, types, and which way imports point
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fuzz: $(READY) ## Mutations of what others write, at every parser of it (SECONDS=300 for all; SEED=...)
	@$(BIN)/python -m pytest tests/fuzz -o faulthandler_timeout=120 $(TESTS)

bench: $(READY) ## Where the time goes, in ratios of one run; fails where a goal is missed (WRITE=1: writes docs/figures.md)
	@status=0; for each in planning deployment agent; do $(BIN)/python -m benchmarks.$$each || status=1; done; exit $$status

bench-quick: $(READY) ## Its cheap part, for every change
	@$(BIN)/python -m benchmarks.planning --quick

ledger-bench: $(READY) ## What real Corda nodes do on this machine; fails where a goal is missed (RUNS=3: an hour and a half; WRITE=1: writes docs/figures.md)
	@$(BIN)/python -m benchmarks.ledger

histories: $(READY) ## Random histories of agents in virtual time (17 a second; HISTORIES=100000: an hour and 40 minutes)
	@HISTORIES=$(or $(HISTORIES),100000) $(BIN)/python -m pytest -s --show-capture=no tests/unit/test_agent_histories.py -k no_older_epoch

sbom: $(READY) ## Write sbom.json, the software bill of materials; fails where a waiver of a vulnerability has expired
	@$(BIN)/python -m sbom sbom.json

osv: $(READY) ## Ask OSV for known vulnerabilities of what is deployed (wants api.osv.dev)
	@$(BIN)/python -m sbom.osv

regions: $(READY) ## Update stack/regions.json from Microsoft's pages (PAGES="FILE FILE FILE": from saved pages)
	@$(BIN)/python -m lab.azure.read_regions $(PAGES)

docs: $(READY) ## Write what is generated: tables and pictures of documents, Pulumi.yaml, schema, checklist, sample card
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m docs.workbook
	@$(BIN)/python -m docs.diagrams

lock: $(READY) ## Regenerate the locked requirements
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url pyproject.toml --output-file requirements.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url pyproject.toml --extra vm --extra dev --constraint requirements.txt --output-file requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url policy/requirements.in --output-file policy/requirements.txt
	@$(BIN)/python -m delivery.lock > delivery/requirements.new && mv delivery/requirements.new delivery/requirements.txt

clean: ## Remove what was set up and cached
	@rm -rf .venv .venv-* .offline sbom.json .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
