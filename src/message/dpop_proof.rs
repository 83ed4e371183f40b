//! DPoP proofs for requests that are not sent by this crate.

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::AccessToken;
use crate::{
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
    /// The proof does not contain the query of `uri`. Its nonce is the last one that [`note_response`](Self::note_response) stored for
    /// the origin of `uri`.
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if `uri` is not absolute, and of the kind
    /// [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential) if the signer fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Method, Uri};
    /// use tower_oauth2_client::DpopKey;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = DpopKey::generate()?;
    /// let proof = key.proof(&Method::POST, &Uri::from_static("https://as.example/par"), None).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn proof(
        &self,
        method: &Method,
        uri: &Uri,
        token: Option<&AccessToken>,
    ) -> Result<HeaderValue, TokenError> {
        match token {
            Some(token) => {
                let hash = self.token_hash(token.expose_secret());
                self.prove(Role::ResourceServer, method, uri, Some(&hash))
                    .await
            }
            None => {
                self.prove(Role::AuthorizationServer, method, uri, None)
                    .await
            }
        }
    }

    /// Stores the nonce of a response, if it contains one, and the difference to the server's clock, if that is
    /// [followed](Self::follow_server_clock).
    ///
    /// Pass the same `token` as to [`proof`](Self::proof): a token for the response of an API, and `None` for one of the authorization
    /// server.
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
    pub fn note_response(&self, uri: &Uri, token: Option<&AccessToken>, headers: &HeaderMap) {
        let role = match token {
            Some(_) => Role::ResourceServer,
            None => Role::AuthorizationServer,
        };
        self.note_headers(role, uri, headers);
    }
}
