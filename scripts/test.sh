#!/bin/bash
# test.sh - runs all tests, and says at the end how many of them passed, failed and were skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log"
status=$?

# Cargo prints one such line for each program with tests. One that did not even compile has none: then
# cargo's status alone says that something failed.
awk -v status=$status '/^test result: / {
        for (word = 1; word < NF; word++) {
            if ($(word + 1) == "passed;") passed += $word
            if ($(word + 1) == "failed;") failed += $word
            if ($(word + 1) == "ignored;") skipped += $word
        }
    }
    END {
        if (status != 0 && failed == 0) failed = 1
        printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
    }' "$log"
exit $status
