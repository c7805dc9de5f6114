# make run: serve a demo on this machine's loopback.  make test: the tests.  make check: all that CI checks.

PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.ready

.PHONY: run test check check-code format faults fuzz bench clean

run: $(READY)
	$(BIN)/twistd -n --pidfile= mailserver --demo var/demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

check: check-code test

check-code: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(READY)
	MAILSERVER_LONG=1 $(BIN)/python -m pytest tests/faults

fuzz: $(READY)
	MAILSERVER_LONG=1 $(BIN)/python -m pytest tests/fuzz tests/sessions/imap/test_imap_whole_sessions.py \
	  tests/sessions/imap/test_imap_search_model.py tests/sessions/imap/test_imap_fetch_model.py \
	  tests/sessions/imap/test_contexts.py tests/store/test_store_stateful.py tests/store/test_store_columns.py

bench: $(READY)
	$(BIN)/python -m benchmarks

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mailserver needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
