# make demo: faces in, report out.  make test: lint, types and every test.
# make test-slow: what CI has no time for.  make seeds: the README's table of seeds and ranks.
# make bench-loader, bench-eval, ...: a benchmark of the README, from scripts/.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: demo test test-slow seeds bench-step clean

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
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m 'not slow'

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

seeds: $(VENV)/.demo
	PATH="$(CURDIR)/$(BIN):$$PATH" python scripts/seeds.py

bench-%: $(VENV)/.demo
	PYTHONPATH=. $(BIN)/python scripts/bench_$*.py

clean:
	rm -rf $(VENV) runs reports shards/att-train shards/att-test
