# Python 3.11 and make are all that is assumed. `make` lists what there is.
# It works with GNU make 3.81, the one that macOS has.

VENV := .venv
RUN := $(VENV)/bin/python

# A user's environment may hold variables of these names for other purposes, so
# they count on the command line only: make setup PLATFORM=linux-cpu
ifneq ($(origin PYTHON),command line)
PYTHON :=
endif
ifneq ($(origin PLATFORM),command line)
# What is installed stays, else a choice made once would be undone by `make lab`.
PLATFORM := $(firstword $(patsubst $(VENV)/installed-%,%,$(wildcard $(VENV)/installed-*)))
endif
ifeq ($(PLATFORM),)
PLATFORM := $(shell \
	case "$$(uname -s)-$$(uname -m)" in \
	(Darwin-arm64) echo macos-arm64 ;; \
	(Linux-aarch64|Linux-arm64) echo linux-arm64 ;; \
	(Linux-x86_64) \
		if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; \
		then echo linux-cuda; else echo linux-cpu; fi ;; \
	(*) echo "no-list-for-$$(uname -s)-$$(uname -m)" ;; \
	esac)
endif
LIST := requirements/$(PLATFORM).txt
STAMP := $(VENV)/installed-$(PLATFORM)
# What only the tests need is installed when they are run.
TESTS := $(VENV)/with-tests

# The environment's own packages and its own kernel, whatever the user has set.
unexport PYTHONPATH
unexport PYTHONHOME
unexport MPLBACKEND
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export TF_CPP_MIN_LOG_LEVEL := 2

PIP := $(RUN) -m pip --no-input --disable-pip-version-check
IS_311 := import sys; sys.exit(sys.version_info[:2] != (3, 11))
CODE := $(wildcard lib tests notebooks benchmarks tools)

.DEFAULT_GOAL := help
STUDY := demo

.PHONY: help setup demo test test-fast study lab board bench bench-step lint format render readme lock clean-demo

help: ## list the commands
	@echo "make <command>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install the pinned packages of this platform

$(STAMP): $(LIST)
	@set -e; \
	found=""; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.11 python3 python); do \
		if "$$candidate" -c '$(IS_311)' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Python 3.11 was not found (tried: $(if $(PYTHON),$(PYTHON),python3.11 python3 python))." >&2; \
		echo "Install it, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	clear=""; quiet="$(if $(CI),--quiet)"; \
	if [ -e $@ ]; then quiet=--quiet; fi; \
	if [ -e $(VENV) ] && ! $(RUN) -c '$(IS_311)' >/dev/null 2>&1; then clear=--clear; fi; \
	for stamp in $(VENV)/installed-*; do \
		if [ -e "$$stamp" ] && [ "$$stamp" != "$@" ]; then clear=--clear; fi; \
	done; \
	echo "Installing $(LIST) into $(VENV) (a few minutes the first time) ..."; \
	"$$found" -m venv $$clear $(VENV); \
	$(PIP) install $$quiet -r $(LIST); \
	touch $@; \
	echo "Ready: $(VENV) holds $(LIST)."

$(TESTS): $(STAMP) requirements/tests.txt
	@$(PIP) install --quiet -r requirements/tests.txt
	@touch $@

requirements/%.txt:
	@echo "There is no list requirements/$*.txt. Known platforms:" >&2
	@ls requirements | sed -n 's/^\(linux-.*\|macos-.*\)\.txt$$/  \1/p' >&2
	@exit 1

demo: setup ## generate the DEMO corpus and run notebooks 01 to 05 on it
	@$(RUN) -m tools.demo

test: $(TESTS) ## run all tests
	@$(RUN) -m pytest

test-fast: $(TESTS) ## run the tests that take less than ten seconds each
	@$(RUN) -m pytest -m "not slow"

study: setup ## run what is left of a study (STUDY=demo; see docs/studies.md)
	@$(RUN) -m lib.batch run $(STUDY)

lab: setup ## open the notebooks in JupyterLab
	@$(RUN) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks

board: setup ## open TensorBoard on the training logs
	@$(RUN) -m tensorboard.main --logdir logs

bench: setup ## run all benchmarks and compare with their targets (about 15 minutes)
	@$(RUN) -m benchmarks.suite

bench-step: setup ## time one training step, as 02_train runs it
	@$(RUN) -m benchmarks.step

lint: $(TESTS) ## check style and formatting
	@$(RUN) -m ruff check $(CODE)
	@$(RUN) -m ruff format --check $(CODE)

format: $(TESTS) ## repair style and formatting where a tool can
	@$(RUN) -m ruff check --fix $(CODE)
	@$(RUN) -m ruff format $(CODE)

render: setup ## run the notebooks and keep their outputs (NAMES="02 03" for some)
	@$(RUN) -m tools.render $(NAMES)

readme: setup ## write the tables of README.md and docs anew
	@$(RUN) -m tools.readme

lock: setup ## resolve requirements/*.in for every platform (needs uv)
	@$(RUN) -m tools.lock

clean-demo: ## remove the DEMO corpus and everything made from it
	rm -rf Datasets/DEMO MFCC/DEMO-* Models/DEMO-* logs/DEMO-* Results/DEMO-* Results/demo
