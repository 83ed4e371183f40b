//! Code that the targets share.

use std::{
    fmt::Display,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body_util::Full;

/// The body type of requests and responses.
pub type Body = Full<Bytes>;

/// Returns the output of a future that never waits for anything.
pub fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    // A future that wakes itself must be polled again. One that is not ready after 64 polls hangs.
    for _ in 0..64 {
        if let Poll::Ready(output) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return output;
        }
    }
    panic!("the future waits, but there is nothing to wait for");
}

/// Checks that an error is one line of bounded length, whatever the server sent.
pub fn check_error(error: &impl Display) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() < 16 * 1024, "{} bytes", text.len());
}

/// Removes and returns the first byte.
pub fn byte(data: &mut &[u8]) -> u8 {
    match data.split_first() {
        Some((first, rest)) => {
            *data = rest;
            *first
        }
        None => 0,
    }
}
