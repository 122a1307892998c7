# Everything a person does here. Setting up what a target needs beyond cargo is part of the target.

LIMIT = 2200000
BINARY = $(or $(CARGO_TARGET_DIR),target)/release/edgemd
SCRIPTS = .ci/run tests/setup/packages

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

demo: ## watch a certificate being ordered, exported, reloaded and served, and then renewed
	@tests/setup/packages demo
	@cargo test --locked --quiet --test demo

test: ## every test, those against a real CA included
	@tests/setup/packages test
	cargo test --locked

check: ## formatting, lints, shell scripts
	@tests/setup/packages check
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test demo --test bench -- -D warnings
	shellcheck $(SCRIPTS)

deny: ## licences, sources and banned crates of the tree
	@tests/setup/packages deny
	cargo deny check bans licenses sources

bench: ## what one renewal costs, beside the other clients that are installed
	@tests/setup/packages bench
	@cargo build --release --locked --quiet
	@EDGEMD=$(abspath $(BINARY)) cargo test --locked --quiet --test bench

sizes: ## the release binary against its limit
	@tests/setup/packages sizes
	cargo build --release --locked
	@bytes=$$(wc -c <$(BINARY)); packed=$$(xz -9 -c $(BINARY) | wc -c); \
	echo "edgemd: $$bytes bytes of $(LIMIT), $$packed bytes by xz -9"; \
	test $$bytes -le $(LIMIT) || { echo "edgemd: too big by $$((bytes - $(LIMIT))) bytes"; exit 1; }

clean: ## what was built; what was downloaded stays (.cache)
	cargo clean

.PHONY: help demo test check deny bench sizes clean
