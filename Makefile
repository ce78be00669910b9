# "make help" tells the targets. Needs cargo, python3 with pip, and bash.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# One step after the other: each says what it does, and cargo uses all cores by itself.
.NOTPARALLEL:
.PHONY: help demo bench load rollout-figures faults test fuzz build lint fmt tools clean

CARGO ?= cargo
PYTHON ?= python3
ARGS ?=
target_dir = $(or $(CARGO_TARGET_DIR),target)
cargo_fuzz = 0.13.2
step = @printf '\n==> %s\n'

help: ## Tell the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# In a terminal, Ctrl-C is for the demo (or the load) alone: "set -m" makes it the foreground job, so that it ends in its
# own way, with its own exit status, and make with it.
demo: ## See it work on a real broker; options: make demo ARGS='--for 10s --plain'
	$(step) 'nats-server'
	@$(PYTHON) scripts/tools.py demo
	$(step) 'build (release)'
	@$(CARGO) build --release --locked --bin beamline-router
	$(step) 'demo'
	@if [ -t 0 ]; then set -m; fi; \
	$(target_dir)/release/beamline-router demo --nats-server .tools/bin/nats-server $(ARGS); \
	exit $$?

load: ## Run the load scenarios, with a report: make load ARGS='--short', or ARGS=--full
	$(step) 'nats-server'
	@$(PYTHON) scripts/tools.py demo
	$(step) 'build (release)'
	@$(CARGO) build --release --locked --bin beamline-router
	$(step) 'load'
	@if [ -t 0 ]; then set -m; fi; \
	$(target_dir)/release/beamline-router load --nats-server .tools/bin/nats-server \
		--report $(target_dir)/load-report.md $(ARGS); \
	exit $$?

bench: ## Measure how fast decisions are; options: make bench ARGS='--quick'
	$(step) 'nats-server'
	@$(PYTHON) scripts/tools.py demo
	$(step) 'build (release)'
	@$(CARGO) build --release --locked --bin beamline-router
	$(step) 'bench'
	@if [ -t 0 ]; then set -m; fi; \
	$(target_dir)/release/beamline-router bench --nats-server .tools/bin/nats-server $(ARGS); \
	exit $$?

rollout-figures: ## Measure the judge of rollouts by simulation: make rollout-figures ARGS='--quick'
	$(step) 'build (release)'
	@$(CARGO) build --release --locked --example rollout_figures
	$(step) 'figures'
	@$(target_dir)/release/examples/rollout_figures $(ARGS)

# Each scenario ends what it started, on Ctrl-C too.
faults: ## Break brokers, paths, disks and stores, and judge by a model of the log: make faults ARGS='--only leader-kill'
	$(step) 'tools'
	@$(PYTHON) scripts/tools.py faults
	$(step) 'build (release)'
	@$(CARGO) build --release --locked --bin beamline-router
	$(step) 'model'
	@$(PYTHON) -m unittest discover -s tests/faults/unit
	$(step) 'faults'
	@$(PYTHON) tests/faults $(ARGS)

test: ## Prove all of it: format, licences, deploy files, lints, docs, tests
	$(step) 'tools'
	@$(PYTHON) scripts/tools.py test
	$(step) 'format (cargo fmt --check)'
	@$(CARGO) fmt --all --check
	$(step) 'licences of all dependencies'
	@$(PYTHON) scripts/licences.py
	$(step) 'deploy files'
	@$(PYTHON) deploy/check.py
	$(step) 'lints (cargo clippy)'
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(step) 'docs (cargo doc)'
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps
	$(step) 'tests (cargo test)'
	@$(CARGO) test --locked --workspace
	$(step) 'faults (short)'
	@$(PYTHON) -m unittest discover -s tests/faults/unit
	@$(PYTHON) tests/faults --short --program $(target_dir)/debug/beamline-router
	$(step) 'instructions of a decision (callgrind)'
	@$(PYTHON) scripts/instructions.py

# Without a sanitizer, which only an unstable toolchain has: the code has no "unsafe" for one to look into.
fuzz: ## Look for bytes of a server that break the connection; longer: make fuzz ARGS=-max_total_time=3600
	$(step) 'cargo-fuzz'
	@test -x .tools/bin/cargo-fuzz || $(CARGO) install --locked --root .tools --version $(cargo_fuzz) cargo-fuzz
	$(step) 'server_bytes'
	@mkdir -p crates/nats/fuzz/target/found
	@cd crates/nats && ../../.tools/bin/cargo-fuzz run --sanitizer none server_bytes \
		fuzz/target/found fuzz/corpus/server_bytes -- \
		-max_len=4096 -max_total_time=60 $(ARGS)

build: ## Build the program: target/release/beamline-router
	$(CARGO) build --release --locked

lint: ## Check format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fmt: ## Format the code
	$(CARGO) fmt --all

tools: ## Get the programs that demo and tests need into .tools/
	$(PYTHON) scripts/tools.py test

clean: ## Remove what was built and fetched: target/ and .tools/
	$(CARGO) clean
	rm -rf .tools
