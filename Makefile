# MiniALBERT Lab: `make` shows what there is. Needs Python 3.11 or newer and make; the rest goes into .venv.

VENV ?= .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SITE ?= build/site

# For every kernel: this environment's Python, pictures in the notebook, and glibc keeping the memory
# of freed tensors (three times as fast on tensors of a vocabulary's size; nothing elsewhere).
export JUPYTER_PREFER_ENV_PATH := 1
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 2147483647
unexport MPLBACKEND

# What cells print comes as they print it.
PAPERMILL := $(PYTHON) -m papermill --cwd notebooks --no-progress-bar --log-level ERROR \
  --stdout-file - --stderr-file -

.DEFAULT_GOAL := help
.PHONY: help taste run test runs lab figures refresh site bench clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

run: $(INSTALLED) ## distil a student here, fine-tune and compare it; offline after the first fetch: runs/lab, runs/stsb
	$(PYTHON) -m minialbert.lab.minutes notebooks/params/lab/distil.yaml notebooks/params/lab/stsb.yaml
	@mkdir -p runs/lab runs/stsb
	@echo "Part 1 of 2, notebook 07: a student is distilled into runs/lab."
	@$(PAPERMILL) notebooks/07_distil.ipynb runs/lab/07_distil.ipynb \
	  -f notebooks/params/lab/distil.yaml -p run_folder ../runs/lab
	@echo "Part 2 of 2, notebook 09: it is fine-tuned and compared, into runs/stsb."
	@$(PAPERMILL) notebooks/09_glue.ipynb runs/stsb/09_glue.ipynb \
	  -f notebooks/params/lab/stsb.yaml -p run_folder ../runs/stsb

taste: $(INSTALLED) ## the student that comes with the package next to its teacher: two minutes, runs/taste
	@mkdir -p runs/taste
	$(PAPERMILL) notebooks/00_start_here.ipynb runs/taste/00_start_here.ipynb

test: $(INSTALLED) ## run every test: style, unit, conformance, and each notebook compared with its committed outputs
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m pytest --numprocesses logical --maxprocesses 4 --dist load --maxschedchunk 1

runs: $(INSTALLED) ## make a plan's runs: PLAN=lab/ablations; OPTIONS=-n says what that would be and cost
	$(PYTHON) -m snakemake $(PLAN) $(OPTIONS)

lab: $(INSTALLED) ## open the course in JupyterLab; OPTIONS="--no-browser --allow-root" for a server
	$(PYTHON) -m jupyterlab --ServerApp.root_dir=. \
	  --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(OPTIONS)

figures: $(INSTALLED) ## draw every picture in figures/ again, from the stored results, by notebook 14
	@mkdir -p runs/figures
	$(PAPERMILL) notebooks/14_results.ipynb runs/figures/14_results.ipynb \
	  -p pictures ../figures

refresh: $(INSTALLED) ## run notebooks and write them back; NOTEBOOKS="a.ipynb b.ipynb" for some
	$(PYTHON) -m minialbert.lab.refresh $(NOTEBOOKS)

site: $(INSTALLED) ## build the course as a web site: build/site/index.html; nothing is run
	rm -rf build/site-pages && mkdir -p build/site-pages/docs
	cp -R README.md CONTRIBUTING.md CITATION.cff figures notebooks docs/index.md build/site-pages
	cp docs/teaching.md build/site-pages/docs
	$(PYTHON) -m sphinx --quiet --fresh-env --fail-on-warning -c docs build/site-pages $(SITE)

bench: $(INSTALLED) ## time what matters; slow, not part of the tests
	$(PYTHON) -m pytest tests/benchmarks -s

clean: ## remove .venv and caches; runs/ stays
	@[ ! -f $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
	rm -rf build *.egg-info .pytest_cache .ruff_cache .snakemake
	find minialbert tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

# The version most tested comes first; one that cannot make a venv (Debian's bare python3) is passed over.
# --no-compile saves a minute: what is used is compiled when it is first imported.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c '' 2>/dev/null || { \
	  for python in python3.11 python3.12 python3.13 python3 python none; do \
	    $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; \
	  done; \
	  if [ $$python = none ]; then \
	    echo "No Python 3.11 or newer that can make a venv was found. Install one, then run make again:" >&2; \
	    echo "on Debian or Ubuntu 'apt install python3-venv', on macOS 'brew install python'." >&2; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$python."; $$python -m venv $(VENV) || exit 1; }
	@echo "Installing the packages of pyproject.toml into $(VENV): once, 1 to 10 minutes."
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[all]' || \
	  { echo "The install failed: the lines above say why. Mend it, then run make again." >&2; exit 1; }
	@touch $@
