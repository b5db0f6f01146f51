# twofold. `make` alone lists what can be made. Nothing here needs root or leaves this folder, save for make's
# own use of the package registry that your pip is set up with.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# A stamp is newer than pyproject.toml exactly when what pyproject.toml asks for is installed.
CORE   := $(VENV)/.installed-core
ALL    := $(VENV)/.installed-all
CC     ?= cc

# What run.c may look like: readable in an evening, and no warning from any compiler at hand.
RUN_C        := src/twofold/run/run.c
RUN_C_LINES  := 700
RUN_C_WIDTH  := 120
RUN_C_STRICT := -std=c11 -O2 -Wall -Wextra -pedantic -Werror

.DEFAULT_GOAL := help
.PHONY: help install run test lint lint-python lint-c web web-dev docs bench bench-improve bench-prefer demo soak clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: $(CORE) ## make .venv with what talking to a model needs (no torch)
	@echo "Installed. $(BIN)/twofold lists its commands."

run: $(CORE) ## install if need be, then open the web app with the model in the box, offline (without a terminal: one answer)
	@if [ -t 0 ]; then \
	    echo "Opening the web app. From here on nothing uses the network. In the terminal: $(BIN)/twofold chat"; \
	    exec $(BIN)/twofold serve --open; \
	else \
	    echo "Without a terminal the model in the box answers once: twofold chat. Nothing uses the network."; \
	    $(BIN)/twofold chat; \
	fi

test: $(ALL) ## install if need be (torch too), then run the tests
	@echo "Running the tests: pytest in $(WORKERS) processes."
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

lint: lint-python lint-c ## formatting, types, import contracts, and run.c without a warning

lint-python: $(ALL)
	@echo "Python: ruff, mypy, import-linter."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lint-c:
	@echo "run.c: at most $(RUN_C_LINES) lines of at most $(RUN_C_WIDTH) columns, and no warnings."
	@awk -v lines=$(RUN_C_LINES) -v width=$(RUN_C_WIDTH) ' \
	    length($$0) > width { printf "%s:%d: %d columns\n", FILENAME, FNR, length($$0); bad = 1 } \
	    END { if (FNR > lines) { printf "%s: %d lines, %d at most\n", FILENAME, FNR, lines; bad = 1 } exit bad }' $(RUN_C)
	@for cc in gcc clang; do \
	    command -v $$cc > /dev/null || continue; \
	    for flags in "" "-march=native" "-march=native -DTF_LIBRARY -fPIC"; do \
	        echo "  $$cc $(RUN_C_STRICT) $$flags"; \
	        $$cc $(RUN_C_STRICT) $$flags -c $(RUN_C) -o /dev/null || exit 1; \
	    done; \
	done

docs: $(ALL) ## write the parts of README.md and docs/ that are generated
	@$(BIN)/python docs/generate.py

# The built app is committed: who uses or changes the Python side needs no node.
web: web/node_modules ## build the web app (needs node 20 or later) into src/twofold/serve/static
	@cd web && npm run --silent build

web-dev: web/node_modules ## the web app from its sources, anew at each change; beside it, `twofold serve` on port 8080
	@cd web && npm run --silent dev

web/node_modules: web/package-lock.json
	@command -v npm > /dev/null || { echo "Building the web app needs node 20 or later, with npm."; exit 1; }
	@cd web && npm ci --no-audit --no-fund && touch node_modules

# A benchmark is a script of benchmarks/ that can be run; *_worker, *_judge and *_twofold are parts that it starts itself.
bench: $(ALL) ## compare with rivals: every benchmark in benchmarks/, in turn (the first time builds llama.cpp)
	@sh benchmarks/rivals.sh
	@for script in $$(grep -l '^if __name__ == "__main__"' benchmarks/*.py | grep -vE '_(worker|judge|twofold)\.py'); do \
	    echo "== $$script"; $(BIN)/python "$$script" || exit 1; \
	done

bench-improve: $(ALL) ## what time and rewards bring: three seeds each of two studies, about an hour; goes on by the same command
	@$(BIN)/python recipes/time_for_accuracy.py --seeds 3 --out runs/time-for-accuracy
	@$(BIN)/python recipes/pass_the_teacher.py --seeds 3 --out runs/pass-the-teacher

bench-prefer: $(ALL) ## preferences: sums whose truth is known, and what people chose (in ../shared/data); goes on by the same command
	@$(BIN)/python recipes/preferences.py sums --out runs/preferences
	@$(BIN)/python recipes/preferences.py people --out runs/preferences

demo: $(ALL) ## the talk's demo, offline: funding rounds found, completed, plotted and drawn by the researcher app
	@$(BIN)/python recipes/talk_demo.py

soak: $(ALL) ## the long tests: fuzzing, kill -9, every script in tests/soak/, in turn
	@for script in tests/soak/[a-z]*.py tests/soak/[a-z]*.sh; do \
	    case "$$script" in *'*'*) continue ;; esac; \
	    echo "== $$script"; \
	    case "$$script" in *.py) $(BIN)/python "$$script" ;; *.sh) PATH="$(abspath $(BIN)):$$PATH" bash "$$script" ;; esac || exit 1; \
	done

clean: ## remove what was built and installed here (runs/ stays)
	rm -rf $(VENV) .venv-bench build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# --- installing

# Two workers at least; each is one process with one torch thread (tests/conftest.py).
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2> /dev/null || echo 2); echo $$(( n > 8 ? 8 : n < 2 ? 2 : n )))

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	    echo "twofold needs Python 3.11 or later, and \`$(PYTHON)\` is not that: name one, as in \`make run PYTHON=python3.12\`."; exit 1; }
	@echo "Making a Python environment in $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "Python could not make the environment; on Debian and Ubuntu, install python3-venv first."; exit 1; }

$(CORE): pyproject.toml | $(BIN)/python
	@echo "Installing twofold and what talking to a model needs (no torch)."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e .
	@touch $@

$(ALL): pyproject.toml | $(BIN)/python
	@echo "Installing twofold with what training and checking need (torch is large: this can take minutes)."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[train,os,dev]'
	@touch $(CORE) $@
