//! A token response that was stored as JSON.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::call::TokenCall;
use crate::{
    authorization_server::endpoint::EndpointCall,
    base::clock,
    error::{Answer, TokenError},
    message::TokenResponse,
};

impl TokenResponse {
    /// Reads a response from its JSON, as an endpoint reads it from the server.
    ///
    /// It restores a response whose [`raw`](Self::raw) body was stored. Subtract the time since then with
    /// [`age`](crate::TokenResponseBuilder::age): the JSON still has the whole lifetime.
    ///
    /// The settings of an endpoint are not known here. If it [uses ID tokens](crate::TokenEndpoint::use_id_token) or tokens of
    /// [unknown types](crate::TokenEndpoint::token_type), store the body of `response.to_builder().build()`: it has the token as the endpoint
    /// read it. A token of the type `DPoP` has lost its key, and cannot be sent before it is bound to the key again.
    ///
    /// # Errors
    ///
    /// Returns the error of an endpoint whose server answered with this body. It contains no token.
    ///
    /// # Security
    ///
    /// The body contains tokens: encrypt it before you store it outside this process.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenResponse;
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::TokenError> {
    /// let response = TokenResponse::from_json(r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"Bearer"}"#)?;
    /// let restored = TokenResponse::from_json(response.raw().clone())?;
    /// assert_eq!(restored.access_token(), response.access_token());
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_json(json: impl Into<Bytes>) -> Result<Self, TokenError> {
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), json.into());
        TokenCall::default().decode(answer, None, clock::wall_now())
    }
}
