//! How much is done: chosen by the environment.

/// Whether it has to be done within minutes.
pub(crate) fn short() -> bool {
    match std::env::var("FAULTS").as_deref() {
        Ok("short") => true,
        Ok("whole") | Err(_) => false,
        Ok(other) => panic!("FAULTS={other}: it is short or whole"),
    }
}

/// Numbers with commas from the environment; without, those of the short run or of the whole one.
pub(crate) fn numbers(variable: &str, in_short: &[u64], in_whole: &[u64]) -> Vec<u64> {
    let Ok(text) = std::env::var(variable) else {
        return if short() { in_short.to_vec() } else { in_whole.to_vec() };
    };
    text.split(',').map(|number| number.trim().parse().unwrap_or_else(|_| panic!("{variable}={text}"))).collect()
}
