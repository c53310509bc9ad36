# make demo: install, index a small media folder, search it.   make test: lint, types and tests.
# make check: lint, types and the fast tests, in about a minute.
# They install the versions of constraints.txt; with LOCK= they keep what is installed and fits pyproject.toml.
# make docs: generate docs/cli.md and docs/api.md, and build the site into site/.
# make mutants: change the code in a sample of places, for 10 minutes, and list the changes that no test notices.
# make lock: renew constraints.txt.   make test-latest: test with the newest versions that pyproject.toml allows.
PYTHON ?= python3
VENV ?= .venv
LOCK ?= constraints.txt
JOBS ?= 2
BIN := $(VENV)/bin
# older pips hold build tools to the first variable too, newer ones to the second
PIP_INSTALL := $(if $(LOCK),PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK)) $(BIN)/python -m pip install --quiet
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# folders and files of tests that hardly start a process or build an index
FAST := $(addprefix tests/,test_architecture.py docs/test_reference.py docs/test_links.py test_former_names.py test_words.py \
    indexes/test_cost_model.py indexes/test_exact.py indexes/test_parameters.py indexes/test_row_mask.py indexes/test_words.py \
    ingest/inspect ingest/media/imu ingest/media/pictures ingest/media/test_file_tags.py ingest/media/test_sidecar.py \
    ingest/media/test_sniff.py ingest/media/test_text.py ingest/scan/test_ignore.py search/test_explain.py \
    search/test_filter.py search/test_planner.py search/test_query.py search/sql_filter encoders/test_registry.py)

.PHONY: demo check fast test test-latest mutants lint format docs lock clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

# the profile "ci" of Hypothesis draws the same examples each time; plain pytest draws new ones. Tests of one file share
# what they prepare, so they run in one process
test: lint
	$(BIN)/python -m pytest --hypothesis-profile=ci --numprocesses $(JOBS) --dist loadfile

check: $(VENV)/.dev
	$(MAKE) --jobs 2 lint fast

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -q $(FAST)

test-latest:
	rm -rf .venv-latest
	$(MAKE) test VENV=.venv-latest LOCK=

mutants: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants.py --seconds 600 --seed 0 --workers 2

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/check_types.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet 'uv>=0.13,<0.14'
	.venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --no-annotate \
	    --custom-compile-command 'make lock' --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) .venv-latest .venv-lock demo build site *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# without the lock no mark is left, so that the next run with it installs its versions
$(VENV)/.demo: pyproject.toml $(LOCK) | $(BIN)/python
	$(PIP_INSTALL) -e '.[demo]'
	$(if $(LOCK),touch $@)

$(VENV)/.dev: pyproject.toml $(LOCK) | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	$(if $(LOCK),touch $@)
