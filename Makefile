# `make help` lists the targets. Each target installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_ENV := $(VENV)/.installed-run
DEV_ENV := $(VENV)/.installed-dev
# Or each of the tests' hundreds of processes compiles the modules again.
unexport PYTHONDONTWRITEBYTECODE
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: run test coverage help stress weeks lint actionlint bench compare rules alerts dashboards mixin picture docs chart dist lock clean

run: $(RUN_ENV) ## Start the exporter, with config.yaml if it exists, otherwise with the embedded demo
	@if [ -e config.yaml ]; then exec $(BIN)/python exporter.py; else exec $(BIN)/python exporter.py --demo; fi

test: $(DEV_ENV) ## Run all tests (PYTEST_ARGS=... for pytest, COVERAGE=1 to measure coverage)
	$(if $(COVERAGE),rm -rf build/coverage && mkdir -p build/coverage)
	$(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest -n 4 $(PYTEST_ARGS)

coverage: $(DEV_ENV) ## Report the coverage of `make test COVERAGE=1`; fail if it is below 95 %
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

stress: $(DEV_ENV) ## Run the stress and fuzz tests at full length, and write build/stress.md
	STRESS=full $(BIN)/python -m pytest --timeout=900 tests/stress tests/fuzz $(PYTEST_ARGS)
	@cat build/stress.md

weeks: $(DEV_ENV) ## Simulate a whole week of each scenario with the exporter and the rules (30 minutes)
	WEEKS=full $(BIN)/python -m pytest -s tests/integration/test_weeks.py $(PYTEST_ARGS)

lint: $(DEV_ENV) ## Check style, types, workflows, spelling, wording and links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m tools.check_wording
	$(BIN)/python -m tools.check_links
	$(BIN)/zizmor --quiet --offline --strict-collection --persona=pedantic .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[bf]*.yml

actionlint: ## Check the workflows with actionlint (needs Go, and uses shellcheck if installed)
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

bench: $(DEV_ENV) ## Measure speed and memory (BENCH_ARGS=--short for a short run)
	$(BIN)/python benchmarks/scrape.py $(BENCH_ARGS)
	PYTHONPATH=. $(BIN)/python benchmarks/history.py $(BENCH_ARGS)

compare: $(DEV_ENV) ## Compare with bare loops, and write docs/performance.md (COMPARE_ARGS="--json-exporter PATH")
	$(BIN)/python benchmarks/compare.py --write $(COMPARE_ARGS)

docs: $(DEV_ENV) ## Generate docs/configuration.md, docs/config.schema.json and the tables of docs/metrics.md
	$(BIN)/python -m tools.configuration_page > docs/configuration.md
	$(BIN)/python -m taskrouter_exporter.config.json_schema > docs/config.schema.json
	$(BIN)/python -m tools.metrics_page

rules: $(DEV_ENV) ## Generate the alert rules
	$(BIN)/python -m tools.rules

alerts: $(DEV_ENV) ## Evaluate the alerts on the labelled corpus, as in docs/alerting.md (an hour)
	PYTHONPATH=tests:. $(BIN)/python benchmarks/alerts.py $(ALERTS_ARGS)

chart: rules dashboards mixin ## Generate rules, dashboards, schema and README of the Helm chart
	$(BIN)/python -m tools.chart

dist: $(DEV_ENV) ## Build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

lock: $(DEV_ENV) ## Upgrade the pinned dependencies
	$(BIN)/$(LOCK) --upgrade pyproject.toml -o requirements.txt
	$(BIN)/$(LOCK) --upgrade --group build -o requirements-build.txt
	$(BIN)/$(LOCK) --upgrade --group dev pyproject.toml -o requirements-dev.txt

dashboards: rules ## Generate the Grafana dashboards
	$(BIN)/python -m tools.dashboards

mixin: rules dashboards ## Generate the JSON files of the monitoring mixin
	$(BIN)/python -m tools.mixin

picture: $(DEV_ENV) ## Generate the pictures of the README and the tutorial
	PYTHONPATH=tests $(BIN)/python -m tools.picture

clean: ## Remove the environment, caches and build results
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN_ENV): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(DEV_ENV): requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@ $(RUN_ENV)
