//! The result of a call, and its differences from the expected result.

use std::fmt::{Display, Write};

use tokio::time::Instant;
use tower_oauth2_client::{IssuedToken, TokenError};

use crate::{cache_support::now, format::Expect};

/// The result of a call, and when it started and ended.
pub(crate) struct CallResult {
    pub(crate) outcome: Outcome,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    /// A concurrent caller that got a different result.
    pub(crate) other: Option<Box<Self>>,
}

pub(crate) type Outcome = Result<Option<IssuedToken>, TokenError>;

impl CallResult {
    pub(crate) fn at_once(outcome: Outcome) -> Self {
        Self {
            outcome,
            started: now(),
            ended: now(),
            other: None,
        }
    }
}

pub(crate) fn text(outcome: &Outcome) -> String {
    match outcome {
        Ok(Some(token)) => token.expose_secret().to_owned(),
        Ok(None) => "no token".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Returns the error code that the server sent, or the kind of the error if it sent none.
pub(crate) fn name_of(error: &TokenError) -> String {
    match error.error_response() {
        Some(error) => error.code().as_str().to_owned(),
        None => format!("{:?}", error.kind()),
    }
}

/// The differences from the expected result, one per line.
#[derive(Default)]
pub(crate) struct Differences(pub(crate) String);

impl Differences {
    pub(crate) fn add<T: PartialEq + Display>(&mut self, what: &str, expected: T, got: T) {
        if expected != got {
            write!(self.0, "\n  {what}: expected {expected}, got {got}").unwrap();
        }
    }

    pub(crate) fn add_result(&mut self, result: &CallResult, expect: &Expect) {
        if let Some(other) = &result.other {
            let both = [result, other].map(|result| {
                let waited = result.ended - result.started;
                format!("{} after {waited:?}", text(&result.outcome))
            });
            self.add("callers", "the same for all", &both.join(" and "));
        }
        let error = result.outcome.as_ref().err();
        if expect.is_failure() != error.is_some() || !expect.is_failure() {
            let expected = match &expect.token {
                Some(token) => token,
                None if expect.no_token => "no token",
                None => "an error",
            };
            self.add("outcome", expected, &text(&result.outcome));
        }
        if let Some(error) = error.filter(|_| expect.is_failure()) {
            let kind = format!("{:?}", error.kind());
            self.add("kind", expect.kind.as_ref().unwrap_or(&kind), &kind);
            let code = name_of(error);
            self.add("error", expect.error.as_ref().unwrap_or(&code), &code);
            if let Some(status) = expect.status {
                let got = error.status().map(|status| status.as_u16());
                self.add("status", status, got.unwrap_or_default());
            }
            let expected = expect.error_contains.as_deref().unwrap_or_default();
            if !error.to_string().contains(expected) {
                self.add("error text", expected, &error.to_string());
            }
        }
        let waited = result.ended - result.started;
        let waits = expect.waits.map(|waits| waits.bounds());
        let (least, greatest) =
            waits.map_or_else(Default::default, |waits| (waits.start().0, waits.end().0));
        if !(least..=greatest).contains(&waited) {
            let expected = match least == greatest {
                true => format!("{least:?}"),
                false => format!("{least:?} to {greatest:?}"),
            };
            self.add("waits", expected, format!("{waited:?}"));
        }
    }
}
