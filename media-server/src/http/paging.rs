//! Lists come in pages, newest first. What their queries say is checked here, and each refusal names the parameter.

use crate::control::StreamId;
use crate::problem::{Kind, Problem};

/// Rows of a page whose query does not say.
const USUAL: usize = 100;

/// Most rows of a page.
const MOST: usize = 500;

/// The `state`, which has one of `names`.
pub(super) fn state<S>(
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Option<S>,
    names: &str,
) -> Result<Option<S>, Problem> {
    parsed(text, parse, |text| format!("state is {text:?}; use {names}"))
}

/// The `limit`: how many rows the page has at most.
pub(super) fn limit(number: Option<usize>) -> Result<usize, Problem> {
    match number.unwrap_or(USUAL) {
        limit @ 1..=MOST => Ok(limit),
        other => Err(Problem::new(Kind::BadRequest, format!("limit is {other}; use 1 to {MOST}"))),
    }
}

/// The `before`: the id of the last row of the page before, which is a `row`. A recording has its stream's.
pub(super) fn before(text: Option<&str>, row: &str) -> Result<Option<StreamId>, Problem> {
    parsed(text, StreamId::parse, |text| format!("before is {text:?}, not a {row}'s id"))
}

/// The `before` of the next page; none when this one, of at most `limit` rows, is not full.
pub(super) fn next<R>(rows: &[R], limit: usize, id: impl FnOnce(&R) -> &StreamId) -> Option<String> {
    rows.last().filter(|_| rows.len() == limit).map(|last| id(last).to_string())
}

fn parsed<T>(
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Option<T>,
    wrong: impl FnOnce(&str) -> String,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(text).ok_or_else(|| Problem::new(Kind::BadRequest, wrong(text)))).transpose()
}
