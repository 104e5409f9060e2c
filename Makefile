# Everything by hand and everything in CI goes through here: `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv

# Stages and tests start `backbeat` and `dvc` by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# The lock is a list of constraints with hashes for every extra; each call installs the extras it names.
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --require-hashes --constraint requirements.lock \
	--requirement pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup repro evaluate-pretrained check test test-slow bench docs site links format lock dist clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## Make .venv from requirements.lock; TORCH=cpu takes the small build of torch

repro: setup  ## From nothing to a trained and evaluated model, and a described sample library
	backbeat storage check
	dvc repro
	dvc repro data/library/dvc.yaml
	backbeat metrics

# What it is scored on: archives of E-GMD's layout, folders of recordings with annotations. What is not there is named.
EVALUATE_ON ?= ../shared/data/e-gmd-excerpt.zip data/own/held_out_kits.zip data/own/held_out_kits_in_mix.zip ../shared/data/real

evaluate-pretrained: setup  ## Score the packaged model; EVALUATE_ON="ARCHIVE FOLDER" on recordings of your own
	backbeat evaluate-model --skip-absent --json reports/pretrained.json $(EVALUATE_ON)

check: setup  ## Format, lint, types, import contracts, secrets, pipeline and workflow files, documents, file sizes
	ruff format --check .
	ruff check .
	SKIP=format,lint pre-commit run --all-files
	$(MAKE) --no-print-directory site

test: setup  ## Run the tests, a module in each of three processes: some minutes
	pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: setup  ## Run the tests that train for minutes
	pytest -m slow

bench: setup  ## Measure against the usual tools; writes reports/benchmarks.json
	$(INSTALL) --extra bench
	python -m bench

docs: setup  ## Put the output of commands into the documents
	python docs/refresh.py

site: setup  ## Make the documents a site, build/site; a warning is an error
	rm -rf build/site
	sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --fresh-env --doctree-dir build/doctrees docs build/site

links: setup  ## Ask every address in the documents whether it is still there
	sphinx-build --quiet --builder linkcheck --fresh-env --doctree-dir build/doctrees docs build/links

format: setup  ## Format the code, sort its imports
	ruff format .
	ruff check --fix .

lock: setup  ## Resolve the dependencies anew
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-annotate --no-header pyproject.toml --output-file requirements.lock
	echo hatchling | $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header - --output-file .ci/build.lock

dist: $(VENV)/.uv  ## Build the packages, with build tools of known hashes
	rm -rf dist
	$(UV) build --quiet --build-constraints .ci/build.lock --require-hashes

clean:  ## Remove what the targets above made; data, models and DVC's cache stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.uv: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/^[^ ]/{/^uv==/p;/^ /p;}' requirements.lock > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
	touch $@

$(VENV)/.installed: $(VENV)/.uv requirements.lock pyproject.toml
ifeq ($(TORCH),cpu)
	$(UV) pip install --quiet --python $(BIN)/python --torch-backend cpu torch==2.11.0 torchaudio==2.11.0
endif
	$(INSTALL) --extra dev
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@# The stage in the head of each hunk of `git diff dvc.lock`: .gitattributes.
	@git config diff.dvc-lock.xfuncname '^  ([a-z][^:]*):$$' 2>/dev/null || true
	touch $@
