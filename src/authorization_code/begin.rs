//! The start of a sign-in at an issuer: find the endpoint, push the request or not, make the URL.

use std::future::{Future, poll_fn};

use serde_json::Value;
use tower_service::Service;

use super::{AuthorizationEndpoint, AuthorizationRequest, PendingAuthorization, endpoint::refuse};
use crate::{
    authorization_server::{
        http_service::HttpService, metadata::ServerMetadata, token_endpoint::service::TokenEndpoint,
    },
    error::TokenError,
};

/// # The sign-in of a user
impl<S, B> TokenEndpoint<S, B> {
    /// Makes the URL to which the browser of a user is sent, and what must be kept until the user returns
    /// ([RFC 6749 §4.1](https://www.rfc-editor.org/rfc/rfc6749#section-4.1)).
    ///
    /// 1. The metadata of the issuer names the authorization endpoint. They are fetched if necessary, and shared with token requests.
    /// 2. A new `state`, a new PKCE verifier and, if the scope contains `openid`, a new `nonce` are drawn.
    /// 3. The request is [pushed](AuthorizationRequest::pushed) to the server if it has an endpoint for that.
    /// 4. If this endpoint or the request has a DPoP key, the code is bound to it.
    ///
    /// Send the browser to the URL before a pushed request expires, usually after a minute. When the user returns, let
    /// [`PendingAuthorization::accept`] check the response, and redeem the code at this endpoint or in a
    /// [`TokenCache`](crate::TokenCache) over it.
    ///
    /// # Errors
    ///
    /// * [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if the request is invalid, if the metadata names no authorization
    ///   endpoint or does not list PKCE with `S256`, or if this endpoint was created by [`new`](Self::new).
    /// * The errors of fetching the metadata, and those of the
    ///   [`PushedAuthorizationEndpoint`](crate::PushedAuthorizationEndpoint).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing for others that wait for the metadata. A pushed request that nobody uses expires.
    ///
    /// # Examples
    ///
    /// See [`authorization_code`](crate::authorization_code).
    #[cfg_attr(docsrs, doc(cfg(feature = "authorization-code")))]
    pub fn begin_authorization(
        &self,
        mut request: AuthorizationRequest,
    ) -> impl Future<Output = Result<(String, PendingAuthorization), TokenError>> + Send + use<S, B>
    where
        S: HttpService<B>,
        B: Send + 'static,
    {
        let metadata = self.metadata();
        let mut push = self.pushed_authorization();
        let (client_id, allow_http) = (self.client().client_id().to_owned(), self.core.allow_http);
        let has_issuer = self.issuer().is_some();
        request.dpop = request.dpop.or_else(|| self.core.dpop.clone());
        async move {
            if !has_issuer {
                return Err(refuse(
                    "the issuer is not known; create the `TokenEndpoint` with `TokenEndpoint::discover`, \
                     or use `AuthorizationEndpoint::new`",
                ));
            }
            let metadata = metadata.await?;
            let endpoint = AuthorizationEndpoint::of(&metadata, allow_http);
            if !is_pushed(request.pushed, &metadata).map_err(refuse)? {
                return endpoint.begin(request, client_id);
            }
            let (request, pending) = endpoint.begin_pushed(request, &*client_id)?;
            poll_fn(|cx| push.poll_ready(cx)).await?;
            let pushed = push.call(request).await?;
            Ok((endpoint.pushed_url(&pushed, client_id)?, pending))
        }
    }
}

/// Whether a request is pushed.
fn is_pushed(wanted: Option<bool>, metadata: &ServerMetadata) -> Result<bool, &'static str> {
    let is_required = metadata.require_pushed_authorization_requests();
    match wanted {
        Some(false) if is_required => Err(
            "the server accepts only pushed authorization requests (`require_pushed_authorization_requests`); \
             leave out `pushed(false)`",
        ),
        Some(wanted) => Ok(wanted),
        None => {
            let endpoint = metadata.get("pushed_authorization_request_endpoint");
            Ok(is_required || endpoint.is_some_and(Value::is_string))
        }
    }
}
