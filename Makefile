# Two commands on a fresh machine: `make train` and `make test`. Both install what they need.

VENV ?= .venv
EXTRAS ?= dev
CONSTRAINTS ?=
WORKERS ?= 2
ARGS ?=
PYTHONS := python3.13 python3.12 python3.11 python3
MINIMUM := (3, 11)

# The first interpreter that runs, is new enough and can make a virtual environment.
PYTHON ?= $(shell for p in $(PYTHONS); do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < $(MINIMUM))' \
	>/dev/null 2>&1 && { echo "$$p"; break; }; done)

HAVE_PYTHON = test -n "$(PYTHON)" || { echo "PYTHON: none of $(PYTHONS) runs and is at least Python \
	$(MINIMUM) with venv; give PYTHON=/path/to/python" >&2; exit 2; }

# The libraries of jaxenv.adapters, each in a virtual environment of its own.
CLIENTS := gymnasium gymnax gymnax0 jaxmarl pettingzoo sb3 stoa
EXAMPLE ?= purejaxrl_ppo
CLIENT_OF := rejax_train=gymnax purejaxrl_ppo=gymnax sb3_maskable_ppo=sb3 jaxmarl_ippo=jaxmarl
CLIENT = $(patsubst $(EXAMPLE)=%,%,$(filter $(EXAMPLE)=%,$(CLIENT_OF)))

comma := ,
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(subst $(comma),-,$(EXTRAS))

.DEFAULT_GOAL := help
.PHONY: help install train test test-deep test-optimized test-quick lint format test-oldest test-newest \
	test-versions test-adapters mutants example docs drills gpu wheel clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 16

install: $(STAMP)  ## make .venv and install the package, once (EXTRAS=dev,cuda13 for a GPU)

$(STAMP): pyproject.toml
	@$(HAVE_PYTHON)
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	@touch $@

train: install  ## install, then train the vehicular scheduler and show the comparison (ARGS="seed=1")
	$(BIN)/python -m runs.train experiment=vehicular $(ARGS)

test: install  ## install, then run the tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not deep" $(ARGS)

test-deep: install  ## what takes minutes: solvers on hundreds of instances, long trainings, slow policies
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m deep $(ARGS)

test-optimized: install  ## the tests, compiled as users' programs are; several times as long
	JAXENV_TEST_OPTIMIZED=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

test-quick: install  ## some tests of every package, under two minutes on two cores
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "quick and not slow and not deep" $(ARGS)

lint: install  ## style and format checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## repair what lint can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-oldest:  ## every test at the lowest versions declared (constraints/oldest.txt)
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS="--constraint constraints/oldest.txt" \
		PYTHONS="python3.11 python3.12 python3.13 python3"

test-newest:  ## every test at the newest versions (the newest JAX wants Python 3.12 or later)
	$(MAKE) test VENV=.venv-newest

test-versions: test-oldest test-newest  ## both

test-adapters: $(CLIENTS:%=test-adapter-%)  ## every adapter with its real library (CLIENTS="gymnax sb3" for some)

.SECONDARY: $(CLIENTS:%=.venv-adapters-%/installed)

test-adapter-%: .venv-adapters-%/installed
	.venv-adapters-$*/bin/python -m pytest -q tests/adapters/test_$(patsubst gymnax0,gymnax,$*).py $(ARGS)

.venv-adapters-%/installed: constraints/adapters-%.txt pyproject.toml
	@$(HAVE_PYTHON)
	"$(PYTHON)" -m venv .venv-adapters-$*
	.venv-adapters-$*/bin/python -m pip install --quiet --requirement $< --editable .
	@touch $@

mutants: install  ## small errors on purpose: does a test find them? hours (ARGS="--sample 5 allocators/rate.py")
	$(BIN)/python -m tests.mutants $(ARGS)

example:  ## another library's learner on ours, measured beside ours (EXAMPLE=rejax_train ARGS="--env partitioning")
	@test -n "$(CLIENT)" || { echo "EXAMPLE: '$(EXAMPLE)' is not valid; choose one of \
	$(foreach example,$(CLIENT_OF),$(firstword $(subst =, ,$(example))))" >&2; exit 2; }
	$(MAKE) .venv-adapters-$(CLIENT)/installed
	.venv-adapters-$(CLIENT)/bin/python examples/$(EXAMPLE).py $(ARGS)

docs:  ## the documentation site, built strictly into site/
	$(MAKE) install EXTRAS=$(EXTRAS),docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

drills: install  ## kills, damaged files, full disks, NaN, fuzzed settings, long play; about an hour (ARGS="drills=fuzz")
	$(BIN)/python -m runs.drills $(ARGS)

gpu:  ## what is worth a GPU: benchmarks, paper-scale trainings, checks; goes on where it stopped
	$(MAKE) install EXTRAS=dev,cuda13
	$(BIN)/python -m runs.gpu publish=docs/results $(ARGS)

wheel: install  ## build dist/*.whl
	rm -rf build
	$(BIN)/python -m build --wheel

clean:  ## remove virtual environments and build outputs
	rm -rf .venv .venv-oldest .venv-newest .venv-adapters-* build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
