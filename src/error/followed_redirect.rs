//! Notices that the HTTP client has followed a redirect, so that a response is not from where its request was sent.

use std::{error::Error, fmt};

#[cfg(feature = "tower-http")]
use http::Uri;
use http::{Request, Response};

use super::chain;

/// The HTTP client followed a redirect, so the response is not from the endpoint.
#[derive(Debug)]
pub(crate) struct FollowedRedirect;

impl fmt::Display for FollowedRedirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the HTTP client followed the redirect")
    }
}

impl Error for FollowedRedirect {}

/// Whether any error in the chain says that a redirect was followed.
pub(crate) fn is_followed_redirect(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.is::<FollowedRedirect>())
}

/// Where a request was sent. Its response should come from there.
pub(crate) struct SentTo {
    #[cfg(feature = "tower-http")]
    uri: Uri,
}

impl SentTo {
    #[cfg_attr(not(feature = "tower-http"), allow(unused_variables))]
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self {
            #[cfg(feature = "tower-http")]
            uri: request.uri().clone(),
        }
    }

    /// Checks that the response comes from there, if the HTTP client says where it comes from.
    ///
    /// A redirect can turn a `POST` into a `GET` at another server, also over plain `http`. What that server says is not an answer of
    /// the endpoint.
    #[cfg_attr(not(feature = "tower-http"), allow(unused_variables))]
    pub(crate) fn check<B>(&self, response: &Response<B>) -> Result<(), FollowedRedirect> {
        #[cfg(feature = "tower-http")]
        if come_from(response).is_some_and(|uri| *uri != self.uri) {
            return Err(FollowedRedirect);
        }
        Ok(())
    }
}

/// Returns where a response comes from. tower-http's `FollowRedirect` says it, in a type of its own for each version.
#[cfg(feature = "tower-http")]
fn come_from<B>(response: &Response<B>) -> Option<&Uri> {
    let extensions = response.extensions();
    let uri = extensions.get::<tower_http::follow_redirect::RequestUri>();
    let uri_07 = extensions.get::<tower_http_07::follow_redirect::RequestUri>();
    uri.map(|uri| &uri.0).or(uri_07.map(|uri| &uri.0))
}
