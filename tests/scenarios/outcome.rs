//! What a call came to, and in what that is otherwise than expected.

use std::fmt::{Display, Write};

use tokio::time::Instant;
use tower_oauth2_client::{AccessToken, TokenError};

use crate::{cache_support::now, format::Expect};

/// What a call came to, and when.
pub(crate) struct Called {
    pub(crate) outcome: Outcome,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// Another caller for whom it came to something else.
    pub(crate) other: Option<Box<Self>>,
}

pub(crate) type Outcome = Result<Option<AccessToken>, TokenError>;

impl Called {
    pub(crate) fn at_once(outcome: Outcome) -> Self {
        Self {
            outcome,
            begun: now(),
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

/// The code that the server sent, or the kind of the error where it sent none.
pub(crate) fn name_of(error: &TokenError) -> String {
    match error.error_response() {
        Some(error) => error.code().as_str().to_owned(),
        None => format!("{:?}", error.kind()),
    }
}

/// A line for each thing that is otherwise than expected.
#[derive(Default)]
pub(crate) struct Differences(pub(crate) String);

impl Differences {
    pub(crate) fn add<T: PartialEq + Display>(&mut self, what: &str, expected: T, got: T) {
        if expected != got {
            write!(self.0, "\n  {what}: expected {expected}, got {got}").unwrap();
        }
    }

    pub(crate) fn add_call(&mut self, called: &Called, expect: &Expect) {
        if let Some(other) = &called.other {
            let told = [called, other].map(|called| {
                let waited = called.ended - called.begun;
                format!("{} after {waited:?}", text(&called.outcome))
            });
            self.add("callers", "the same for all", &told.join(" and "));
        }
        let error = called.outcome.as_ref().err();
        if expect.is_failure() != error.is_some() || !expect.is_failure() {
            let expected = match &expect.token {
                Some(token) => token,
                None if expect.none => "no token",
                None => "an error",
            };
            self.add("outcome", expected, &text(&called.outcome));
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
            let says = expect.says.as_deref().unwrap_or_default();
            if !error.to_string().contains(says) {
                self.add("error text", says, &error.to_string());
            }
        }
        let waited = called.ended - called.begun;
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
