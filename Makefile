# Three commands for a newcomer: make demo, make test, make check. Each builds .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
QUICK := tests/test_house.py tests/test_masks.py tests/test_support.py tests/test_plan.py tests/test_plan_files.py tests/test_definition.py

.PHONY: demo test check test-slow format numbers clean

demo: .venv/ready
	$(BIN)/saccade demo

test: .venv/ready
	$(BIN)/python -m pytest --durations=5

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(QUICK)

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow --timeout 3600

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

numbers: .venv/ready
	$(BIN)/python -m benchmarks.real

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Saccade needs Python 3.11 or newer, this is %s; run make PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist out *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
