# The commands of this project. `make up` and `make test` are all that a newcomer needs.
# The interpreter for .venv; empty: the first of python3, python3.13, python3.12 and python3.11 that suits.
PYTHON ?=
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
# Without bytecode files each of the hundreds of processes of a test run compiles the package anew: 0.7 s for a platform.
unexport PYTHONDONTWRITEBYTECODE
# Builds the documentation site. Not with --quiet: MkDocs then counts no warnings, and --strict has no effect. The variable
# silences a notice about MkDocs' future.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: setup up test test-slow test-kubernetes e2e-kubernetes images sbom lint format types generated check bench bench-kubernetes docs model lock clean help

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: ## Make .venv and install what `up` and `test` need, or repair it; quick when nothing changed
	@PYTHON="$(PYTHON)" hack/setup.sh

up: setup ## Run the platform on 127.0.0.1:8080 (ARGS="--port 9000 --offline")
	@exec $(BIN)/komputer up $(ARGS)

test: setup ## Run the tests that need no other control plane: about 10 minutes on two cores (ARGS="-n 0 -k name")
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

test-slow: setup ## The tests that wait for limits of minutes (ARGS="-k name")
	@$(BIN)/python -m pytest -n auto --dist worksteal -m slow $(ARGS)

test-kubernetes: setup ## Run the contract tests against real kube-apiservers, one for each of two workers (builds it once: Go, about 8 minutes)
	@hack/kubernetes/test.sh

e2e-kubernetes: setup ## The end-to-end tests on a real node with the chart installed (root; about 18 minutes; ARGS="tests/e2e/test_agents.py")
	@hack/kubernetes/e2e.sh $(ARGS)

images: ## Build the images on this machine (podman): localhost/komputer, localhost/komputer-agent
	@hack/images/build.sh

sbom: ## Write what is in the built images to dist/*.spdx.json (SPDX, by syft)
	@hack/images/sbom.sh dist

lint: setup ## Check format, style, types, import contracts, generated files and the links of the documentation
	@$(BIN)/ruff format --check src tests benchmarks hack
	@$(BIN)/ruff check src tests benchmarks hack
	@$(BIN)/lint-imports
	@$(BIN)/python -m komputer.domain.crds --check
	@$(BIN)/python hack/openapi/generate.py --check
	@$(BIN)/python hack/chart/values.py --check
	@$(BIN)/python hack/docs/generate.py --check
	@$(SITE)
	@$(BIN)/mypy

format: setup ## Format the code and fix what the linter can fix
	@$(BIN)/ruff format src tests benchmarks hack
	@$(BIN)/ruff check --fix src tests benchmarks hack

generated: setup ## Write the generated files: resource definitions, OpenAPI, reference pages, the schema and snapshots of the chart
	@$(BIN)/python -m komputer.domain.crds
	@$(BIN)/python hack/openapi/generate.py
	@$(BIN)/python hack/chart/values.py
	@$(BIN)/python hack/docs/generate.py
	@if hack/kubernetes/build.sh --check helm >/dev/null 2>&1; then $(BIN)/python -m tests.chart.rendering; fi

bench: setup ## Measure; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

bench-kubernetes: setup ## Measure against a real control plane; writes benchmarks/KUBERNETES.md
	@hack/kubernetes/bench.sh

docs: setup ## Build the documentation into dist/site (read it: python3 -m http.server -b 127.0.0.1 -d dist/site 8000)
	@$(SITE)

model: setup ## Check large configurations of the protocol model (minutes)
	@$(BIN)/python -m tests.model

lock: setup ## Pin all requirements again
	@hack/lock.sh

clean: ## Remove .venv and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
