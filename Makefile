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
SITE := $(VENV)/with-site

# The environment's own packages and its own kernel, whatever the user has set.
unexport PYTHONPATH
unexport PYTHONHOME
unexport MPLBACKEND
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export TF_CPP_MIN_LOG_LEVEL := 2

PIP := $(RUN) -m pip --no-input --disable-pip-version-check
IS_311 := import sys; sys.exit(sys.version_info[:2] != (3, 11))
# A process of tests needs up to 2 GB of memory.
SIDE_BY_SIDE = $(RUN) -m pytest -n logical --maxprocesses 4 --dist worksteal
CODE := $(wildcard lib tests docs notebooks benchmarks tools)

.DEFAULT_GOAL := help
STUDY := demo
LAB := notebooks

.PHONY: help setup demo test test-fast study lab board bench bench-step lint format render student site test-site readme lock clean-demo

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
	@$(SIDE_BY_SIDE)

test-fast: $(TESTS) ## run the tests that take less than ten seconds each
	@$(SIDE_BY_SIDE) -m "not slow"

study: setup ## run what is left of a study (STUDY=demo; see docs/studies.md)
	@$(RUN) -m lib.batch run $(STUDY)

lab: setup ## open the notebooks in JupyterLab (LAB=student: those of students)
	@$(RUN) -m jupyterlab --LabApp.default_url=/lab/tree/$(LAB)

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

student: setup ## write the notebooks without solutions and outputs to student/
	@$(RUN) -m tools.student

site: $(SITE) docs/static/mermaid.min.js ## build the pages of the course in site/ (needs npm)
	@$(RUN) -m sphinx -q -b html -c docs . site
	@echo "Open site/docs/index.html."

test-site: site ## look at every page of the site in a browser (needs Chromium)
	@$(RUN) -m pytest docs/browse_site.py

$(SITE): $(STAMP) requirements/site.txt
	@$(PIP) install --quiet -r requirements/site.txt -r requirements/tests.txt
	@touch $@

docs/static/mermaid.min.js:
	@npm pack --silent mermaid@11.17.2 > /dev/null
	@tar -xzf mermaid-11.17.2.tgz package/dist/mermaid.min.js
	@mv package/dist/mermaid.min.js $@; rm -r package mermaid-11.17.2.tgz

readme: setup ## write the tables of README.md and docs anew
	@$(RUN) -m tools.readme

# uv resolves for other machines too; the lists need pip alone. Pins that fit are kept.
# Wheels only, so that no user needs a compiler; manylinux_2_28 is the oldest Linux that
# every pinned wheel still supports.
RESOLVE := uv pip compile - --python-version 3.11 --only-binary :all: --no-strip-markers \
	--quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: ## resolve requirements/*.in for every platform (needs uv)
	@set -e; \
	resolve() { \
		list=requirements/$$1.txt; source=$$2; machine=$$3; shift 3; \
		$(RESOLVE) --python-platform $$machine --output-file $$list $$* > /dev/null; \
		{ echo "# Made by \`make lock\` from $$source.in for Python 3.11; do not edit."; \
		  cat $$list; } > $$list.new; \
		mv $$list.new $$list; echo $$list; \
	}; \
	direct=requirements/direct.in; cuda='s/tensorflow-cpu==/tensorflow[and-cuda]==/'; \
	jax='s/^jax==/jax[cuda12]==/'; \
	linux=x86_64-manylinux_2_28; same="--constraint requirements/linux-cpu.txt"; \
	resolve linux-cpu direct $$linux < $$direct; \
	sed "$$cuda" $$direct | resolve linux-cuda direct $$linux; \
	sed "$$jax" $$direct | resolve linux-cuda-jax direct $$linux $$same; \
	resolve linux-arm64 direct aarch64-manylinux_2_28 < $$direct; \
	resolve macos-arm64 direct aarch64-apple-darwin < $$direct; \
	for name in tests site; do \
		resolve $$name $$name $$linux $$same < requirements/$$name.in; \
	done

clean-demo: ## remove the DEMO corpus and everything made from it
	rm -rf Datasets/DEMO MFCC/DEMO-* Models/DEMO-* logs/DEMO-* Results/DEMO-* Results/demo
