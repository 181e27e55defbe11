#!/bin/bash
# fuzz.sh SECONDS SEED - runs each fuzz target of each crate for so long, all at the same time.
#
# A seed other than 0 makes the same attempts each time.
#
# What `cargo fuzz` would do, without having to install it: coverage counters for libFuzzer in all
# code. The compiler is the one that builds everything else. Only sanitizers need another one, and
# they find little in code that has `unsafe` forbidden.
set -euo pipefail
seconds=$1 seed=$2
cd "$(dirname "$0")/.."
top=$PWD
# There is no better collection of Dockerfiles than the cases of the tests.
cases=("$top/testdata/graph" "$top/testdata/check")

host=$(rustc -vV | sed -n 's/^host: //p')
flags=(
    --cfg=fuzzing
    -Cdebug-assertions
    # The runtime that counts is LLVM's; all code has to be known to it when it is linked.
    -Ccodegen-units=1
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
export RUSTFLAGS="${flags[*]}"

# fuzz NAME - runs a target; what it says is shown only if it finds something.
fuzz() {
    local name=$1 log others=() largest=4096
    case $PWD in
        */dockerfile-parser/fuzz) others=("${cases[@]}") ;;
        # A tar of a few entries, with headers of their own, is larger.
        */store/fuzz) largest=12288 ;;
    esac
    log=$(mktemp)
    mkdir -p "corpus/$name" artifacts
    # The corpus grows, and stays on this machine; all others are only read.
    if "$top/target/fuzz/$host/release/$name" "corpus/$name" "seeds/$name" "${others[@]}" \
        -max_len=$largest \
        -max_total_time="$seconds" -seed="$seed" -timeout=30 -artifact_prefix=artifacts/ > "$log" 2>&1; then
        echo "$name: $(grep '^Done ' "$log" || echo 'nothing found')"
    else
        tail -n 40 "$log"
        echo "$name: found something; it is in $PWD/artifacts"
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

for directory in crates/*/fuzz; do
    # Naming the target keeps the flags from build scripts. What the crates have in common is compiled
    # once.
    (cd "$directory" && cargo build --release --locked --target "$host" --target-dir "$top/target/fuzz")
done
status=0
runs=()
for directory in crates/*/fuzz; do
    pushd "$directory" > /dev/null
    for source in fuzz_targets/*.rs; do
        fuzz "$(basename "$source" .rs)" &
        runs+=($!)
    done
    popd > /dev/null
done
for run in "${runs[@]}"; do
    wait "$run" || status=1
done
exit $status
