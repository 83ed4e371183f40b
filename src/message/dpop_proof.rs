//! DPoP proofs for requests that are not sent by this crate.

use std::fmt;

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::AccessToken;
use crate::{
    base::uri,
    dpop::{DpopKey, Role},
    error::TokenError,
};

/// # Proofs for your own requests
impl DpopKey {
    /// Creates a proof for one request, to send in the `DPoP` header.
    ///
    /// Use it for requests that you send without the layers of this crate. Pass a token for a request to an API that carries this token,
    /// and `None` for a request to the authorization server. The header value is marked sensitive.
    ///
    /// `uri` is a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints a URI. The proof does not contain its query. Its nonce is the last one that [`note_response`](Self::note_response) stored for
    /// the origin of `uri`.
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if `uri` is invalid or not
    /// absolute, and of the kind
    /// [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential) if the signer fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Method;
    /// use tower_oauth2_client::DpopKey;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = DpopKey::generate()?;
    /// let proof = key.proof(&Method::POST, "https://as.example/par", None).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn proof(
        &self,
        method: &Method,
        uri: impl fmt::Display,
        token: Option<&AccessToken>,
    ) -> Result<HeaderValue, TokenError> {
        let uri = &parse(uri).map_err(|why| {
            TokenError::request(format!("the request was not sent: its URI {why}"))
        })?;
        let hash = token.map(|token| self.token_hash(token.expose_secret()));
        let role = match token {
            Some(_) => Role::ResourceServer,
            None => Role::AuthorizationServer,
        };
        let proof = self.prove(role, method, uri, hash.as_deref()).await?;
        Ok(proof.header)
    }

    /// Stores the nonce of a response, if it contains one, and the difference to the server's clock, if that is
    /// [followed](Self::follow_server_clock).
    ///
    /// Pass the same `token` as to [`proof`](Self::proof): a token for the response of an API, and `None` for one of the authorization
    /// server. A response whose `uri` is invalid is ignored.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Response, Uri};
    /// use tower_oauth2_client::DpopKey;
    ///
    /// // The response of another endpoint of the authorization server
    /// fn received<B>(key: &DpopKey, uri: &Uri, response: &Response<B>) {
    ///     key.note_response(uri, None, response.headers());
    /// }
    /// ```
    pub fn note_response(
        &self,
        uri: impl fmt::Display,
        token: Option<&AccessToken>,
        headers: &HeaderMap,
    ) {
        let Ok(uri) = parse(uri) else { return };
        let role = match token {
            Some(_) => Role::ResourceServer,
            None => Role::AuthorizationServer,
        };
        self.note_headers(role, &uri, headers);
    }
}

/// Reads the URI of a request. That of `OPTIONS *` prints an asterisk where its authority ends (RFC 9110 §7.1), and has no path.
fn parse(uri: impl fmt::Display) -> Result<Uri, String> {
    let text = uri.to_string();
    match text.strip_suffix('*') {
        Some(origin) if !origin.ends_with(['/', '?']) => match uri::parse(origin) {
            Ok(uri) if uri.path() == "/" && uri.query().is_none() => Ok(uri),
            _ => uri::parse(&text),
        },
        _ => uri::parse(&text),
    }
}
