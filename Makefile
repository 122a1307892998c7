# Everything a person does here. Setting up what a target needs beyond cargo is part of the target.

BINARY = $(or $(CARGO_TARGET_DIR),target)/release/edgemd
MACHINES = $(patsubst qemu/%/machine,%,$(wildcard qemu/*/machine))
# One of each flash file system: JFFS2, UBIFS, ext4.
FLASHES = malta ast2600 x86_64
# What every change is taken through; the other targets and machines take more time than it has.
ROUTERS = mipsel-unknown-linux-musl armv7-unknown-linux-musleabihf
TARGETS = $(patsubst cross/%/target,%,$(wildcard cross/*/target))
SCRIPTS = .ci/run tests/setup/apt tests/setup/packages tests/setup/sbom tests/setup/coverage tests/fuzz/run $(addprefix cross/,setup build link test sizes reproducible) \
	qemu/setup qemu/run $(wildcard qemu/*/boot) board/packages $(wildcard board/*/pack board/*/test board/*/test-inside) \
	board/raspberrypi/root/usr/share/bash-completion/completions/edgemd
# Two runs side by side fetch one after the other.
ALONE = @mkdir -p .cache && flock .cache
# What runs in a shell of busybox's.
DEVICE_SCRIPTS = qemu/init $(wildcard qemu/*/flash qemu/rom/*/bin/* qemu/rom/*/etc/init.d/* qemu/rom/*/lib/*) \
	qemu/rom/all/etc/console qemu/rom/openwrt/etc/rc.common board/generic/S60edgemd \
	$(wildcard board/raspberrypi/control/* board/raspberrypi/root/usr/lib/edgemd/* board/openwrt/root/etc/init.d/*) \
	$(wildcard board/openwrt/root/etc/uci-defaults/* board/openwrt/root/etc/hotplug.d/*/*) \
	$(wildcard board/openwrt/root/usr/lib/edgemd/* tests/board/openwrt/*)

help: ## this list
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | sed 's/qemu-%/qemu-<machine>/; s/%/<triple>/' | expand -t 30

demo: ## watch a certificate being ordered, exported, reloaded and served, and then renewed
	$(ALONE) tests/setup/packages demo
	@cargo test --locked --quiet --test demo

test: ## every test, those against a real CA included; the targets of most routers in an emulator; a whole router
	$(ALONE) tests/setup/packages test
	cargo test --locked
	$(ALONE) cross/setup
	cross/build $(ROUTERS)
	cross/test $(ROUTERS)
	$(ALONE) qemu/setup malta
	@qemu/run malta

test-cas: ## CAs of another make: Caddy's, Debian 12's Pebble under every test for Pebble, two in Python
	@tests/setup/packages cas
	cargo test --locked --test cas
	# That one has no windows, profiles and dns-persist-01, and leaves the TLS feature extension out.
	PEBBLE_BIN=$(abspath .cache/pebble-debian-12/usr/bin) cargo test --locked $(patsubst tests/%.rs,--test %,$(filter-out tests/pebble_lives.rs,$(wildcard tests/pebble*.rs))) -- \
		--skip md_800_003 --skip a_ca_is_asked_once --skip must_staple_is_shown --skip a_record_that_a_person_publishes

check: ## formatting, lints, shell scripts
	$(ALONE) tests/setup/packages check
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test demo --test bench --test many --test sim --test soak --test serving --test machines --test power -- -D warnings
	shellcheck -x $(SCRIPTS)
	shellcheck -x -s sh $(DEVICE_SCRIPTS)
	@for script in $(DEVICE_SCRIPTS); do busybox ash -n $$script || exit 1; done

deny: ## known holes, licences, sources and banned crates of the tree
	$(ALONE) tests/setup/packages deny
	PATH="$(abspath .cache/tools/bin):$$PATH" cargo deny check

sbom: ## what the program is made of, for each target: target/edgemd.cdx.json (CycloneDX), target/sbom
	$(ALONE) tests/setup/packages sbom
	@tests/setup/sbom x86_64-unknown-linux-musl $(filter-out x86_64-unknown-linux-musl,$(TARGETS))

fuzz: ## each target of tests/fuzz for a minute, or SECONDS=1800, or only TARGET="conf http1"; JOBS side by side
	$(ALONE) tests/setup/packages fuzz
	@tests/fuzz/run $(or $(SECONDS),60) $(TARGET)

coverage: ## lines and branches of src/ that the tests reach, those against a real CA included: target/coverage
	$(ALONE) tests/setup/packages coverage
	@tests/setup/coverage

mutants: ## changes to src/rules that no test would see; or only those in MUTATE="src/rules/plan.rs src/rules/crowd.rs"
	$(ALONE) tests/setup/packages mutants
	@PATH="$(abspath .cache/tools/bin):$$PATH" CARGO_PROFILE_DEV_DEBUG=0 cargo mutants -o target/mutants --config tests/mutants.toml --timeout 120 \
		$(foreach path,$(or $(MUTATE),src/rules/**),-f '$(path)') --cargo-arg=--locked --cargo-arg=--lib \
		$(foreach test,flow conf ocsp crowds days,--cargo-arg=--test --cargo-arg=$(test))

bench: ## what renewals, a thousand MDs, handshakes and requests cost, beside the other programs that are installed
	$(ALONE) tests/setup/packages bench
	@cargo build --release --locked --quiet
	@EDGEMD=$(abspath $(BINARY)) cargo test --locked --quiet --test bench
	@EDGEMD=$(abspath $(BINARY)) cargo test --locked --quiet --test many
	@EDGEMD=$(abspath $(BINARY)) cargo test --locked --quiet --test serving

load: ## a minute of two hundred https requests a second, while ten renewals happen
	$(ALONE) tests/setup/packages test
	@cargo build --release --locked --quiet
	@LOAD_SECONDS=60 EDGEMD=$(abspath $(BINARY)) cargo test --locked --quiet --test swap -- --nocapture

sim: ## a hundred thousand devices and one CA: what it sees after an outage, a revocation, a blackout; target/sim.svg
	$(ALONE) tests/setup/packages sim
	@cargo test --locked --quiet --test sim

soak: ## a long life: 100,000 renewals on the fakes, 500 from Pebble; memory, descriptors, threads and files don't grow
	$(ALONE) tests/setup/packages test
	@SOAK=100000 cargo test --release --locked --quiet --test days soak::thousands -- --nocapture
	@cargo build --release --locked --quiet
	@SOAK=500 EDGEMD=$(abspath $(BINARY)) cargo test --locked --quiet --test soak

sizes: ## what devices get, against board/*/budget: x86_64, and each target that is built
	$(ALONE) tests/setup/packages sizes
	$(ALONE) cross/setup
	cross/build x86_64-unknown-linux-musl
	@cross/sizes

cross-setup: ## what builds for other machines, into .cache/cross
	$(ALONE) cross/setup

cross-all: ## a static binary for every target of cross/
	$(ALONE) cross/setup
	cross/build $(TARGETS)

cross-%: ## a static binary, target/cross/<triple>/release/edgemd
	$(ALONE) cross/setup
	cross/build $*

reproducible: ## the same bytes from two builds in two folders
	$(ALONE) cross/setup
	cross/reproducible x86_64-unknown-linux-musl

test-cross-%: ## it in an emulator, after a build: the command line, and an order against a real CA
	$(ALONE) cross/setup
	cross/build $*
	cross/test $*

qemu-%: ## a device, emulated: it orders, reboots, wakes up in 1970; the machines are those of qemu/
	$(ALONE) qemu/setup $*
	$(ALONE) cross/setup
	@cross/build $$(sed -n 's/^triple=//p' qemu/$*/machine)
	@qemu/run $*

test-devices: ## every machine of qemu/, and the plug pulled three times on each flash file system
	@$(MAKE) --no-print-directory $(addprefix qemu-,$(MACHINES))
	@$(MAKE) --no-print-directory power PULLS=3

power: ## the plug pulled while certificates are renewed, PULLS=200 times on each of JFFS2, UBIFS, ext4; dice by SEED=
	$(ALONE) qemu/setup $(FLASHES)
	$(ALONE) cross/setup
	@cross/build $$(sed -n 's/^triple=//p' $(FLASHES:%=qemu/%/machine))
	@qemu/run --pulls $(or $(PULLS),200) $(if $(SEED),--seed $(SEED)) $(FLASHES)

packages: ## what people install, into target/packages: of each target of cross/ that is built
	$(ALONE) tests/setup/packages pack
	cargo build --locked --quiet
	board/packages

test-packages: ## the .deb in a Debian with systemd at work: run, upgraded, purged
	$(ALONE) tests/setup/packages test-packages
	$(ALONE) cross/setup
	@cross/build x86_64-unknown-linux-musl
	board/raspberrypi/test $(or $(CARGO_TARGET_DIR),target)/cross/x86_64-unknown-linux-musl/release/edgemd

clean: ## what was built; what was downloaded stays (.cache)
	cargo clean

.PHONY: help demo test test-cas check deny sbom fuzz coverage mutants bench load sim soak sizes cross-setup cross-all reproducible test-devices power packages test-packages clean
