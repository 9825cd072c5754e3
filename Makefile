# Portico: `make run` runs the gateway, `make test` tests everything. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed: enough to run (requirements.txt), or all that the tests need too (requirements.lock).
RUNS := $(VENV)/.runs
STAMP := $(VENV)/.installed
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile
# pip compiles one file after the other, this on every core. Some packages have files that are no Python 3: no matter.
COMPILE := $(BIN)/python -m compileall -qq -j 0 "$(abspath $(VENV))/lib" || true
# Much of a test is waiting for real processes and sockets: seven at a time keep two cores busy.
PYTEST_JOBS ?= 7
SYSTEM_PACKAGES := nodejs chromium nginx redis-server

.DEFAULT_GOAL := help
.PHONY: help setup run run-integrated run-split test check format lock docs wheel system clean autobahn bench \
  bench-redis json-costs adversity compat soak demo-split demo-migrate accounts express pictures capacity \
  capacity-short load-processes

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: $(RUNS) ## Run the gateway (HTTP 8000, WebSocket 8766, workers 8765); PORT=3000 make run as in production
	@exec $(BIN)/portico serve

run-integrated: $(RUNS) ## Run it with HTTP and WebSockets on one port (8000)
	@WEBSOCKET_PORT=same exec $(BIN)/portico serve

run-split: $(STAMP) ## Run an API node (8000) and two nodes for WebSockets (8100, 8101), with a Redis of their own
	@exec $(BIN)/python .ci/split

setup: $(STAMP) ## Make .venv with all that the tests need (run makes one with what running needs)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  f"Portico needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is {v[0]}.{v[1]}; name another one: make PYTHON=python3.12 …")'
	@echo "Making $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes -r .ci/pip.lock 2>/dev/null || true  # takes half the time of Python's own; that will do too

$(RUNS): requirements.txt .ci/link | $(BIN)/python
	@echo "Installing what the gateway needs into $(VENV) …"
	@$(INSTALL) --require-hashes -r requirements.txt
	@$(COMPILE)
	@$(BIN)/python .ci/link
	@touch $@

$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the locked dependencies into $(VENV) …"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-build-isolation -e .
	@$(COMPILE)
	@touch $(RUNS) $@

test: setup system ## Lint, types, import law and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto  # one on each core
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(PYTEST_JOBS) --dist loadfile --no-loadscope-reorder  # tests/conftest.py: the longest files first

check: setup ## Lint, types and import law only: quick
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto  # one on each core
	$(BIN)/lint-imports

format: setup ## Format the code
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

docs: setup ## Write what is generated in docs/ anew: the references of settings and commands, the map of the modules
	$(BIN)/python -m service.settings > docs/reference/settings.md
	$(BIN)/python -m service.cli.reference > docs/reference/commands.md
	$(BIN)/python -m tests.module_map
	$(BIN)/python -m tests.compat.coverage

lock: setup ## Resolve the dependencies anew: requirements.lock, and requirements.txt for deployments
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --constraints requirements.lock pyproject.toml -o requirements.txt

wheel: setup ## Build dist/portico-….whl
	@rm -rf build dist
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build
	@ls dist/*.whl

bench: setup ## Portico and its peers side by side (ROWS=fanout,heartbeat SERVERS=portico,node ROUNDS=3 SECONDS=4 QUICK=1)
	$(BIN)/python -m tests.bench $(if $(ROWS),--rows $(ROWS)) $(if $(SERVERS),--servers $(SERVERS)) \
	  $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(QUICK),--quick)

bench-redis: setup ## What a deployment with Redis costs (ROWS=unicast,resume ROUNDS=3 QUICK=1)
	$(BIN)/python -m tests.bench.redis $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(QUICK),--quick)

json-costs: setup ## What a megabyte of dear JSON costs on each path, beside plain text (PATHS=C-Client,HTTP ROUNDS=5 QUICK=1)
	$(BIN)/python -m tests.bench.json_costs $(if $(PATHS),--paths "$(PATHS)") $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(QUICK),--quick)

capacity: setup ## What each way of deploying holds on this machine, in one report (CAPACITY="--modes serve,split")
	@$(BIN)/python -m loadtest._capacity $(CAPACITY)

capacity-short: setup ## The same with two small stairs: does it work?
	@$(BIN)/python -m loadtest._capacity --short --out build/capacity-short $(CAPACITY)

load-processes: setup ## How many clients a load process holds before it has to be doubted: four stairs, and a table
	@$(BIN)/python -m loadtest._capacity --modes serve --stairs 1000,5000,10000,14000 --rate 500 --hold 30 \
	  --processes 1 --keep-climbing --load-table --out build/load-processes $(CAPACITY) -- \
	  --heartbeat-interval 10 --push-rate 100 --broadcast-rate 2 || [ $$? -eq 1 ]  # 1: a stair did not hold

autobahn: setup ## RFC 6455 by Autobahn|Testsuite on every transport; needs a Python 2.7
	$(BIN)/python -m tests.autobahn

adversity: setup ## The tests of what must not bring a gateway down, at their full size
	ADVERSITY=full $(BIN)/pytest tests/adversity

compat: setup ## Every client program against every way of being deployed; writes docs/reference/compatibility.md
	$(BIN)/python -m tests.compat.matrix

soak: setup ## Hold 50,000 clients on 3 gateways for SOAK_SECONDS (600)
	$(BIN)/python -m tests.adversity.soak

demo-split: setup ## Redis, an API node and three WebSocket nodes; a node and then Redis are killed: what became of it all
	$(BIN)/python -m tests.split

demo-migrate: setup ## From one process to split and back, behind nginx, while clients are connected: what became of it all
	$(BIN)/python -m tests.split.migrating

express: setup ## Install Express, and run its sample of the how-to with it instead of a stand-in
	cd tests/portico/publisher/express && npm ci --no-audit --no-fund
	$(BIN)/pytest tests/test_docs_frameworks.py

accounts: setup ## What becomes of clients, events and requests when Redis fails, at full size
	ADVERSITY=full $(BIN)/pytest tests/split/test_demo.py tests/split/test_outages.py tests/split/test_chance.py \
	  tests/split/test_troubles.py tests/split/test_failovers.py tests/split/test_migration.py \
	  tests/backplane/redis/test_letters.py

pictures: setup ## Make the pictures in docs/images anew
	$(BIN)/python -m tests.browser.pictures
	$(BIN)/python -m tests.loadtest.pictures

system: ## See that the programs are there that the tests drive: Node and Chromium
	@.ci/system $(SYSTEM_PACKAGES)

clean: ## Remove the environment and caches
	rm -rf $(VENV) .venv-autobahn .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
