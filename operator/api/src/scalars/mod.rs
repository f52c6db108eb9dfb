//! Values that are written as one word with a unit: a quantity, a duration, a share.
//!
//! Each keeps the text it was written as and gives it back on serialisation, so that a document survives a round trip
//! unchanged. The expression in the schema of each accepts exactly what its parser accepts: an object that the API
//! server let in can always be decoded, since one that cannot would stop the operator's watch for all.

mod duration;
mod keep_free;
mod quantity;

pub use duration::DurationString;
pub(crate) use duration::units_format;
pub use keep_free::KeepFree;
pub use quantity::Quantity;

/// A word that is not of the form its field needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` cannot be read here: {remedy}")]
pub struct ParseScalarError {
    /// What was written.
    pub value: String,
    /// What would be right.
    pub remedy: &'static str,
}

/// The decimal number that `text` begins with, and what follows it; `None` when it does not begin with a digit or
/// has more than `most` of them.
fn leading_digits(text: &str, most: usize) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 || end > most {
        return None;
    }
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}
