//! The deadline of a gRPC request, which its header `grpc-timeout` sets. It limits how long the request waits before it is sent.
//!
//! tonic's channel starts to count when it gets the request. So a request that waited here is sent with what remains of its time.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::time::Instant;

use super::{headers, refusal::is_grpc};
use crate::base::{
    clock::tokio_now,
    timer::{self, Sleep},
};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The most digits of a timeout (the gRPC specification, "Requests").
const MAX_DIGITS: usize = 8;

/// See the [module](self).
pub(super) struct Deadline {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The deadline in the extensions of a request, which a resent request has, too.
#[derive(Clone, Copy)]
struct NotedDeadline(Instant);

/// The deadline has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed;

/// Notes when the deadline of a request is, counted from now. Only a request that may have to wait needs it.
pub(super) fn note<B>(request: &mut Request<B>) {
    // Without the feature, there is no status for a deadline that has passed.
    if !cfg!(feature = "tonic") || !headers::contains(request.headers(), &GRPC_TIMEOUT) {
        return;
    }
    let timeout = request.headers().get(GRPC_TIMEOUT).and_then(parse);
    let at = timeout
        .filter(|_| is_grpc(request.headers()))
        .and_then(|timeout| tokio_now().checked_add(timeout));
    if let Some(at) = at {
        request.extensions_mut().insert(NotedDeadline(at));
    }
}

impl Deadline {
    /// The deadline of a request, if one was [noted](note).
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let NotedDeadline(at) = *request.extensions().get()?;
        Some(Self { at, timer: None })
    }

    /// Waits until the deadline has passed.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Ok(remaining) = self.remaining() else {
            return Poll::Ready(());
        };
        if self.timer.is_none() && !timer::is_known_to_be_missing() {
            self.timer = timer::sleep(remaining).map(Box::pin);
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Sets the timeout in the headers to what remains of it.
    pub(super) fn shorten(&self, headers: &mut HeaderMap) -> Result<(), Passed> {
        headers.insert(GRPC_TIMEOUT, print(self.remaining()?));
        Ok(())
    }

    fn remaining(&self) -> Result<Duration, Passed> {
        let remaining = self.at.saturating_duration_since(tokio_now());
        match remaining.is_zero() {
            true => Err(Passed),
            false => Ok(remaining),
        }
    }
}

/// Reads a timeout. tonic ignores one that is malformed, too.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    let is_number = digits.iter().all(u8::is_ascii_digit);
    if !is_number || !(1..=MAX_DIGITS).contains(&digits.len()) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 60 * 60),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Prints a timeout in the finest unit that it fits in, rounded down.
fn print(timeout: Duration) -> HeaderValue {
    const MAX: u128 = 99_999_999;
    let seconds = u128::from(timeout.as_secs());
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (seconds, 'S'),
        (seconds / 60, 'M'),
    ];
    let fitting = units.into_iter().find(|(number, _)| *number <= MAX);
    let (number, unit) = fitting.unwrap_or(((seconds / 3600).min(MAX), 'H'));
    let printed = HeaderValue::try_from(format!("{number}{unit}"));
    printed.unwrap_or(HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    #[test]
    fn a_timeout_is_printed_in_the_finest_unit_that_fits() {
        for (timeout, expected) in [
            (Duration::from_nanos(1), "1n"),
            (Duration::from_millis(99), "99000000n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(1), "1000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(27 * HOUR), "97200000m"),
            (Duration::from_secs(28 * HOUR), "100800S"),
            (Duration::from_secs(99_999_999 * 60), "99999999M"),
            (Duration::from_secs(99_999_999 * HOUR), "99999999H"),
        ] {
            let printed = print(timeout);
            assert_eq!(printed, expected);
            assert_eq!(parse(&printed), Some(timeout));
        }
    }

    #[test]
    fn a_malformed_timeout_is_none() {
        for text in ["", "S", "1", "1x", "-1S", "1 S", "123456789S", "1.5S"] {
            assert_eq!(parse(&HeaderValue::from_static(text)), None, "{text}");
        }
    }

    #[cfg(feature = "tonic")]
    #[test]
    fn only_grpc_requests_with_a_timeout_have_a_deadline() {
        for (content_type, timeout, expected) in [
            ("application/grpc", Some("1S"), true),
            ("application/grpc+proto", Some("1S"), true),
            ("application/grpc", Some("soon"), false),
            ("application/grpc", None, false),
            ("application/json", Some("1S"), false),
        ] {
            let mut request = Request::builder().header("content-type", content_type);
            if let Some(timeout) = timeout {
                request = request.header(GRPC_TIMEOUT, timeout);
            }
            let mut request = request.body(()).unwrap();
            note(&mut request);
            let has_deadline = Deadline::of(&request).is_some();
            assert_eq!(has_deadline, expected, "{content_type} {timeout:?}");
        }
    }
}
