#!/bin/sh
# The whole path on real faces, in the commands a user types. `make demo` runs this.
set -eu
rm -rf shards/att-train shards/att-test runs/att reports/att
run() {
    printf '\n$ %s\n' "$*"
    "$@"
}
run sf2 pack att shards/att --holdout 10 --holdout-seed 0 --size 64
run sf2 train configs/att.yaml --deepspeed configs/ds_zero1.json --nproc 2
run sf2 eval runs/att --set shards/att-test --out reports/att
run sf2 scale-test --num-ids 10k,100k
printf '\nThe report: %s/reports/att/report.html\n' "$(pwd)"
