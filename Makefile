# What one does with this repository. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Build output and tools live outside of the clone, so that a second clone need not make them again.
CACHE ?= $(or $(LANDFAST_CACHE),$(HOME)/.cache/landfast)
export LANDFAST_CACHE := $(CACHE)
CARGO_TARGET_DIR ?= $(CACHE)/target
export CARGO_TARGET_DIR
BINARY = $(CARGO_TARGET_DIR)/debug/landfast

# For `make run`: the folder of the images, and the addresses.
DATA ?= ./data
LISTEN ?= 127.0.0.1:5000
HEALTH_LISTEN ?= 127.0.0.1:8081

# For `make image`: its name, and what builds it: the first that works.
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
IMAGE ?= ghcr.io/landfast/landfast:$(VERSION)
CONTAINER_ENGINE ?= $(shell for engine in docker podman buildah; do $$engine info &>/dev/null && echo $$engine && break; done)

# For `make e2e`: names, or parts of them, of the tests to run.
E2E_ARGS ?=

# For `make fuzz`: seconds for each target, and parts of the names of those to run; all of them, without any.
FUZZ_TIME ?= 60
FUZZ_ARGS ?=

# For `make bench`: scenarios, or parts of their names, and options; all of it, without any.
BENCH_ARGS ?=
# `dist` is what `make image` ships, and takes minutes more to build.
BENCH_PROFILE ?= bench

.PHONY: help run test e2e lint bench fuzz crds manifests image tools fmt clean

help: ## Print this
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, and serve a registry on localhost:5000 (LISTEN) with its data in ./data (DATA)
	@cargo build --locked
	@exec "$(BINARY)" serve --manifests config/samples/standalone --data "$(DATA)" --listen $(LISTEN) --health-listen $(HEALTH_LISTEN)

test: ## Run all tests that need no cluster; those of storage in S3 against a service that is built once, with Go
	cargo test --locked
	@e2e/tools/install versitygw
	export S3_SERVER="$$(e2e/tools/install --print-bin)/versitygw"; \
	cargo test --locked --lib -- --ignored s3; \
	TEST_STORAGE=s3 cargo test --locked --test http -- --include-ignored

e2e: ## Run the end-to-end tests on E2E_KUBECONFIG, or on a cluster made for them (as root; KEEP=1 leaves it up)
	e2e/run $(E2E_ARGS)

lint: ## Check format, lints, generated files, scripts, and what kustomize and Helm render
	cargo fmt --check
	cargo fmt --check --manifest-path src/fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test e2e -- -D warnings # `test = false` keeps it out of --all-targets
	cargo check --locked --manifest-path src/fuzz/Cargo.toml # a crate of its own, which nothing else builds
	@for script in $$(grep -rlI '^#!.*bash' .ci e2e src) $$(find e2e -name '*.sh'); do bash -n "$$script"; done
	@e2e/tools/install kubectl helm
	PATH="$$(e2e/tools/install --print-bin):$$PATH" cargo test --locked --test crds --test packaging -- --include-ignored
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check bans licenses sources; \
	else echo 'cargo deny: skipped, it is not installed and takes minutes to build (cargo install --locked cargo-deny)'; fi

bench: ## Measure the registry against its peers, and the policy (BENCH_ARGS: parts of scenarios' names, --quick, --help)
	@src/benches/install
	S3_SERVER="$$(e2e/tools/install --print-bin)/versitygw" \
	cargo bench --locked --profile $(BENCH_PROFILE) --bench registry -- $(BENCH_ARGS)
	$(if $(BENCH_ARGS),,cargo bench --locked --profile $(BENCH_PROFILE) --bench policy)

fuzz: ## Fuzz the parsers for a minute each (FUZZ_TIME: seconds, FUZZ_ARGS: parts of targets' names)
	FUZZ_TIME=$(FUZZ_TIME) src/fuzz/run $(FUZZ_ARGS)

crds: ## Write crds/ from the API types
	cargo run --locked --quiet -- crds --output crds

manifests: crds ## Write all generated files: crds/, config/serve.md, config/metrics.md, and the chart's copies of CRDs and roles
	cargo run --locked --quiet -- serve --print-config-reference > config/serve.md
	LANDFAST_WRITE_METRICS_PAGE=1 cargo test --locked --quiet --test http metrics::every_metric_is_documented
	rm -rf charts/landfast/files
	mkdir -p charts/landfast/files/{crds,rbac}
	cp crds/*.landfast.dev.yaml charts/landfast/files/crds/
	cp config/rbac/*-role.yaml charts/landfast/files/rbac/

image: ## Build the container image (IMAGE) with docker, podman or buildah
	@[[ -n "$(CONTAINER_ENGINE)" ]] || { echo 'make image: install docker, podman or buildah' >&2; exit 1; }
	$(CONTAINER_ENGINE) build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) .

tools: ## Build and install what the end-to-end tests run on (as root)
	e2e/tools/install

fmt: ## Format the code
	cargo fmt

clean: ## Delete the build output; data, and tools in the cache, stay
	cargo clean
