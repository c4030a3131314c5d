# Every target builds the environment that it needs. Needed beforehand: Python 3.11 to 3.13, make, git.
#   make demo    convert the digits network to int8 and compare the accuracies
#   make test    run all tests
#   make fuzz    read changed files, many of each kind; FUZZ=1000 says how many
#   make check   lint, formatting, types
#   make docs    build the pages of docs/ into site/; a broken link is an error
#   make clean   remove everything that the targets above made
# Another interpreter: make PYTHON=/path/to/python3.12 test

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test fuzz check docs clean

PYTHON ?=
# PyTorch's own index has builds without CUDA, which are several gigabytes smaller.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
STAMP := $(VENV)/.complete
DEMO := digits.edgeconv
PIP = $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt

FIND_PYTHON = for name in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	  "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	    && python=$$name && break; \
	done; \
	test -n "$$python" || { \
	  echo "make: no Python 3.11 to 3.13 found; set PYTHON=/path/to/python" >&2; exit 1; }

help:
	@sed -n 's/^#   //p' Makefile

# The stamp comes last: an environment without it was interrupted and is built afresh. One with
# an older stamp is brought up to date in place.
$(STAMP): pyproject.toml constraints.txt
	@python=; $(FIND_PYTHON); \
	test -e $@ || rm -rf $(VENV); rm -f $@; \
	echo "Preparing $(VENV) with $$python (some minutes, about 1 GB to download)" >&2; \
	"$$python" -m venv $(VENV)
	@$(PIP) --no-deps --retries 1 --extra-index-url $(TORCH_INDEX) torch torchvision
	@$(PIP) -e '.[dev,docs]'
	@touch $@

demo: $(STAMP)
	@$(VENV)/bin/edgeconv torch2tflite examples/digits/digits.pt2 --quantize int8 \
	  --calibration-data examples/digits/calibration.npz --output $(DEMO) --force
	@$(VENV)/bin/python examples/digits/evaluate.py $(DEMO)

test: $(STAMP)
	$(VENV)/bin/python -m pytest

FUZZ ?= 10000
fuzz: $(STAMP)
	$(VENV)/bin/python -m tests.fuzz --cases $(FUZZ)

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(STAMP)
	@$(VENV)/bin/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) .toolchain $(DEMO) build dist site *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
