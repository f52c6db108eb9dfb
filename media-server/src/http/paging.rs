//! Lists come in pages, newest first. What their queries say is checked here, and each refusal names the parameter.

use crate::problem::{Kind, Problem};
use jiff::Timestamp;
use std::fmt::Display;

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

/// The `before`: the id of the last row of the page before, which is a `row`.
pub(super) fn before<I>(
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Option<I>,
    row: &str,
) -> Result<Option<I>, Problem> {
    parsed(text, parse, |text| format!("before is {text:?}, not a {row}'s id"))
}

/// Parses `from` and `to`, times in the order of the clock.
pub(super) fn range(from: Option<&str>, to: Option<&str>) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
    let time = |name: &str, text: Option<&str>| {
        let wrong = |text: &str| format!("{name} is {text:?}; use a time such as 2026-11-30T12:00:00Z");
        parsed(text, |text| text.parse::<Timestamp>().ok(), wrong)
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    match (from, to) {
        (Some(after), Some(before)) if after > before => {
            Err(Problem::new(Kind::BadRequest, format!("from is {after}, after to, {before}; exchange them")))
        }
        times => Ok(times),
    }
}

/// The `before` of the next page; none when this one, of at most `limit` rows, is not full.
pub(super) fn next<R, I: Display>(rows: &[R], limit: usize, id: impl FnOnce(&R) -> &I) -> Option<String> {
    rows.last().filter(|_| rows.len() == limit).map(|last| id(last).to_string())
}

fn parsed<T>(
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Option<T>,
    wrong: impl FnOnce(&str) -> String,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(text).ok_or_else(|| Problem::new(Kind::BadRequest, wrong(text)))).transpose()
}
