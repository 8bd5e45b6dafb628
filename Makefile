# Every target makes its own set-up first: it finds a Python, makes .venv and says what it installs.
# The second time that takes a fraction of a second.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
BIN := $(CURDIR)/.venv/bin
# One more than there are processors, four at most: some wait for minutes, on alerts and on a stack. Each brings a PostgreSQL,
# a Redis and a system of its own.
JOBS := $(shell expr $$(nproc) + 1)
PARALLEL = $(if $(filter 1,$(JOBS)),,--numprocesses $(JOBS) --maxprocesses 4 --no-loadscope-reorder)

.PHONY: help setup packages up down status test tests fuzz lint fmt bench dashboards

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: ## Make .venv with all that is pinned; PYTHON=python3.12 chooses its Python
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			exec $$python backend/ops/bootstrap.py $(if $(PYTHON),--this-python); \
		fi; \
	done; \
	echo "✗ CommandCenter needs Python 3.11 or newer (Debian, Ubuntu: sudo apt-get install python3 python3-venv)." >&2; \
	exit 1

packages: setup
	@cd backend && $(BIN)/python -m ops.stack.packages

up: setup ## Start everything, wait until it is healthy, leave it running
	@$(BIN)/commandcenter up

down: setup ## Stop everything; DATA=1 deletes the data too
	@$(BIN)/commandcenter down $(if $(filter 1 yes true,$(DATA)),--data)

status: setup ## Show how each part is
	@$(BIN)/commandcenter status

# Compiled code is kept, or each of a thousand processes compiles it anew.
test: export PYTHONDONTWRITEBYTECODE =
test: packages ## Linters, types, layers, and all tests; JOBS=1 for one after another
	@$(MAKE) --jobs $(if $(filter 1,$(JOBS)),1,2) lint tests JOBS=$(JOBS)

tests: setup
	cd backend && $(BIN)/pytest $(PARALLEL)

fuzz: setup ## Try what strangers send for an hour; FUZZ_MINUTES=10 for ten minutes
	@cd backend && end=$$(($$(date +%s) + 60 * $(or $(FUZZ_MINUTES),60))); while [ $$(date +%s) -lt $$end ]; do \
		$(BIN)/pytest -q -m fuzz --hypothesis-profile=fuzz || exit 1; \
	done

lint: setup ## Linters, types and layers
	cd backend && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

fmt: setup ## Put the code into form
	cd backend && $(BIN)/ruff format . && $(BIN)/ruff check --fix .

dashboards: setup ## Write Grafana's dashboards and their recording rules
	@$(BIN)/commandcenter dashboards build

bench: packages ## Ours beside the peers, on this machine; BENCH="http sql" runs only those
	@# An environment of its own: some peers want older releases of what the tests use.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-bench
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --require-hashes -r backend/requirements-bench.lock
	@cd backend && $(CURDIR)/.venv-bench/bin/python -m bench $(BENCH)
