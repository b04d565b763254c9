# The two commands: `make run` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_ENV := $(VENV)/.installed-run
DEV_ENV := $(VENV)/.installed-dev
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: run test stress weeks lint actionlint bench rules alerts dashboards picture docs chart dist lock clean

run: $(RUN_ENV) ## Start the exporter: with config.yaml when there is one, otherwise the embedded demo
	@if [ -e config.yaml ]; then exec $(BIN)/python exporter.py; else exec $(BIN)/python exporter.py --demo; fi

test: $(DEV_ENV) ## Run all tests
	$(BIN)/python -m pytest -n 4 --dist loadgroup $(PYTEST_ARGS)

stress: $(DEV_ENV) ## Run the stress rows and the fuzz tests at full length; the table is build/stress.md
	STRESS=full $(BIN)/python -m pytest --timeout=900 tests/stress tests/fuzz $(PYTEST_ARGS)
	@cat build/stress.md

weeks: $(DEV_ENV) ## Take every scenario's whole week through the exporter and the rules (half an hour)
	WEEKS=full $(BIN)/python -m pytest -s tests/integration/test_weeks.py $(PYTEST_ARGS)

lint: $(DEV_ENV) ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/zizmor --quiet --offline --strict-collection --persona=pedantic .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

actionlint: ## The workflows once more, more deeply (needs Go, and uses shellcheck where it is installed)
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

bench: $(DEV_ENV) ## Measure speed and size (BENCH_ARGS=--short for the short form)
	$(BIN)/python benchmarks/scrape.py $(BENCH_ARGS)

docs: $(DEV_ENV) ## Generate the configuration page and its JSON Schema
	$(BIN)/python -m tools.configuration_page > docs/configuration.md
	$(BIN)/python -m taskrouter_exporter.config_schema > docs/config.schema.json

rules: $(DEV_ENV) ## Write the alert rules again, from tools/rules.py and tools/rules.yaml.in
	$(BIN)/python -m tools.rules

alerts: $(DEV_ENV) ## Evaluate the alerts on the labelled corpus, as in docs/alerting.md (an hour)
	PYTHONPATH=tests:. $(BIN)/python benchmarks/alerts.py $(ALERTS_ARGS)

chart: rules dashboards ## Write the parts of the Helm chart that come from elsewhere: rules, dashboards, schema, README
	$(BIN)/python -m tools.chart

dist: $(DEV_ENV) ## Build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

lock: $(DEV_ENV) ## Pin every dependency again, with hashes
	$(BIN)/$(LOCK) --upgrade pyproject.toml -o requirements.txt
	$(BIN)/$(LOCK) --upgrade --group build -o requirements-build.txt
	$(BIN)/$(LOCK) --upgrade --group dev pyproject.toml -o requirements-dev.txt

dashboards: rules ## Write the Grafana dashboards again
	$(BIN)/python -m tools.dashboards

picture: $(DEV_ENV) ## Take the README's picture again
	PYTHONPATH=tests $(BIN)/python -m tools.picture

clean: ## Remove the environment and caches
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
