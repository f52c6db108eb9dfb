//! The appliance on a real cluster: the chart, the operator, the pod, and people outside who use it.
//!
//! tests/run brings the cluster up and gives `CLUSTER_VALUES` (a file of chart values that names the images) and
//! `VERSITYGW_IMAGE` (a second S3 store). What the cluster is, and how it is reached, only tests/lab knows. Tests run one
//! after the other; what they measured goes to stderr.

// The lint's allowance for tests covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

mod broken;
mod caps;
mod chart;
mod cleanup;
mod exposure;
mod harness;
mod lifecycle;
mod media;
mod ready;
mod relay;
mod stores;
