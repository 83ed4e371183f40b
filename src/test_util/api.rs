//! Checking a bearer token on behalf of an API.

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::AuthorizationServer;

impl AuthorizationServer {
    /// Checks the access token of a request to an API (RFC 6750), as its resource server would.
    ///
    /// # Errors
    ///
    /// Returns the response to answer with. It is 401 with a `Bearer` challenge. The challenge says `invalid_token` if
    /// the token is unknown, expired, revoked or bound to a key (RFC 9449 §7.2), and names no error if there is no bearer token at all (RFC 6750 §3.1).
    /// Two `Authorization` headers are answered with 400 and `invalid_request`.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, StatusCode, header::AUTHORIZATION};
    /// use tower_oauth2_client::test_util::AuthorizationServer;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = AuthorizationServer::new();
    /// let token = server.issue_access_token("client", "api1");
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?);
    /// assert!(server.check_bearer(&headers).is_ok());
    ///
    /// server.revoke(&token);
    /// let response = server.check_bearer(&headers).unwrap_err();
    /// assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::result_large_err)] // The error is the response that the API sends.
    pub fn check_bearer(&self, headers: &HeaderMap) -> Result<(), Response<Full<bytes::Bytes>>> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        if values.next().is_some() {
            return Err(refusal(
                StatusCode::BAD_REQUEST,
                "Bearer error=\"invalid_request\"",
            ));
        }
        let credentials = value.and_then(|value| value.split_once(' '));
        match credentials {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                if self.is_active_bearer_token(token) {
                    Ok(())
                } else {
                    Err(refusal(
                        StatusCode::UNAUTHORIZED,
                        "Bearer error=\"invalid_token\"",
                    ))
                }
            }
            _ => Err(refusal(StatusCode::UNAUTHORIZED, "Bearer")),
        }
    }
}

fn refusal(status: StatusCode, challenge: &'static str) -> Response<Full<bytes::Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}
