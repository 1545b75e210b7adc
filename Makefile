# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-15 test-docker proofs mutants mutation pool-mutants explore fuzz lint types docs examples bench bench-search check clean \
  schema-docs reference release-manifest wheel constraints matrix

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
# One more than the cores of a small machine: many of these tests wait for a time limit, or for a server to start.
TEST_WORKERS ?= 3

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## Replay a conversation onto an embedded PostgreSQL, through the public API
	@$(BIN)/thea-store demo

# Bytecode is kept, also where the environment of a container says otherwise: else each worker compiles all tests anew.
test: $(STAMP) ## Run all tests on the embedded PostgreSQL 18
	@PYTHONDONTWRITEBYTECODE= THEA_TEST_SERVER=$${THEA_TEST_SERVER:-embedded} $(BIN)/pytest -q -n $(TEST_WORKERS) --dist loadfile $(ARGS)

coverage: $(STAMP) ## Run all tests and say which lines and branches none of them reached
	@rm -rf .coverage && mkdir .coverage
	@THEA_TEST_SERVER=$${THEA_TEST_SERVER:-embedded} $(BIN)/coverage run -m pytest -q -n $(WORKERS) --dist loadfile
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=95

test-15: ## The same tests on the PostgreSQL 15 of Debian
	@THEA_TEST_SERVER=/usr/lib/postgresql/15/bin $(MAKE) --no-print-directory test

test-docker: ## The same tests on a PostgreSQL in a container (THEA_TEST_POSTGRES_IMAGE)
	@THEA_TEST_SERVER=docker $(MAKE) --no-print-directory test

proofs: $(STAMP) ## The long proofs: cancellation, storms, killed migrators, the plan of every query
	@THEA_TEST_SERVER=$${THEA_TEST_SERVER:-embedded} $(BIN)/pytest -q -n $(WORKERS) --dist loadgroup -m slow $(ARGS)

mutants: $(STAMP) ## Weaken the schema, the roles and the queries in many ways; the suites must notice each (nightly)
	@$(BIN)/python tools/mutants.py $(ARGS)

mutation: $(STAMP) ## Break parts that hold promises at random, each in a copy, for ten minutes (nightly)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mutation]'
	@$(BIN)/python tools/mutation.py $(ARGS)

pool-mutants: $(STAMP) ## Break the pool and its transactions in many ways, each in a copy (nightly)
	@$(BIN)/python tools/pool_mutants.py $(ARGS)

explore: $(STAMP) ## Other examples for the properties and the interleaving than on every run (nightly)
	@THEA_TEST_SERVER=$${THEA_TEST_SERVER:-embedded} $(BIN)/pytest -q -n $(WORKERS) --hypothesis-profile explore -m 'hypothesis and not slow'
	@THEA_TEST_SERVER=$${THEA_TEST_SERVER:-embedded} $(BIN)/pytest -q -n $(WORKERS) --hypothesis-profile explore -m slow tests/interleaving/test_interleaving_long.py tests/migrator/test_killed.py

fuzz: $(STAMP) ## A million texts through the SQL reader and PostgreSQL's own (nightly)
	@$(BIN)/python tools/fuzz.py $(ARGS)

.PHONY: test-backup
test-backup: $(STAMP) ## Back up and restore with Debian's pgBackRest, as docs/backups.md says (nightly)
	@$(BIN)/pytest -q -m nightly tests/backup $(ARGS)

# The servers' account runs it with the system's own Python, so that only what is pure Python or of any version goes here.
build/patroni/patroni/__init__.py: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --target build/patroni 'patroni[etcd3]==4.1.5' psycopg

.PHONY: test-cluster
test-cluster: build/patroni/patroni/__init__.py ## Strike primaries of a Patroni cluster in five ways, as root, and read on late standbys; THEA_CLUSTER_KILLS says how often (nightly)
	@THEA_PATRONI=$(CURDIR)/build/patroni $(BIN)/pytest -q -s -m nightly tests/cluster $(ARGS)

.PHONY: test-compose
test-compose: $(STAMP) ## Start profiles of the compose file, migrate and ask them (nightly; needs a container engine)
	@$(BIN)/pytest -q -m nightly tests/deploy $(ARGS)

.PHONY: nightly
nightly: ## All that is marked nightly here, one after the other, with a table of results; ARGS names parts
	@.ci/nightly $(ARGS)

