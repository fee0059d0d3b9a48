# `make demo` and `make test` do all set-up themselves; it is redone when the lock file or pyproject.toml changes.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-all tex gpu-check bench lint figures setup clean

demo: setup
	$(BIN)/centralflow demo

test: setup
	$(BIN)/pytest -m "not slow and not gpu and not tex"

test-all: setup
	$(BIN)/pytest

tex: setup
	@command -v pdflatex >/dev/null || { echo "pdflatex is not installed: install TeX Live (on Debian and Ubuntu: apt-get install texlive-latex-base texlive-latex-recommended)"; exit 1; }
	$(BIN)/pytest -m tex

gpu-check: setup
	$(BIN)/python -m tests.benchmarks.gpu_check

bench: setup
	$(BIN)/python -m tests.benchmarks.sdcp_table
	$(BIN)/python -m tests.benchmarks.speed
	$(BIN)/python -m tests.benchmarks.long_steps
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.fused
	$(BIN)/python -m tests.benchmarks.stepping
	$(BIN)/python -m tests.benchmarks.fixed_point_table

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy theory numerics derivations

figures: setup
	$(BIN)/python -m tests.benchmarks.protocol
	$(BIN)/python -m tests.benchmarks.momentum

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
