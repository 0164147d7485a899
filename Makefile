# `make` lists the targets. `make demo` and `make test` create .venv if needed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Package index for torch; the CPU build is at https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Waiting threads do not occupy CPU cores on shared machines.
export GOMP_SPINCOUNT := 0
override DEMO := demo

.DEFAULT_GOAL := help
.PHONY: help setup check format lint types test test-all demo study real-check bench mutations docs audit package deploy-setup deploy label-setup label clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing packages into $(VENV) takes some minutes. Disk space: 3 GB with torch's CPU build; 7.5 GB on Linux"
	@echo "with CUDA, the default of the package index. For the CPU build: make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable ".[dev]"
	touch $@

setup: $(STAMP)  ## create .venv with the package and its tools

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy
	$(BIN)/mypy

check: lint types  ## lint and types

test: $(STAMP)  ## run the tests on all cores (about half an hour on two)
	@echo "6,000 tests, about half an hour on two idle cores; nothing is downloaded."
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

test-all: $(STAMP)  ## run all tests, including slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

DEMO_SLICES := 160
DEMO_EPOCHS := 12
DEMO_SCANS := 240
DEMO_SCAN_EPOCHS := 12
DEMO_NETWORK := --network_def\#features "[16, 32, 64]" --spatial_size "[96, 96]"
DEMO_CLASSIFIER := --grid "[40, 80, 80]" --layers "[1, 1, 1, 1]" --block_inplanes "[8, 16, 32, 64]" --no_max_pool true
DEMO_TRAINING = --bundle_root $(CAP) --dataset_dir $(DEMO)/scans --fold 0 --cache_dir $(DEMO)/cache \
    --output_dir $(DEMO)/tensorboard --epochs $(DEMO_SCAN_EPOCHS) --batch_size 8 --norm_batches 20 \
    --num_workers 0 $(DEMO_CLASSIFIER)
RUN := $(BIN)/python -m monai.bundle run
SEG := covid_seg_bundle
CAP := covid_cap_bundle

demo: $(STAMP)  ## train, score and apply small networks of both bundles on synthetic CT (10 to 25 minutes)
	@echo "10 to 25 minutes on two idle cores; all data are synthetic, nothing is downloaded. Results: $(DEMO)/"
	rm -rf $(DEMO)
	$(BIN)/python -m custom_components phantom_slices $(DEMO)/slices --num_slices $(DEMO_SLICES) --size "[96, 96]"
	$(RUN) training --bundle_root $(SEG) \
	    --config_file "['$(SEG)/configs/train.yaml', '$(SEG)/configs/recipes/no_augmentation.yaml']" \
	    --dataset_dir $(DEMO)/slices --ckpt_dir $(DEMO)/models --output_dir $(DEMO)/tensorboard $(DEMO_NETWORK) \
	    --num_folds 5 --epochs $(DEMO_EPOCHS) --batch_size 4 --learning_rate 0.004 --loss\#weight "[0.1, 1, 1, 1]" --num_workers 0
	$(RUN) evaluating --config_file $(SEG)/configs/evaluate.yaml --bundle_root $(SEG) \
	    --dataset_dir $(DEMO)/slices --fold 0 --num_folds 5 \
	    --ckpt_path $(DEMO)/models/model.pt --output_dir $(DEMO)/eval
	$(BIN)/python -m custom_components phantom_dicom $(DEMO)/scan --shape "[96, 96, 40]" --spacing_mm "[3.9, 3.9, 7]"
	$(RUN) run --config_file $(SEG)/configs/inference.json --bundle_root $(SEG) \
	    --dataset_dir $(DEMO)/scan --ckpt_path $(DEMO)/models/model.pt --output_dir $(DEMO)/results
	$(BIN)/python -m custom_components phantom_scans $(DEMO)/scans --num_scans $(DEMO_SCANS) --minority 0.4 --num_folds 4
	$(RUN) training --config_file $(CAP)/configs/train.yaml $(DEMO_TRAINING) --ckpt_dir $(DEMO)/models/uniform \
	    --learning_rate 0.002 --lr_step 6
	$(RUN) training --config_file "['$(CAP)/configs/train.yaml', '$(CAP)/configs/recipes/size_balanced.yaml']" $(DEMO_TRAINING) \
	    --ckpt_dir $(DEMO)/models/size_balanced --learning_rate 0.003 --lr_step 8
	$(RUN) evaluating --config_file "['$(CAP)/configs/evaluate.yaml', '$(CAP)/configs/ensemble.yaml']" --bundle_root $(CAP) \
	    --dataset_dir $(DEMO)/scans --fold 0 --cache_dir $(DEMO)/cache --output_dir $(DEMO)/eval/ensemble --num_workers 0 \
	    --uniform_ckpt_path $(DEMO)/models/uniform/model.pt --size_balanced_ckpt_path $(DEMO)/models/size_balanced/model.pt \
	    --model_path $(DEMO)/models/ensemble.pt
	$(BIN)/python -m custom_components phantom_scans $(DEMO)/new --num_scans 4 --num_folds 2 --seed 9
	$(RUN) run --config_file $(CAP)/configs/inference.json --bundle_root $(CAP) --dataset_dir $(DEMO)/new \
	    --ckpt_path $(DEMO)/models/ensemble.pt --output_dir $(DEMO)/diagnosis
	$(BIN)/python -m custom_components score_table $(DEMO)/eval/summary.json
	$(BIN)/python -m custom_components diagnosis_table $(DEMO)/eval/ensemble/summary.json
	@echo "Look at $(DEMO)/eval/*/*.png (prediction and truth) and $(DEMO)/results/scan (label map, volumes, overlays),"
	@echo "at $(DEMO)/diagnosis/*/*.png (attention and infection) with *_diagnosis.json, and $(DEMO)/eval/ensemble/roc.png."

