//! DPoP proofs for requests that no layer of this crate sends.

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::AccessToken;
use crate::{
    dpop::{DpopKey, Role},
    error::TokenError,
};

/// # Proofs by hand
impl DpopKey {
    /// A proof for one request, to be sent in the header `DPoP`: for requests that no layer of this crate sends. With a token it is
    /// for a request to an API that bears this token; without, for one to the authorization server. It is marked sensitive.
    ///
    /// The query of `uri` is left out. The nonce is the last one that [`note_response`](Self::note_response) took in for this origin.
    ///
    /// # Errors
    ///
    /// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if `uri` is not absolute, and [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential) if the signer fails.
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

    /// Takes in the nonce of a response, if it holds one: of an API for a `token`, of the authorization server without.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Response, Uri};
    /// use tower_oauth2_client::DpopKey;
    ///
    /// // What the authorization server answered to a request at another of its endpoints.
    /// fn answered<B>(key: &DpopKey, uri: &Uri, response: &Response<B>) {
    ///     key.note_response(uri, None, response.headers());
    /// }
    /// ```
    pub fn note_response(&self, uri: &Uri, token: Option<&AccessToken>, headers: &HeaderMap) {
        let role = match token {
            Some(_) => Role::ResourceServer,
            None => Role::AuthorizationServer,
        };
        self.note_nonce(role, uri, headers);
    }
}
