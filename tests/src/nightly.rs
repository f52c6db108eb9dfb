//! Which set of parameters a test runs: the short one of every run, or the long one of `tests/run nightly`.
//!
//! `NIGHTLY=1` selects the long one. A test that has no short form carries `#[ignore = "nightly"]` instead; the nightly
//! run includes ignored tests. Crates that cannot depend on this one read the variable themselves.

/// Whether the long sets are run: `NIGHTLY` is 1. Panics on values other than 0 and 1.
pub fn is_nightly() -> bool {
    match std::env::var("NIGHTLY").as_deref() {
        Ok("1") => true,
        Ok("0") | Err(_) => false,
        Ok(other) => panic!("NIGHTLY={other}: set it to 1 for the long parameter sets, or leave it out"),
    }
}

/// Returns the short parameters, or the long ones in a nightly run.
pub fn choose<T>(short: T, long: T) -> T {
    if is_nightly() { long } else { short }
}
