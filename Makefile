# petavox: `make demo` shows it at work, `make test` checks all of it. Both need only python3, make
# and the package registries; both make the virtual environment .venv on their first run.
#
#   make venv        the environment alone, from constraints/cpu.txt
#   make demo        see petavox work on this machine
#   make test        lint, types, floors, the site, tests
#   make docs        the site alone, in site/
#   make test-slow   the tests that take minutes
#   make bench       the benchmarks, in under 40 minutes, and their page docs/benchmarks.md
#
# GPU machines: make venv CONSTRAINTS=constraints/any-torch.txt takes the torch that pip prefers.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints/cpu.txt
STAMP := $(VENV)/.installed
WORKERS ?= 2
CODE := src tests benchmarks docs/hooks.py docs/docstrings.py docs/examples

.PHONY: venv demo docs test test-slow bench lint clean

venv: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit("petavox needs Python 3.11 or newer; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[all,skeletons,tensorboard]" --group dev
	touch $@

demo: $(STAMP)
	$(BIN)/petavox demo demo --overwrite

lint: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# strict: a link that leads nowhere, or a page without a place, is an error
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

test: lint docs
	$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo site
