//! Other crates that add an access token to a request, each behind the same trait. See `README.md` in the parent folder.

#![allow(clippy::disallowed_methods, reason = "peers read the clock directly")]

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

/// A crate that holds an access token and renews it.
///
/// This trait does not box the future, so all measured allocations come from the peer itself.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Returns the value of `Authorization`, from the cache if there is one.
    fn authorization(&self) -> impl Future<Output = Result<HeaderValue, BoxError>> + Send;
}

/// Builds the header value, as every peer does that holds the bare token.
pub fn bearer(token: &str) -> Result<HeaderValue, BoxError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}
