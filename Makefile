# The template's own commands; `make` alone lists them.
# They run in .venv, which is made from requirements-dev.lock.

# Any Python >= 3.11 will do; the oldest present is taken, so that nothing newer slips in.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$name" && break; done)
override PYTHON := $(PYTHON)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

SKELETON = {{cookiecutter.project_slug}}
LINTED = halfsync hooks local_extensions.py needs_cookiecutter_2_1_or_newer.py scripts bench tests
STYLE = --config pyproject.toml
ARGS =
# Tests take all cores, and one process more, as many wait; but each process makes some things of its own.
CORES = --numprocesses $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4))) --dist loadfile
source = { "$(PYTHON)" -VV; cat requirements-dev.lock; }

.DEFAULT_GOAL = help
.PHONY: help demo test slow bench overload rpcbench abuse fuzz mutate newest restarts lint format wheel example release locks clean setup

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: setup ## generate a service, build it, run it, look inside, stop it; it is left in ./demo-service
	@.venv/bin/python scripts/demo.py --python "$(PYTHON)" $(ARGS)

test: setup ## run all tests but the slow ones; one of them: make test ARGS="tests/test_answers.py -k slug"
	@command -v ssh >/dev/null || { echo "There is no ssh client, and some tests need one. Debian, Ubuntu: \
	apt install openssh-client" >&2; exit 1; }
	@found=5; for suite in halfsync .; do \
	  (cd $$suite && "$(CURDIR)/.venv/bin/python" -m pytest --timeout 600 $(CORES) -m "not slow" $(ARGS)); code=$$?; \
	  case $$code in 0) found=0;; 4|5) ;; *) exit $$code;; esac; \
	done; exit $$found

slow: setup ## run the tests that take long: make demo, a release, other Pythons, files for every platform, Pants where there is a Python 3.9
	@.venv/bin/python -m pytest --timeout 600 $(CORES) -m slow $(ARGS)

bench: setup ## measure ours beside its peers (18 min.): make bench ARGS="--only hello,flask --seconds 4", or --quick
	@.venv/bin/python -m bench $(ARGS)

overload: setup ## ours beside its peers under 1 to 10 times what they can do (8 min.); or ARGS=--quick
	@.venv/bin/python -m bench.overload $(ARGS)

rpcbench: setup ## Thrift RPC beside Apache's servers and thriftpy2's (3 min.); or ARGS=--quick
	@.venv/bin/python -m bench.rpc $(ARGS)

abuse: setup ## attack a real pex in 20 ways, 60 s each, beside a client that must not notice (25 min.); or ARGS=--quick
	@.venv/bin/python -m bench.abuse $(ARGS)

fuzz: setup ## bend requests (read beside h11), then frames and logins of RPC, at random for 60 s each, or ARGS=600
	@PYTHONPATH=halfsync/src .venv/bin/python halfsync/tests/fuzz_parser.py $(or $(ARGS),60)
	@PYTHONPATH=halfsync/src .venv/bin/python halfsync/tests/fuzz_rpc.py $(or $(ARGS),60)

mutate: setup ## change one place of a module after the other: does a test fail? make mutate ARGS=http/parser
	@.venv/bin/python -m scripts.mutate $(ARGS)

newest: setup ## run the library's quick tests with the newest releases of what it stands on, caps or not
	@.venv/bin/python scripts/newest.py

restarts: setup ## restart and hand over a real pex under load for 75 s, and count the lost requests: none
	@.venv/bin/python -m bench.restarts $(ARGS)

lint: setup ## check format, style and types
	@found=0; \
	.venv/bin/ruff format $(STYLE) --check $(LINTED) || { echo "make format puts it right"; found=1; }; \
	.venv/bin/ruff check $(STYLE) $(LINTED) || found=1; \
	.venv/bin/mypy -p halfsync || found=1; \
	.venv/bin/mypy --explicit-package-bases hooks *.py scripts bench/*.py bench/abuse/*.py halfsync/build_wheel.py || found=1; \
	exit $$found

format: setup ## format the code, and fix what ruff can
	@.venv/bin/ruff format $(STYLE) $(LINTED)
	@.venv/bin/ruff check $(STYLE) --fix $(LINTED)

wheel: setup ## build the wheel of the library to where the skeleton carries it, and renew its hash in the locks
	@.venv/bin/python -m scripts.wheel

example: setup ## generate example/ anew: a change of the skeleton is committed with what users will get
	@.venv/bin/python -m scripts.example

release: setup ## prepare a release of the library: version, changelog, locks, a checked wheel, commit and tag; no upload
	@.venv/bin/python -m scripts.release

locks: setup ## renew every lock: requirements-dev.lock and those of the skeleton
	@.venv/bin/python scripts/locks.py

clean: ## remove what was made, caches included
	@rm -rf .venv .cache demo-service .mypy_cache .pytest_cache .ruff_cache tests.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install one (Debian, Ubuntu: apt install python3 \
	python3-venv), or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test "$$("$(PYTHON)" -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)" = True || { echo \
	"$(PYTHON) is no Python >= 3.11: say where one is: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments. \
	Debian, Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(source) | cmp -s - .venv/made-from || { \
	  echo "making .venv from requirements-dev.lock (under a minute) ..."; \
	  rm -rf .venv && "$(PYTHON)" -m venv .venv && \
	  .venv/bin/python -m pip install -qq --require-hashes --no-deps -r requirements-dev.lock && \
	  $(source) >.venv/made-from; }
