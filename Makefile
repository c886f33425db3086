# proa: every command a person or CI needs. Bare `make` lists them.
# Needs make and Python 3.11 or 3.12; everything else is installed into .venv and .venv-engine.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
  && { command -v $$p; break; }; done)
LOCKS := services/locks
PY := .venv/bin/python
ENGINE_PY := .venv-engine/bin/python
UV := .venv/bin/uv
# uv brings its own list of authorities; the machine's list also knows a company's proxy.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS ?= 1
endif
# Environments that tests and releases build are imported more than once.
unexport PYTHONDONTWRITEBYTECODE
IMAGES := gateway predictor assistant monitor controller pipelines mlflow

# A lane is a folder below tests/ which holds tests; `lint` has none.
LANES := $(foreach lane,architecture unit contract services story charts cluster,\
  $(if $(wildcard tests/$(lane)/test_*.py tests/$(lane)/*/test_*.py),$(lane)))
# Workers of the lanes that mostly wait; what shares a platform stays with one of them.
WORKERS ?= 2
WORKERS_unit = -n $(WORKERS) --dist loadfile
WORKERS_services = -n $(WORKERS) --dist loadscope --no-loadscope-reorder
BENCHES := $(filter-out __init__ rows _%,$(basename $(notdir $(wildcard tests/bench/[a-z]*.py))))

say = @printf '\033[1m==> %s\033[0m\n' "$(1)"

.PHONY: help
help: ## list the targets
	@printf 'proa: classic models and language models as one fleet\n\n'
	@grep -hE '^[a-zA-Z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}'
	@printf '\n  lanes:      %s\n  benchmarks: %s\n' "$(strip $(LANES))" "$(BENCHES)"

# ---- set-up ---------------------------------------------------------------------------------

.PHONY: setup setup-engine
setup: .venv/.stamp ## the platform's environment in .venv (instant when nothing changed)

setup-engine: .venv-engine/.stamp ## the engine's environment in .venv-engine, and its weights
	@PYTHONPATH=pipelines $(ENGINE_PY) -m python_help.weights.smollm2
	@PYTHONPATH=pipelines $(ENGINE_PY) -m python_help.weights.minilm

# $(1): the environment's folder. Debian ships Python without ensurepip; root can mend that.
define make_venv
	@test -n "$(PYTHON)" || { echo "proa needs Python 3.11 or 3.12 on PATH (or make PYTHON=/path/to/python)" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; \
	  else echo "$(PYTHON) has no ensurepip: install it first (Debian: apt-get install python3-venv)" >&2; exit 2; fi; }
	@"$(PYTHON)" -m venv --clear $(1)
endef

.venv/.uv: $(LOCKS)/bootstrap.txt
	$(call say,creating .venv with $(PYTHON))
	$(if $(shell $(PY) -m pip --version 2>/dev/null),,$(call make_venv,.venv))
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(LOCKS)/bootstrap.txt
	@touch $@

.venv/.stamp: .venv/.uv $(LOCKS)/embedded.txt $(LOCKS)/build.txt pyproject.toml
	$(call say,installing the locked packages into .venv)
	@start=$$SECONDS; $(UV) pip sync --python $(PY) --compile-bytecode --require-hashes --build-constraints $(LOCKS)/build.txt $(LOCKS)/embedded.txt; \
	$(UV) pip install -q --python $(PY) --no-deps --no-build-isolation --reinstall-package proa --editable .; \
	printf '==> .venv is ready (%ss)\n' $$((SECONDS - start))
	@touch $@

.venv-engine/.stamp: .venv/.uv $(LOCKS)/engine.txt
	$(call say,installing vLLM into .venv-engine: about 6 GB once)
	$(if $(shell $(ENGINE_PY) -c '' 2>/dev/null && echo there),,$(call make_venv,.venv-engine))
	@start=$$SECONDS; $(UV) pip sync --python $(ENGINE_PY) --compile-bytecode --require-hashes --build-constraints $(LOCKS)/build.txt $(LOCKS)/engine.txt; \
	printf '==> .venv-engine is ready (%ss)\n' $$((SECONDS - start))
	@touch $@

# ---- checks and tests -----------------------------------------------------------------------

.PHONY: lint check test
lint: setup
	@$(PY) -m ruff format --check --quiet . || { echo "run: .venv/bin/ruff format" >&2; exit 1; }
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --cache-dir build/import-linter --no-logo

check: lint ## style, types, import rules, architecture and unit tests (a minute at most)
	@$(PY) -m pytest -q $(WORKERS_unit) $(patsubst %,tests/%,$(filter architecture unit,$(LANES)))

# What Go builds is begun beside the first lanes at the lowest priority; who needs a tool waits for it.
test: setup setup-engine ## everything: set-up, then every lane, with each lane's seconds
	@failed=; report=; all=$$SECONDS; mkdir -p build; \
	nice -n 19 $(PY) -m tests.build >build/tools.log 2>&1 & tools=$$!; \
	trap 'kill $$tools 2>/dev/null || true' EXIT; \
	for lane in lint $(LANES); do \
	  printf '\033[1m==> %s\033[0m\n' "$$lane"; start=$$SECONDS; verdict=ok; workers=; \
	  case $$lane in unit) workers='$(WORKERS_unit)';; services) workers='$(WORKERS_services)';; esac; \
	  if [ $$lane = lint ]; then $(MAKE) lint; \
	  else PROA_TEST_ENGINE=required $(PY) -m pytest -q --durations=15 --durations-min=5 $$workers tests/$$lane; fi \
	    || { verdict=FAILED; failed="$$failed $$lane"; }; \
	  report="$$report$$(printf '  %-13s %5ss  %s' $$lane $$((SECONDS - start)) $$verdict)"$$'\n'; \
	done; \
	printf '\n%s  %-13s %5ss\n' "$$report" total $$((SECONDS - all)); \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

test-%: setup ## one lane: unit contract services story charts cluster architecture
	@[ -n "$(filter $*,$(LANES))" ] || { echo "no lane $*: there are $(strip $(LANES))" >&2; exit 2; }
	@$(PY) -m pytest $(WORKERS_$*) $(ARGS) tests/$*

# ---- running it -----------------------------------------------------------------------------

.PHONY: demo bench up down images
demo: setup setup-engine ## the whole story on real data, from raw rows to a rollback; leaves nothing running
	@$(PY) -m story

bench: setup setup-engine ## every benchmark: ratios against a peer in the same run
	@failed=; for name in $(BENCHES); do printf '\033[1m==> bench %s\033[0m\n' $$name; \
	  $(PY) -m tests.bench.$$name || failed="$$failed $$name"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

bench-%: setup ## one benchmark
	@test -f tests/bench/$*.py || { echo "no benchmark $*: there are $(BENCHES)" >&2; exit 2; }
	@$(PY) -m tests.bench.$*

up: setup setup-engine ## start the fleet on this machine and leave it running
	@.venv/bin/proa up --engine smollm2

down: setup ## stop it
	@.venv/bin/proa down

images: setup ## build every image of the charts with buildah and print its size
	@$(PY) -m tests.cluster images

# ---- upkeep ---------------------------------------------------------------------------------

# Locks carry hashes and neither a registry's address nor a path of this machine.
COMPILE = $(UV) pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
  --index-strategy unsafe-best-match $(if $(UPGRADE),--upgrade)

.PHONY: lock pipelines generated clean
lock: .venv/.uv ## resolve the locks again (UPGRADE=1: newest versions allowed)
	$(call say,embedded)
	@$(COMPILE) pyproject.toml --extra embedded --extra dev -o $(LOCKS)/embedded.txt
	@$(COMPILE) $(LOCKS)/bootstrap.in -c $(LOCKS)/embedded.txt -o $(LOCKS)/bootstrap.txt
	@$(COMPILE) $(LOCKS)/build.in -o $(LOCKS)/build.txt
	@for image in $(IMAGES); do printf '==> %s\n' $$image; \
	  $(COMPILE) pyproject.toml --extra $$image -c $(LOCKS)/embedded.txt -o $(LOCKS)/$$image.txt; done
	$(call say,engine)
	@$(COMPILE) $(LOCKS)/engine.in --override $(LOCKS)/engine.overrides.txt -o $(LOCKS)/engine.txt
	@! grep -nE '://|^-|(^|[ =])/' $(LOCKS)/*.txt --exclude=*.overrides.txt || { echo "a lock names an address or a path" >&2; exit 1; }

pipelines: setup ## compile the pipelines to IR YAML again (pipelines/compiled)
	@$(PY) -m proa_pipelines compile all pipelines/compiled

generated: setup ## write the charts' alert rules and dashboards again
	@$(PY) -m charts.generated

clean: ## remove what builds and tests wrote (ENVS=1: the environments too)
	@rm -rf build .hypothesis .ruff_cache .mypy_cache .pytest_cache
	@find . -path './.venv*' -prune -o -path ./.git -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf
	$(if $(ENVS),@rm -rf .venv .venv-engine)
