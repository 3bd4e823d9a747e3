# Each target sets up what it needs; the first one takes a few minutes to install torch.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock
SOURCE ?=
PORT   ?= 8000
NAME   ?= neighbours

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format bench lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "lookalike needs Python 3.11 or later: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make $(VENV): on Debian and Ubuntu, install python3-venv"; exit 1; }

$(VENV)/.demo: $(VENV)/bin/python setup.cfg pyproject.toml requirements.lock
	@echo "installing lookalike into $(VENV) (once; about 6 GB, some minutes)"
	@$(PIP) -e '.[faiss]'
	@$(PIP) -e '.[faiss,openvino]' || echo "no package of OpenVINO for this system: torch runs the network"
	@touch $@

$(VENV)/.test: $(VENV)/bin/python setup.cfg pyproject.toml requirements.lock
	@echo "installing lookalike and its test tools into $(VENV) (once; about 6 GB, some minutes)"
	@$(PIP) -e '.[test,bench]'
	@touch $@

demo: $(VENV)/.demo ## Draw a saree catalogue, index it, open the page (SOURCE=folder: your own photos; PORT=8000)
	$(BIN)/lookalike demo --port $(PORT) $(if $(SOURCE),"$(SOURCE)")

test: lint ## Lint, types, and the tests (some minutes on two cores)
	$(BIN)/python -m pytest -q -n 2

test-slow: $(VENV)/.test ## The tests that take minutes each
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/.test ## Lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test ## Lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test ## Run one benchmark: NAME=neighbours or NAME=ingest
	$(BIN)/python -m benchmarks $(NAME)

lock: $(VENV)/.test ## Write requirements.lock from what is installed
	{ grep '^#' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
