# `make run` and `make test` are all a newcomer needs: Python 3.11 or later with venv, and make.
# Everything else is installed from requirements.lock into .venv, and with apt where that is possible.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Estimators that the memory model is measured beside, each in its own words; nothing else imports them.
RIVALS := $(VENV)/rivals

.PHONY: install run test test-slow lint docs bench bench-hour lock system-packages clean

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpufleet needs Python 3.11 or later; this is %d.%d. Name another with: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m scripts.compile_imports
	@touch $@

run: install
	$(BIN)/gpufleet run --demo

test: install system-packages lint
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadgroup

test-slow: install system-packages
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install
	$(BIN)/python -m scripts.write_metrics_page

bench: install
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.collection
	$(BIN)/python -m benchmarks.mig_planning
	@[ -d $(RIVALS) ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(RIVALS) \
	  vramscout==0.7.0 modelinfo-cli==1.4.4 vramcalc==0.1.2 \
	  || { rm -rf $(RIVALS); echo "Other estimators cannot be installed: our readings of their formulas stand in."; }
	@if [ -d ../shared/reference/memory ]; then PYTHONPATH=$(RIVALS) $(BIN)/python -m benchmarks.memory_model; \
	else echo "No recorded runs of engines beside the project: the memory model is not scored."; fi

# An hour of every source with faults; at its end the store must agree with the simulated cluster's own account.
bench-hour: install
	$(BIN)/python -m benchmarks.endurance

# Only what is missing is installed; without root or sudo the tests that need it say so and are skipped.
system-packages:
	@missing=""; \
	command -v prometheus >/dev/null || missing="$$missing prometheus"; \
	command -v chromium >/dev/null || missing="$$missing chromium fonts-dejavu-core"; \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then echo "Missing for some tests:$$missing (no apt here: install them by hand)"; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as=""; \
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as="sudo"; \
	else echo "Missing for some tests:$$missing (neither root nor sudo: install them by hand)"; exit 0; fi; \
	$$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null \
	  || echo "apt could not install:$$missing; tests that need them are skipped"

# A new lock after a change of dependencies; needs the package uv.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) .gpufleet-demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
