# What developers run, and CI with them. `just` alone lists it; without just, run what stands below.

[private]
default:
    @just --list

# Formatting, licences, lints, documentation, generated files
check:
    tests/run check

# Unit and property tests
test:
    tests/run test

# Whole-server and browser tests
e2e:
    tests/run e2e

# The appliance on a kind cluster
cluster:
    tests/run cluster

# The operator under every fault, on the same cluster: an hour and more
faults:
    tests/run faults

# Every test with its long parameters, and foreign clients; no cluster: hours
long:
    tests/run long

# long and faults: for every night
nightly:
    tests/run nightly

# The benchmark of docs/benchmarks.md
bench *args:
    tests/load/run {{args}}

# Each fuzz target for a while, or those named: just fuzz 600 stun
fuzz *args:
    media-server/fuzz/run {{args}}

# Writes crds/ anew
crds:
    cargo run --release --locked -p streamsession-api --bin crds
