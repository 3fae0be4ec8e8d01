# make demo   create .venv, install, separate the shipped recordings
# make test   create .venv, install the extra `dev`, run the tests; those of pesq, asteroid and
#             torchaudio, which it leaves out, are skipped (.ci/run adds the first two)
# make lint   the checks that CI runs before the tests
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint format clean

demo: $(VENV)/.installed-demo
	$(PY) -m recipes.demo

test: $(VENV)/.installed-dev
	$(PY) -m pytest

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.installed-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) build dist demo-output .mypy_cache .pytest_cache .ruff_cache

$(PY):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -e '.[plot,evaluate]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -e '.[$(EXTRAS)]'
	touch $@
