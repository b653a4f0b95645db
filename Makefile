# Two commands for a newcomer: `make report` and `make test`.
# They need Python >= 3.11 with venv and pip, nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
ARGS ?=
OLDER := NUMBA_CPU_NAME=nehalem NUMBA_CPU_FEATURES=+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2

# Compiled kernels live inside the environment, so that `rm -rf .venv` really resets.
export MINIRNN_CACHE_DIR ?= $(CURDIR)/$(VENV)/kernels

.DEFAULT_GOAL := help
.PHONY: help report gallery test test-alone nojit lint conformance browser bench bench-quick clean

help:
	@echo "make report       train six small models on real text, write report.html (TEXT=path for a text of yours)"
	@echo "make gallery      the figures of the lecture notes, computed anew, on one page: gallery.html"
	@echo "make test         the tests, without PyTorch (ARGS='-k lstm' picks some)"
	@echo "make lint         ruff and mypy"
	@echo "make conformance  every cell, dtype and vector width, and the comparisons with PyTorch and ONNX"
	@echo "make browser      reports, comparison and gallery in headless Chromium, where there is one on PATH"
	@echo "make nojit        the tests with the JIT switched off: layers run the reference"
	@echo "make bench        measure beside PyTorch, JAX and others, write the tables (half an hour)"
	@echo "make bench-quick  a few shapes, nothing written (ARGS=--benchmark-compare: beside the last run)"
	@echo "make clean        remove what the commands above wrote (rm -rf .venv for the rest)"

# pip records the extras by pyproject.toml alone: an edit there installs again, an edit of the sources does not.
$(VENV)/.stamp: pyproject.toml
	@echo "making the environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e '.[test]'
	@touch $@

# Where several are asked for, one after the other: two installations must not write at once.
$(VENV)/.dev: $(VENV)/.stamp
	@$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.torch: $(VENV)/.stamp | $(if $(filter lint,$(MAKECMDGOALS)),$(VENV)/.dev)
	@echo "adding PyTorch 2.13.0 (README, \"Comparing with PyTorch\")"
	@$(PIP) torch==2.13.0
	@touch $@

report: $(VENV)/.stamp
	@$(PY) -m diagnostics demo --out report.html $(if $(TEXT),--text "$(TEXT)") $(ARGS)

gallery: $(VENV)/.stamp
	@$(PY) -m diagnostics gallery --out gallery.html $(ARGS)

test: $(VENV)/.stamp
	$(PY) -m pytest $(ARGS)

# In an environment of its own, whatever has been added to this one for comparisons.
test-alone:
	@$(MAKE) VENV=$(VENV)/alone test

nojit: $(VENV)/.stamp
	NUMBA_DISABLE_JIT=1 $(PY) -m pytest $(ARGS)

# Skips, visibly, where there is no Chromium. MINIRNN_SCREENSHOTS=folder keeps what it saw.
browser: $(VENV)/.stamp
	MINIRNN_BROWSER=1 $(PY) -m pytest tests/browser $(ARGS)

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# After PyTorch, so that two installations never write at once.
$(VENV)/.interop: $(VENV)/.torch
	@$(PIP) -e '.[interop]'
	@touch $@

# Every part may run beside the others (make -j2 conformance): PyTorch beside everything that has a
# twin there; one process per vector width, 4, 8 and 16 lanes of float32, of which diagnostics, which
# see arrays only, need one; a processor without AVX and fused multiply-add. pytest answers 5 where
# ARGS picks no test of a run.
WIDTHS := conformance-512 conformance-256 conformance-128
.PHONY: conformance-torch conformance-older $(WIDTHS)
conformance: conformance-torch $(WIDTHS) conformance-older

conformance-torch: $(VENV)/.torch $(VENV)/.interop
	MINIRNN_CONFORMANCE=1 $(PY) -m pytest -m torch $(ARGS) || [ $$? -eq 5 ]

$(WIDTHS): conformance-%: $(VENV)/.torch $(VENV)/.interop
	MINIRNN_CONFORMANCE=1 MINIRNN_VECTOR_BITS=$* $(PY) -m pytest tests/conformance \
	    $(if $(filter 512,$*),,--ignore=tests/conformance/test_diagnostics.py) $(ARGS) || [ $$? -eq 5 ]

conformance-older: $(VENV)/.torch $(VENV)/.interop
	@if [ "$$(uname -m)" = x86_64 ]; then \
	    echo "an older processor: no AVX, no fused multiply-add"; \
	    $(OLDER) $(PY) -m pytest tests/conformance/test_naive_loops.py tests/conformance/test_vector_functions.py \
	        $(ARGS) || [ $$? -eq 5 ]; \
	fi

$(VENV)/.bench: $(VENV)/.torch
	@$(PIP) -e '.[bench]'
	@touch $@

# One process per number of threads, then the tables; on a machine that does nothing else.
bench: $(VENV)/.bench
	$(PY) -m bench $(ARGS)

bench-quick: $(VENV)/.bench
	$(PY) -m bench --quick $(ARGS)

clean:
	rm -rf $(VENV)/kernels .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build dist
	rm -f report.html report.json gallery.html
	find minirnn diagnostics bench tests -name __pycache__ -type d -prune -exec rm -rf {} +
