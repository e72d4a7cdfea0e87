# make run    a server with the settings of conf/shardkv.conf and its data in ./data (ARGS="--port 7000 …" for others)
# make test   style, types, tests
# make bench  side by side with redis-server (ARGS="throughput --rounds 3 …"; see make bench ARGS=--help)
# The first of them sets everything up in ./.venv.

PYTHON ?= python3
ARGS ?=
VENV := .venv
READY := $(VENV)/.ready

.PHONY: run test bench clean

run: $(READY)
	mkdir -p data
	$(VENV)/bin/shardkv conf/shardkv.conf --dir data $(ARGS)

test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest $(ARGS)

bench: $(READY)
	$(VENV)/bin/python -m bench $(ARGS)

clean:
	rm -rf $(VENV)

# Again whenever what is to be installed has changed. ensurepip is what Debian leaves out of its python3.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null || { \
		echo "make: $(PYTHON) must be Python 3.11 or newer, with venv. On Debian: apt-get install python3 python3-venv" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@
