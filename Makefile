# make demo: faces in, report out.  make test: lint, types and every test.
# make seeds: the README's table of seeds and ranks.  make test-slow: what CI has no time for.
# make bench-checkpoint: how fast 2M identities reach the disk, and in how much memory.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: demo test test-slow seeds bench-checkpoint clean

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.demo
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

test: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -m 'not slow'

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

seeds: $(VENV)/.demo
	PATH="$(CURDIR)/$(BIN):$$PATH" python scripts/seeds.py

bench-checkpoint: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python scripts/bench_checkpoint.py

clean:
	rm -rf $(VENV) runs reports shards/att-train shards/att-test