EXAMPLES := $(patsubst examples/%/pyproject.toml,%,$(wildcard examples/*/pyproject.toml))

$(VENV)/.installed-%: examples/%/pyproject.toml $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable 'examples/$*[dev]'
	@touch $@

examples: $(EXAMPLES:%=$(VENV)/.installed-%) ## The tests of each service in examples/, as its author would run them
	@for name in $(EXAMPLES); do \
		printf '%s: ' "$$name"; \
		(cd "examples/$$name" && THEA_TEST_SERVER=$${THEA_TEST_SERVER:-embedded} "$(CURDIR)/$(BIN)/pytest" -q $(ARGS)) || exit 1; \
	done

lint: $(STAMP) ## Ruff, and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: mypy pyright ## mypy --strict and pyright

.PHONY: mypy pyright
mypy: $(STAMP)
	@$(BIN)/mypy

pyright: $(STAMP)
	@$(BIN)/pyright

# What draws the pictures comes along with the built pages, so that they show without a network.
MERMAID := 12.3.0
.cache/mermaid-$(MERMAID).min.js:
	@mkdir -p .cache
	@npm pack --silent --pack-destination .cache mermaid@$(MERMAID) >/dev/null
	@tar -xzOf .cache/mermaid-$(MERMAID).tgz package/dist/mermaid.min.js > $@.new && mv $@.new $@

docs: $(STAMP) ## Build the pages into build/docs; a warning is an error
	@$(BIN)/zensical build --strict --clean
	@$(MAKE) --silent .cache/mermaid-$(MERMAID).min.js \
	  && cp .cache/mermaid-$(MERMAID).min.js build/docs/assets/mermaid.min.js \
	  || echo "Without npm, a browser fetches what draws the pictures from the network."

bench: $(STAMP) ## Compare the store with asyncpg's pool, SQLAlchemy and COPY, each in one run
	@$(BIN)/python bench/single.py $(ARGS)
	@$(BIN)/python bench/bulk.py

.PHONY: bench-field
$(VENV)/.installed-bench: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench-field: $(VENV)/.installed-bench ## One row and a page of each aggregate, beside what a service would take otherwise
	@$(BIN)/python bench/field.py $(ARGS)

.PHONY: bench-turn
bench-turn: $(VENV)/.installed-bench ## One turn of a conversation in a transaction, beside the same by hand, near and far
	@$(BIN)/python bench/turn.py $(ARGS)

.PHONY: bench-smoke
bench-smoke: $(VENV)/.installed-bench ## See that each program of bench/ still runs, on the smallest sizes (nightly)
	@$(BIN)/pytest -q -n $(WORKERS) -m nightly tests/bench $(ARGS)

bench-search: $(STAMP) ## Search in a tenant of a million notes, against the owner without row security
	@$(BIN)/python bench/search.py $(ARGS)

.PHONY: costs
costs: $(STAMP) ## Write anew what every public call costs in figures that no machine changes
	@THEA_TEST_SERVER=$${THEA_TEST_SERVER:-embedded} $(BIN)/python -m tests.costs

.PHONY: test-citus
test-citus: $(STAMP) ## The library on the Citus cluster that THEA_CITUS_URL names (docs/citus.md)
	@test -n "$$THEA_CITUS_URL" || { echo "THEA_CITUS_URL must be a superuser's URL of an empty database on a coordinator that has its workers" >&2; exit 1; }
	@$(BIN)/pytest -q tests/citus $(ARGS)

.PHONY: bench-row-security
bench-row-security: $(STAMP) ## Counts, statistics and other questions of a large tenant, beside the same without row security
	@$(BIN)/python bench/row_security.py $(ARGS)

.PHONY: bench-import
bench-import: $(STAMP) ## A chat export of a million messages, imported and imported again
	@$(BIN)/python bench/importing.py $(ARGS)

.PHONY: bench-tasks
bench-tasks: $(STAMP) ## Many tasks on one pool, and small tenants beside one that floods it
	@$(BIN)/python bench/tasks.py $(ARGS)
	@$(BIN)/python bench/fairness.py

.PHONY: bench-notes
bench-notes: $(STAMP) ## What the words of a note add to its insert
	@$(BIN)/python bench/note_words.py $(ARGS)

.PHONY: bench-scale
bench-scale: $(STAMP) ## Every public call in databases of ten thousand and of ten million messages; half an hour
	@$(BIN)/python bench/scale.py $(ARGS)

.PHONY: plots
plots: $(VENV)/.installed-bench ## Draw the figures of docs/figures anew
	@$(BIN)/python bench/plots.py

.PHONY: bench-statistics
bench-statistics: $(STAMP) ## Counts and statistics of five million messages, and what their sums cost who writes
	@$(BIN)/python bench/message_statistics.py $(ARGS)

reference: $(STAMP) ## Write docs/reference/plain.md anew, from the docstrings
	@$(BIN)/python tools/reference.py

schema-docs: reference ## Write docs/schema.md anew too, from the migrations on an embedded PostgreSQL
	@mkdir -p docs
	@DATABASE_URL=embedded: $(BIN)/thea-store schema > docs/schema.md.new && mv docs/schema.md.new docs/schema.md || { rm -f docs/schema.md.new; exit 1; }

check: lint types test ## All of the above but the benchmarks

release-manifest: $(STAMP) ## Write anew what this version asks of the schema, and what its migrations make
	@$(BIN)/python tools/manifest.py
	@$(BIN)/python tools/schema_manifest.py

wheel: $(STAMP) ## Build the sdist and the wheel from it, and try both kinds of installation elsewhere
	@.ci/wheel

constraints: ## Write constraints.txt anew: the newest versions that the project takes
	@rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	@build/constraints/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	@{ echo "# The exact versions of a development installation. \`make constraints\` writes them anew, from a new environment."; \
		build/constraints/bin/python -m pip freeze --disable-pip-version-check | grep -v ' @ '; } > constraints.txt

matrix: ## The tests on the Pythons and servers that are here, along the diagonal (nightly)
	@tools/matrix

clean: ## Remove what was made here
	@rm -rf $(VENV) dist build .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