audit: $(STAMP)  ## list known vulnerabilities of the pinned packages, if the service is reachable
	-$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m tools.audit

real-check: $(STAMP)  ## measure the weights on public CT: [DATA=folder] [OPTIONS="--only vbnet"] (docs/real_check.md)
	$(BIN)/python -m tools.real_check --data $(or $(DATA),../shared/data) $(OPTIONS)

study: $(STAMP)  ## run a paper's experiments, with tables and figures: DATA=folder OUTPUT=folder [BUNDLE=covid_cap_bundle] [OPTIONS=...]
	@test -n "$(DATA)" -a -n "$(OUTPUT)" || { echo "DATA or OUTPUT is missing: make study DATA=/path/to/data OUTPUT=/path/to/study"; exit 2; }
	$(BIN)/python -m custom_components study "$(BUNDLE)" --dataset_dir "$(DATA)" --output_dir "$(OUTPUT)" $(OPTIONS)

bench: $(STAMP)  ## measure time and memory of the networks and of LSH attention, full attention and reformer-pytorch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ".[bench]"
	$(BIN)/python docs/bench_lsh_attention.py
	$(BIN)/python docs/bench_networks.py
	$(BIN)/python docs/bench_attention_resnet.py
	$(BIN)/python docs/bench_paper_grid.py

mutations: $(STAMP)  ## do the tests notice mistakes in the science? (15 minutes): [ONLY=word, such as lsh]
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutations --only "$(ONLY)"

docs: $(STAMP)  ## write the documentation site to build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open build/site/index.html. Its search needs a server: $(BIN)/python -m http.server -d build/site"

package: $(STAMP)  ## write dist/<bundle> and its zip, once verified (minutes): [SCHEMA=meta_schema.json, without network]
	OMP_NUM_THREADS=1 $(BIN)/python tools/package_bundles.py --dist dist $(if $(SCHEMA),--schema $(SCHEMA))

DEPLOY_VENV := .venv-deploy
DEPLOY_STAMP := $(DEPLOY_VENV)/.installed
BUNDLE ?= covid_seg_bundle
DEPLOY_APP = deploy/$(patsubst %_bundle,%_app,$(notdir $(BUNDLE:/=)))

$(DEPLOY_STAMP): requirements/deploy.txt
	$(PYTHON) -m venv $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/python -m pip install --quiet --requirement requirements/deploy.txt
	touch $@

deploy-setup: $(DEPLOY_STAMP)  ## create .venv-deploy with MONAI Deploy (several GB)

deploy: $(DEPLOY_STAMP)  ## DICOM study in, DICOM SEG out: INPUT=study OUTPUT=folder [BUNDLE=covid_cap_bundle]
	@test -n "$(INPUT)" -a -n "$(OUTPUT)" || { echo "INPUT or OUTPUT is missing: make deploy INPUT=/path/to/study OUTPUT=/path/to/results"; exit 2; }
	$(DEPLOY_VENV)/bin/python $(DEPLOY_APP) -i "$(INPUT)" -o "$(OUTPUT)" -m "$(BUNDLE)"

LABEL_VENV := .venv-label
LABEL_STAMP := $(LABEL_VENV)/.installed
LABEL_OPTIONS = --studies "$(STUDIES)" $(if $(DIAGNOSED),--diagnosed "$(DIAGNOSED)")
BUNDLES ?= $(SEG) $(if $(wildcard $(CAP)/models/model.pt),$(CAP))
PORT ?= 8000

$(LABEL_STAMP): requirements/label.txt
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/python -m pip install --quiet setuptools wheel $$(grep -E "^(torch|numpy)==" requirements/label.txt)
	SAM2_BUILD_CUDA=0 $(LABEL_VENV)/bin/python -m pip install --quiet --no-build-isolation --requirement requirements/label.txt
	touch $@

label-setup: $(LABEL_STAMP)  ## create .venv-label with MONAI Label (several GB)
	@true

label: $(STAMP)  ## serve the bundles to 3D Slicer and OHIF: STUDIES=folder [DIAGNOSED=folder] [BUNDLES=covid_seg_bundle] [PORT=8000]
	@test -n "$(STUDIES)" || { echo "STUDIES is missing: make label STUDIES=/path/to/studies"; exit 2; }
	@$(BIN)/python -m tools.monai_label $(BUNDLES) $(LABEL_OPTIONS) --check
	@$(MAKE) --no-print-directory label-setup
	@$(BIN)/python -m tools.monai_label $(BUNDLES) $(LABEL_OPTIONS) --python $(LABEL_VENV)/bin/python --port $(PORT)

MODEL_ZOO ?= build/model-zoo

build/model-zoo:
	git clone --quiet --depth 1 https://github.com/Project-MONAI/model-zoo $@

$(VENV)/.installed-release: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,export,lungmask,mlflow,zoo,dicom-check]"
	touch $@

release-check: $(VENV)/.installed-release label-setup deploy-setup $(MODEL_ZOO)  ## run all release checks that need no GPU, and print a table (an hour)
	MODEL_ZOO=$(abspath $(MODEL_ZOO)) $(BIN)/python -m tools.release_check

clean:  ## remove all generated files, including .venv
	rm -rf $(VENV) $(DEPLOY_VENV) $(LABEL_VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
