# The tasks; README, pixi.toml and .ci/run call these. `make help` lists them.
#
# Everything is set up on first use, under .venv, and again only when what it
# was made from has changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
ZIG := $(BIN)/python -m ziglang
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# `-m` and scripts must find the installed package, never the source tree.
export PYTHONSAFEPATH := 1

# Folders are among the sources, for a file that goes is a change too.
SOURCES := $(shell find src lua python -name __pycache__ -prune -o \
	\( -type d -o -name '*.zig' -o -name '*.lua' -o -name '*.py' -o -name '*.pyi' -o -name py.typed \) -print) \
	$(wildcard build/*.zig) build.zig build.zig.zon pyproject.toml hatch_build.py README.md LICENSE

.PHONY: help demo test bench lint build wheel clean system

help: ## List the tasks
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

demo: $(VENV)/installed ## Index, read and check real files; DATA=path for your own shards
	@$(BIN)/python tools/demo.py $(if $(DATA),--data "$(DATA)")

test: $(VENV)/installed $(VENV)/dev ## Run the tests of the engine, then those of the installed package
	$(ZIG) build indexer test --summary all
	$(BIN)/pytest
	for access in mmap direct; do ULTAR_TEST_ACCESS=$$access $(BIN)/pytest -q $(ACCESS_TESTS); done

# What must hold however bytes reach rows; `tests/conftest.py` reads ULTAR_TEST_ACCESS.
# Scripts last: some of them loop forever and keep their threads busy.
ACCESS_TESTS := tests/test_row.py tests/test_facade.py tests/test_properties.py tests/test_lua_modules.py tests/test_dataset.py \
	tests/faults/test_lifetime.py tests/faults/test_storage.py tests/faults/test_scripts.py

bench: $(BENCH)/installed $(BENCH)/peers ## Compare with other loaders; ARGS="--lines A,C", see benchmarks/README.md
	@PYTHONPATH="$(CURDIR)" $(BENCH)/bin/python -m benchmarks.run --json build/bench/result.json $(ARGS)

lint: $(VENV)/dev ## Check format, style and types
	$(ZIG) fmt --check src build build.zig build.zig.zon
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

build: $(VENV)/base | system ## Build for development: zig-out, and the extension in the source tree
	$(ZIG) build
	cp zig-out/python/_native.abi3.so python/ultar_dataloader/

wheel: $(VENV)/dev | system ## Make a wheel in wheelhouse/, and try it in an empty environment
	rm -rf dist wheelhouse build/smoke
	$(BIN)/python -m build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --wheel-dir wheelhouse dist/*.whl
	$(PYTHON) -m venv build/smoke
	build/smoke/bin/pip install --quiet wheelhouse/*.whl
	build/smoke/bin/ultar-dataloader --version
	build/smoke/bin/python tools/demo.py --files 200
	rm -rf build/smoke

clean: ## Remove all that the tasks made
	rm -rf $(VENV) $(BENCH) .zig-cache zig-out dist wheelhouse build/bench build/demo build/smoke python/ultar_dataloader/*.so

$(VENV)/bin/python: | system
	$(PYTHON) -m venv $(VENV)

# What building and running need, then what testing and checking need: the lists
# are those of pyproject.toml.
$(VENV)/base: pyproject.toml | $(VENV)/bin/python
	@$(call install_requirements,*p['build-system']['requires'] + p['project']['dependencies'])
	@touch $@

$(VENV)/dev: pyproject.toml $(VENV)/base
	@$(call install_requirements,*[one for extra in ('images', 'test', 'test-torch', 'dev') for one in p['project']['optional-dependencies'][extra]])
	@touch $@

define install_requirements
$(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print($(1), sep='\n')" > $@.txt; \
echo "installing: $$(tr '\n' ' ' < $@.txt)"; \
$(BIN)/pip install --quiet --requirement $@.txt
endef

# Without isolation, so that the compiler's cache and Zig itself are found again.
$(VENV)/installed: $(SOURCES) $(VENV)/base | system
	@echo "building and installing the package (the first time takes a minute or two)"
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	@touch $@

# The package as built for .venv, and the peers that can be had: apart, as they are heavy.
$(BENCH)/bin/python: | system
	$(PYTHON) -m venv $(BENCH)

$(BENCH)/installed: $(VENV)/installed | $(BENCH)/bin/python
	@rm -rf $(BENCH)/wheel
	@$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(BENCH)/wheel .
	@$(BENCH)/bin/pip install --quiet --force-reinstall $(BENCH)/wheel/*.whl
	@touch $@

$(BENCH)/peers: $(wildcard benchmarks/peers/*.py) benchmarks/install.py | $(BENCH)/installed
	@PYTHONPATH="$(CURDIR)" $(BENCH)/bin/python -m benchmarks.install
	@touch $@

# What comes from the system rather than from PyPI.
system:
	@PYTHON=$(PYTHON) bash tools/system.sh
