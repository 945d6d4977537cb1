# make demo | test | bench: each makes .venv if there is none, installs what it needs, and runs.
#
# The install is editable: Python files are used where they lie, so only a change of the build or of
# the kernels (BUILD_INPUTS) installs again.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?=
PYTEST ?=

BUILD_INPUTS := pyproject.toml setup.py \
	$(filter-out %.so,$(wildcard kernels/cpu/*.* kernels/cells/*.h))

.PHONY: help demo test bench lint sanitize wheel clean

help:
	@echo "make demo      a recurrent network learns handwritten digits (DEMO='--model lstm' for options)"
	@echo "make test      the test suite (PYTEST='-k rnn' for options)"
	@echo "make bench     the benchmarks"
	@echo "make lint      ruff, mypy, cython-lint"
	@echo "make sanitize  the test suite under the address and undefined-behaviour sanitizers"
	@echo "make wheel     dist/*.whl"
	@echo "make clean     remove what the others made, .venv included"

demo: $(VENV)/.installed-demo
	$(BIN)/python -m fastnn demo $(DEMO)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m pytest bench --benchmark-only $(PYTEST)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint kernels

# ASan must be the first library of the process, and finds C++ exceptions only if libstdc++ is there
# from the start. Python frees little at exit, so leaks are not looked for. A report ends the process,
# so pytest must not hold stderr back (--capture=sys), or nobody would read it.
SANITIZED := $(VENV)-sanitize
PRELOAD = $(shell $(CC) -print-file-name=libasan.so) $(shell $(CC) -print-file-name=libstdc++.so)

sanitize: $(SANITIZED)/.installed
	LD_PRELOAD="$(PRELOAD)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	$(SANITIZED)/bin/pytest --capture=sys $(PYTEST)

$(SANITIZED)/.installed: $(BUILD_INPUTS) $(shell find fastnn kernels -name '*.py') | $(SANITIZED)/bin/python
	FASTNN_SANITIZE=1 $(SANITIZED)/bin/python -m pip install --quiet '.[test]'
	@touch $@

wheel: | $(BIN)/python
	rm -rf build/lib.* build/bdist.*
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

clean:
	rm -rf build dist runs *.egg-info $(VENV) $(SANITIZED) .pytest_cache .mypy_cache .ruff_cache
	rm -rf .hypothesis .benchmarks
	find kernels -name '*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed-%: $(BUILD_INPUTS) $(VENV)/.build-tools
	@echo "installing fastnn[$*] into $(VENV) (compiles the kernels: a minute or two the first time)"
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[$*]'
	@touch $@

# In the environment and not in pip's isolated one, which is fresh each time, headers and all: every
# kernel would be compiled anew whenever one changes.
$(VENV)/.build-tools: pyproject.toml | $(BIN)/python
	@$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
		print(*project["build-system"]["requires"], sep="\n")' > $@.txt
	$(BIN)/python -m pip install --quiet --requirement $@.txt
	@touch $@

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		f"[make] {sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $*
