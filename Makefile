# `make help` lists the targets. Each target installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_ENV := $(VENV)/.installed-run
DEV_ENV := $(VENV)/.installed-dev
# Or each of the tests' hundreds of processes compiles the modules again.
unexport PYTHONDONTWRITEBYTECODE
PROMETHEUS3_VERSION := 3.16.0
PROMETHEUS3_MODULE := github.com/prometheus/prometheus/cmd
PROMETHEUS3_MODULE_VERSION := v0.316.0
PROMETHEUS3 := build/prometheus-$(PROMETHEUS3_VERSION)
PROMETHEUS3_TESTS := $(addprefix tests/integration/test_, $(addsuffix .py, \
	prometheus prometheus3 rules alert_chain alert_evaluation backfill opentelemetry statistics))
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: run test test-prometheus3 test-opentelemetry coverage help stress weeks lint actionlint bench compare scale pauses rules alerts dashboards mixin picture docs chart dist deb lock clean

run: $(RUN_ENV) ## Start the exporter, with config.yaml if it exists, otherwise with the embedded demo
	@if [ -e config.yaml ]; then exec $(BIN)/python exporter.py; else exec $(BIN)/python exporter.py --demo; fi

test: $(DEV_ENV) ## Run all tests (PYTEST_ARGS=... for pytest, COVERAGE=1 to measure coverage)
	$(if $(COVERAGE),rm -rf build/coverage && mkdir -p build/coverage)
	$(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest -n 4 $(PYTEST_ARGS)

test-prometheus3: $(DEV_ENV) ## Run the tests that need Prometheus with Prometheus 3, built with Go (skipped without Go)
	@if [ ! -x $(PROMETHEUS3)/prometheus ] && ! command -v go >/dev/null; \
	then echo "skipped: building Prometheus 3 needs Go (https://go.dev/dl)"; exit 0; fi; \
	set -ex; $(MAKE) --no-print-directory $(PROMETHEUS3)/prometheus; \
	PATH="$(CURDIR)/$(PROMETHEUS3):$$PATH" $(BIN)/python -m pytest -n 4 $(PROMETHEUS3_TESTS) $(PYTEST_ARGS)

$(PROMETHEUS3)/prometheus:
	GOBIN=$(CURDIR)/$(PROMETHEUS3) go install \
		-ldflags="-X github.com/prometheus/common/version.Version=$(PROMETHEUS3_VERSION)" \
		$(addprefix $(PROMETHEUS3_MODULE)/, $(addsuffix @$(PROMETHEUS3_MODULE_VERSION), promtool prometheus))

test-opentelemetry: $(DEV_ENV) ## Test the recipe for the OpenTelemetry Collector, built with Go (skipped without Go)
	@if [ ! -x build/otelcol/otelcol ] && ! command -v go >/dev/null; \
	then echo "skipped: building the Collector needs Go (https://go.dev/dl)"; exit 0; fi; \
	set -ex; $(MAKE) --no-print-directory build/otelcol/otelcol; \
	PATH="$(CURDIR)/build/otelcol:$$PATH" $(BIN)/python -m pytest tests/integration/test_opentelemetry.py $(PYTEST_ARGS)

build/otelcol/otelcol: tests/data/collector-builder.yaml
	go run go.opentelemetry.io/collector/cmd/builder@v0.163.0 --config=$<

coverage: $(DEV_ENV) ## Report the coverage of `make test COVERAGE=1`; fail if it is below 95 %
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

scale: $(DEV_ENV) ## Measure 10 to 5,000 targets, for docs/scaling.md (5 minutes)
	$(BIN)/python benchmarks/scale.py

pauses: $(DEV_ENV) ## Measure how long 75,000 targets keep the exporter from answering (3 minutes)
	$(BIN)/python benchmarks/pauses.py

docs: $(DEV_ENV) ## Generate docs/configuration.md, docs/config.schema.json, tables of docs/metrics.md, man page, completions
	$(BIN)/python -m tools.configuration_page > docs/configuration.md
	$(BIN)/python -m taskrouter_exporter.config.json_schema > docs/config.schema.json
	$(BIN)/python -m tools.metrics_page
	$(BIN)/python -m tools.shell_files

rules: $(DEV_ENV) ## Generate the alert rules
	$(BIN)/python -m tools.rules

alerts: $(DEV_ENV) ## Evaluate the alerts on the labelled corpus, as in docs/alerting.md (an hour)
	PYTHONPATH=tests:. $(BIN)/python benchmarks/alerts.py $(ALERTS_ARGS)

chart: rules dashboards mixin ## Generate rules, dashboards, schema and README of the Helm chart
	$(BIN)/python -m tools.chart

dist: $(DEV_ENV) ## Build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

deb: $(DEV_ENV) ## Build a Debian package into build/debian/ (DEB_ARGS="--release=trixie --architecture=arm64")
	$(BIN)/python -m tools.debian $(DEB_ARGS)

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
