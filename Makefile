# One command for each job, the same on a laptop and in CI. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UNITS := tests/core tests/config tests/formats tests/storage tests/service tests/observe
# Four at a time, for half of the time is waiting. worksteal keeps a file's tests together, and with
# them its servers.
TESTS := $(BIN)/python -m pytest -n 4 --dist worksteal -m 'not slow'
# Else each of the four rewrites the assertions of all tests in each run, 7 s of a processor.
unexport PYTHONDONTWRITEBYTECODE
# Debian keeps venv's installer in a package of its own; root or sudo may fetch it.
APT := $(if $(filter 0,$(shell id -u)),apt-get,sudo apt-get)

define make_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "zerocopy needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	|| { $(APT) update && $(APT) install -y python3-venv; } \
	|| { echo "python3 -m venv needs Debian's package python3-venv"; exit 1; }
$(PYTHON) -m venv $(VENV)
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test test-tools test-moto test-ktls test-units slow lint bench load clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with everything the other commands need

$(VENV)/.installed: pyproject.toml constraints.txt
	$(make_venv)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,load,bench]'
	@touch $@

# What runs, without what tests: a newcomer need not wait for that.
$(VENV)/.runs: pyproject.toml constraints.txt
	$(make_venv)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[auth,client,formats,import]'
	@touch $@

demo: $(if $(wildcard $(VENV)/.installed),install,$(VENV)/.runs) ## a chart of sample data that grows, a running server; Ctrl-C stops
	$(BIN)/zerocopy demo

test: install ## every test of the server but the slow ones
	$(TESTS) --ignore tests/tools --ignore tests/ktls

test-tools: install ## the tests of bench, load test and container
	$(TESTS) tests/tools

# In a venv of its own, and without constraints.txt: botocore wants python-dateutil below 3, and pip
# would look for one that does not for a quarter of an hour.
test-moto: install ## the object store over moto's S3, which this installs below var/
	$(PYTHON) -m venv var/moto
	var/moto/bin/python -m pip install --quiet 'moto[s3]==5.2.5' flask flask-cors
	MOTO_SERVER=var/moto/bin/moto_server $(BIN)/python -m pytest tests/tools/test_moto.py tests/tools/test_whole_cluster.py

test-ktls: install ## kernel TLS in a virtual machine; skipped, with the reason, where that cannot run
	$(BIN)/python -m pytest tests/ktls

test-units: install ## the tests of single modules: what another Python has to pass
	$(TESTS) $(UNITS)

slow: install ## the tests that run for minutes
	$(BIN)/python -m pytest -m slow
	PROPERTY_EXAMPLES=2000 $(BIN)/python -m pytest -m 'hypothesis and not slow' --timeout 900

lint: install ## style, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## side by side with nginx, stock Hypercorn and uvicorn; some 35 minutes
	@mkdir -p var
	$(BIN)/python -m bench --markdown var/bench.md --svg var/bench.svg

load: install ## locust on both paths of a server of its own, a report and a verdict
	$(BIN)/python loadtest/run.py

clean: ## remove what the other commands made
	rm -rf $(VENV) var .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
