//! The scripts that Redis runs, each one atomic operation, and what they return.

use std::{fmt::Write, time::Duration};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use redis::{Cmd, Value};

use crate::error::{BoxError, OwnError};
use crate::token_store::{Fence, Found, Put, slot::LEASE_REMEMBERED};

/// A script with the SHA-1 digest by which Redis knows it.
pub(super) struct Script {
    text: &'static str,
    digest: String,
}

/// One call of a script.
pub(super) struct Call<'a> {
    script: &'a Script,
    key: &'a str,
    arguments: Vec<Vec<u8>>,
}

pub(super) struct Scripts {
    pub(super) look: Script,
    pub(super) renew: Script,
    pub(super) release: Script,
    pub(super) put: Script,
    pub(super) remove: Script,
    pub(super) held: Script,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("scripts/prelude.lua"),
            include_str!(concat!("scripts/", $name, ".lua"))
        ))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            look: script!("look"),
            renew: script!("renew"),
            release: script!("release"),
            put: script!("put"),
            remove: script!("remove"),
            held: script!("held"),
        }
    }
}

impl Script {
    fn new(text: &'static str) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut hex = String::with_capacity(40);
        for byte in digest.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self { text, digest: hex }
    }

    pub(super) fn on<'a>(&'a self, key: &'a str) -> Call<'a> {
        Call {
            script: self,
            key,
            arguments: Vec::new(),
        }
    }
}

impl Call<'_> {
    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.arguments.push(bytes.to_vec());
        self
    }

    pub(super) fn fence(self, fence: Fence) -> Self {
        self.text(&fence.get().to_string())
    }

    pub(super) fn time(self, time: Duration) -> Self {
        self.text(&millis(time).to_string())
    }

    pub(super) fn remembered(self) -> Self {
        self.time(LEASE_REMEMBERED)
    }

    /// The command for a server that has the script.
    pub(super) fn by_digest(&self) -> Cmd {
        self.command("EVALSHA", &self.script.digest)
    }

    /// The command for a server that does not have the script yet.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(self.key);
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }
}

/// Rounds up, so that a short time is not none. Redis refuses times that are too long.
fn millis(time: Duration) -> u64 {
    const TEN_YEARS: u64 = 10 * 365 * 24 * 3600 * 1000;
    let millis = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(TEN_YEARS).min(TEN_YEARS)
}

/// Reads the answer of the script `look`.
pub(super) fn found(answer: Value) -> Result<Found, BoxError> {
    let found = parts(answer).and_then(|parts| match &parts[..] {
        [tag, entry, fence, age] if tag == "entry" => Some(Found::Entry {
            entry: entry.clone(),
            fence: Fence::new(number(fence)?),
            age: Duration::from_millis(number(age)?),
        }),
        [tag, fence, lost] if tag == "leased" => Some(Found::Leased {
            fence: Fence::new(number(fence)?),
            after_lost_holder: number(lost)? != 0,
        }),
        [tag, fence, rest] if tag == "held" => Some(Found::Held {
            fence: Fence::new(number(fence)?),
            rest: Duration::from_millis(number(rest)?),
        }),
        [tag, rest] if tag == "paused" => Some(Found::Paused {
            rest: Duration::from_millis(number(rest)?),
        }),
        _ => None,
    });
    found.ok_or_else(unexpected)
}

/// Reads the answer of the script `put`.
pub(super) fn put(answer: Value) -> Result<Put, BoxError> {
    Ok(match choose(answer, "stored", "superseded")? {
        true => Put::Stored,
        false => Put::Superseded,
    })
}

/// Reads an answer that is one of two words.
pub(super) fn choose(answer: Value, yes: &str, no: &str) -> Result<bool, BoxError> {
    match parts(answer).as_deref() {
        Some([word]) if word == yes => Ok(true),
        Some([word]) if word == no => Ok(false),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> BoxError {
    OwnError::new("Redis returned an unexpected answer").into()
}

fn parts(answer: Value) -> Option<Vec<Bytes>> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let part = |part| match part {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    };
    parts.into_iter().map(part).collect()
}

fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(parts: &[&str]) -> Value {
        let part = |part: &&str| Value::BulkString(part.as_bytes().to_vec());
        Value::Array(parts.iter().map(part).collect())
    }

    #[test]
    fn answers_of_the_scripts_are_read() {
        let fence = Fence::new(1_700_000_000_123_456);
        for (parts, expected) in [
            (
                &["entry", "e", "1700000000123456", "1500"][..],
                Found::Entry {
                    entry: "e".into(),
                    fence,
                    age: Duration::from_millis(1500),
                },
            ),
            (
                &["leased", "1700000000123456", "1"],
                Found::Leased {
                    fence,
                    after_lost_holder: true,
                },
            ),
            (
                &["held", "1700000000123456", "20"],
                Found::Held {
                    fence,
                    rest: Duration::from_millis(20),
                },
            ),
            (
                &["paused", "20"],
                Found::Paused {
                    rest: Duration::from_millis(20),
                },
            ),
        ] {
            assert_eq!(found(array(parts)).unwrap(), expected);
        }
        assert_eq!(put(array(&["superseded"])).unwrap(), Put::Superseded);
    }

    #[test]
    fn other_answers_are_errors() {
        let nested = Value::Array(vec![array(&["entry", "e", "1", "1"])]);
        for answer in [
            Value::Nil,
            Value::Okay,
            Value::Int(1),
            Value::BulkString(b"entry".to_vec()),
            Value::SimpleString("<html>".into()),
            Value::Map(vec![(Value::Int(1), Value::Nil)]),
            Value::Array(vec![]),
            Value::Array(vec![Value::Nil]),
            nested,
            array(&[""]),
            array(&["entry"]),
            array(&["entry", "e", "1"]),
            array(&["entry", "e", "1", "-1"]),
            array(&["entry", "e", "1e15", "1"]),
            array(&["entry", "e", "18446744073709551616", "1"]),
            array(&["entry", "e", "nan", "1"]),
            array(&["entry", "e", "1", "1", "1"]),
            array(&["leased", "1"]),
            array(&["leased", "", "0"]),
            array(&["held", "1", ""]),
            array(&["paused", "\u{661}"]),
            array(&["stored", "stored"]),
        ] {
            assert!(found(answer.clone()).is_err(), "{answer:?}");
            assert!(put(answer.clone()).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn times_are_rounded_up_and_limited() {
        for (time, expected) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(1001), 2),
            (Duration::from_secs(1), 1000),
            (Duration::MAX, 315_360_000_000),
        ] {
            assert_eq!(millis(time), expected, "{time:?}");
        }
    }

    #[test]
    fn script_is_known_by_the_digest_of_its_text() {
        assert_eq!(
            Script::new("return 1").digest,
            "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
        );
    }
}
