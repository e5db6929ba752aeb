# Everything a person runs. `make help` lists it. Settings of the stack: see .env.example.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell $(name) -c \
	'import sys; print(sys.executable) if (3, 11) <= sys.version_info < (3, 14) else sys.exit(1)' 2>/dev/null)))
VENV := .venv
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python
UV ?= uv
COMPILE := $(UV) pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header
PROVIDERS := --exclude-newer-package apache-airflow-providers-apache-kafka=2026-10-14 \
	--exclude-newer-package apache-airflow-providers-apache-cassandra=2026-10-14

# Two workers share one stack, and a file stays with one of them (tests/conftest.py). Those on a running Airflow come
# after: it keeps both cores busy by itself.
SIDE_BY_SIDE := -n 2 --dist loadfile
AIRFLOW := browser e2e
# Airflow takes seconds to import: one process does, while the others test the core. Only tests/e2e uses schemathesis,
# which pytest would import too. Make before 4.0 cannot group what programs print that run side by side.
IMPORTS_AIRFLOW := dags plugins
UNIT := $(RUN) -m pytest -q -p no:schemathesis
GROUPED := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

SEED ?= 1
FAULTS ?= 100
SIZES ?= 20,100,1000,10000

.DEFAULT_GOAL := help
.PHONY: help venv demo up down status logs env clean test test-all crash torture bench check lint lock docs
.PHONY: types unit-core unit-airflow style imports

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## the virtual environment, from the hash-locked requirements

$(STAMP): requirements.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "installing the virtual environment with $(PYTHON) (once, about a minute)"
	@"$(PYTHON)" -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch $@

demo: $(STAMP) ## start everything, merge the sample accounts and show what happened
	@$(RUN) -m local.demo

up: $(STAMP) ## start PostgreSQL, Kafka, Cassandra and Airflow
	@$(RUN) -m local.stack up

down: $(STAMP) ## stop them; the data stays
	@$(RUN) -m local.stack down

status: $(STAMP) ## what runs, and where
	@$(RUN) -m local.stack status

logs: $(STAMP) ## the end of each server's log
	@$(RUN) -m local.stack logs

env: $(STAMP) ## KEY=VALUE lines that tell any client where everything runs
	@$(RUN) -m local.stack env

clean: ## stop everything and remove all that was ever made here
	@if [ -x $(RUN) ]; then $(RUN) -m local.stack clean; fi
	@rm -rf .local $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

check: $(STAMP) ## lint, types and unit tests: under a minute, no servers
	@$(MAKE) --no-print-directory -k -j 2 $(GROUPED) unit-core types unit-airflow style imports

lint: style types imports

style: $(STAMP)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: $(STAMP)
	@$(RUN) -m mypy

imports: $(STAMP)
	@PYTHONPATH=include:plugins $(VENV)/bin/lint-imports --no-logo

unit-core: $(STAMP)
	@$(UNIT) -n 2 --dist worksteal tests/unit $(addprefix --ignore tests/unit/,$(IMPORTS_AIRFLOW))

unit-airflow: $(STAMP)
	@$(UNIT) $(addprefix tests/unit/,$(IMPORTS_AIRFLOW))

test: $(STAMP) ## the tests, on servers of their own on free ports
	@$(RUN) -m pytest -q $(SIDE_BY_SIDE) -m "not long" $(addprefix --ignore tests/,$(AIRFLOW)) || failed=1; \
	$(RUN) -m pytest -q $(SIDE_BY_SIDE) -m "not long" $(addprefix tests/,$(AIRFLOW)) && exit $${failed:-0}

test-all: $(STAMP) ## the tests and all that takes longer: every interruption, 300 histories and a torture
	@ACCOUNT_MERGE_FULL=1 $(MAKE) test
	@$(RUN) -m pytest -q -m long

crash: $(STAMP) ## kill and stop work around every request, each operation held at each, and 300 random histories: takes hours
	@ACCOUNT_MERGE_FULL=1 $(RUN) -m pytest -q tests/crash tests/interleave tests/histories

torture: $(STAMP) ## SIGKILL, SIGSTOP and restart of everything while events arrive: make torture SEED=7 FAULTS=500
	@PYTHONPATH=include $(RUN) -m tests.torture --seed $(SEED) --faults $(FAULTS)

bench: $(STAMP) ## merges against the floor and the old way, on servers of their own: make bench SIZES=20,1000
	@PYTHONPATH=include $(RUN) -m benchmarks.merge_speed --sizes $(SIZES) --to benchmarks/results
	@PYTHONPATH=include $(RUN) -m benchmarks.large_merge --to benchmarks/results
	@PYTHONPATH=include $(RUN) -m benchmarks.bulk_speed --to benchmarks/results
	@PYTHONPATH=include:plugins $(RUN) -m benchmarks.airflow_share --to benchmarks/results

docs: $(STAMP) ## write the generated pages again
	@PYTHONPATH=include $(RUN) scripts/generate_docs.py

lock: ## compile the requirements files again (needs uv)
	$(COMPILE) --exclude-newer 2026-09-18 $(PROVIDERS) requirements.in -o requirements.txt
	$(COMPILE) --exclude-newer 2026-09-30 $(PROVIDERS) requirements-dev.in -o requirements-dev.txt
