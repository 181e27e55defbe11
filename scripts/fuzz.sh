#!/bin/bash
# fuzz.sh SECONDS - runs each fuzz target of each crate for so long, with a nightly compiler.
#
# What `cargo fuzz` would do, without having to install it: coverage counters for libFuzzer in all
# code, and the address sanitizer.
set -euo pipefail
cd "$(dirname "$0")/../crates"

if ! rustup run nightly rustc --version > /dev/null 2>&1; then
    echo "fuzz.sh: needs a nightly compiler: rustup toolchain install nightly" >&2
    exit 1
fi
host=$(rustup run nightly rustc -vV | sed -n 's/^host: //p')
flags=(
    --cfg=fuzzing
    -Zsanitizer=address
    -Cdebug-assertions
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
export RUSTFLAGS="${flags[*]}"

for directory in */fuzz; do
    # In a subshell, so that the next one starts where this one did.
    (
        cd "$directory"
        # Naming the target keeps the flags from build scripts.
        cargo +nightly build --release --target "$host" --target-dir target
        for source in fuzz_targets/*.rs; do
            name=$(basename "$source" .rs)
            mkdir -p "corpus/$name" artifacts
            "target/$host/release/$name" "corpus/$name" "seeds/$name" \
                -max_total_time="$1" -timeout=10 -artifact_prefix=artifacts/
        done
    )
done
