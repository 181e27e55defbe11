#!/bin/bash
# test.sh BASES - runs all tests, and says at the end how many threats they cover, and how many of them
# passed, failed and were skipped.
#
# BASES is the directory that make-bases.sh made.
set -uo pipefail
bases=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 2

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
log=$directory/log
# Tests run as other users, too, who may not be allowed to look into this directory.
chmod 0755 "$directory"
cp -r "$bases/programs" "$directory/"
export RBUILD_TEST_CACHE=$directory/programs
cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log"
status=$?

# Said in the middle of it by the test that counts them.
echo
grep --only-matching 'threats: [0-9]* rows: .*' "$log"

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
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    }' "$log"
exit $status
