# Every target depends on .venv, which needs only Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint docs bench bench-peers notebooks coverage dist clean

demo: .venv
	$(BIN)/python -m experiments lrt-stages --config demo

test: .venv
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

test-slow: .venv
	$(BIN)/python -m pytest -q -m slow

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy slt_jax slt_lab experiments configs

docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --clean

bench: .venv
	$(BIN)/python benchmarks/throughput.py

bench-peers: .venv
	PYTHON=$(PYTHON) sh benchmarks/peers/setup.sh

notebooks: .venv
	$(BIN)/python -m pytest -q tests/test_notebooks.py

coverage: .venv
	$(BIN)/python -m pytest -n 2 --dist loadfile -q --cov=slt_jax --cov=slt_lab --cov-report=term:skip-covered

dist: .venv
	PYTHON=$(PYTHON) sh scripts/try_the_wheel.sh

.venv: .venv/.installed
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs]'
	touch $@

clean:
	rm -rf .venv build dist runs .pytest_cache .mypy_cache .ruff_cache
