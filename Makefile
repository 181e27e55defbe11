# rbuild: `make` lists what can be made.

BASES := target/bases
FUZZ_SECONDS := 60
FUZZ_SEED := 0
STRESS_ROUNDS := 500

.PHONY: help build check test e2e demo bless fuzz bench stress doc setup

help:
	@echo 'make demo    show what rbuild does: installs what is missing, builds, pushes, runs'
	@echo 'make test    install what is missing, then check and test everything'
	@echo 'make build   target/release/rbuild'
	@echo 'make check   formatting, lints, documentation'
	@echo 'make e2e     the end-to-end tests alone; E2E=words chooses among them'
	@echo 'make bless   have the cases of testdata/build expect what comes of them now'
	@echo 'make fuzz    each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS)), all at the same time'
	@echo 'make bench   rbuild beside other builders; BENCH="--only W4 --rounds 5", see --help'
	@echo 'make stress  builds, kills, removals and races, STRESS_ROUNDS ($(STRESS_ROUNDS)) rounds; full disks; memory'
	@echo 'make doc     the documents of the crates, in target/doc'

setup:
	@scripts/setup.sh

build:
	cargo build --release --locked

check:
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --lib --no-deps --locked

test: setup check
	@scripts/make-bases.sh $(BASES)
	@scripts/test.sh $(BASES)

e2e: setup
	cargo test --locked --test e2e -- $(E2E)

demo: setup build
	@scripts/demo.sh target/release/rbuild $(BASES)

bless: setup
	RBUILD_BLESS=1 cargo test --locked --test e2e -- cases
	git diff --stat testdata/build

fuzz: setup
	@scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_SEED)

bench:
	@scripts/setup.sh curl pigz
	cargo bench --locked --bench workloads -- $(BENCH)

stress: setup
	RBUILD_STRESS_ROUNDS=$(STRESS_ROUNDS) cargo test --locked --test e2e -- threat_c06
	RBUILD_STRESS_ROUNDS=$(STRESS_ROUNDS) cargo test --locked --test e2e -- x30_killed
	RBUILD_STRESS_SIZE=full cargo test --locked --test e2e -- full_disk
	RBUILD_STRESS_SIZE=full cargo test --locked --test e2e -- memory_
	RBUILD_STRESS_ROUNDS=$(STRESS_ROUNDS) cargo test --locked -p rbuild-store --lib -- u11 u23
	RBUILD_STRESS_ROUNDS=$(STRESS_ROUNDS) cargo test --locked -p rbuild-sandbox --test isolation -- p13

doc:
	cargo doc --workspace --lib --no-deps --locked
