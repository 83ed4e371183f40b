//! What others offer to put an access token on a request, each brought to one form. See `README.md` one folder up.

#![allow(clippy::disallowed_methods, reason = "they read clocks of their own")]

pub mod aws;
pub mod azure;
pub mod by_hand;
pub mod endpoint;
pub mod google;
pub mod huskarl;
pub mod kube;
pub mod oauth2;
pub mod ours;
pub mod yup;

use std::{error::Error, future::Future};

use http::HeaderValue;

pub type BoxError = Box<dyn Error + Send + Sync>;

/// Something that holds an access token and renews it.
///
/// Its future is not boxed for the sake of this trait: what a peer allocates is its own.
pub trait Peer: Clone + Send + Sync + 'static {
    /// The value of `Authorization`, out of the cache if there is one.
    fn authorization(&self) -> impl Future<Output = Result<HeaderValue, BoxError>> + Send;
}

/// As every one of the peers does that holds the bare token.
pub fn bearer(token: &str) -> Result<HeaderValue, BoxError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}
