//! Checking a bound token and its proof on behalf of an API.

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::{
    check, nonce_header,
    proof::{self, Expected, Refusal},
};
use crate::{
    dpop::{DPOP_NONCE, Role},
    test_util::{AuthorizationServer, endpoints, jws},
};

#[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
impl AuthorizationServer {
    /// Checks the access token and the DPoP proof of a request to an API (RFC 9449 §7), as its resource server would.
    ///
    /// The proof is compared with the absolute URI of the request. In a server over HTTP/1.1, the URI is only a path: then the scheme is
    /// taken to be `http`, and the host is that of the `Host` header. An API behind TLS must set the absolute URI first, and so must a
    /// handler whose router has shortened the path.
    ///
    /// # Errors
    ///
    /// Returns the response to answer with. It is 401 with a `DPoP` challenge, which names one of these errors:
    ///
    /// - `invalid_token`: the token is unknown, expired, revoked, not bound to a key, or bound to another key.
    /// - `invalid_dpop_proof`: the proof is missing, is not valid for this request, or was used before.
    /// - `use_dpop_nonce`: the proof does not contain the [demanded nonce](Self::demand_dpop_nonces).
    /// - no error: there is no token with the scheme `DPoP`.
    ///
    /// Two `Authorization` headers are answered with 400 and `invalid_request`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response, StatusCode};
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_oauth2_client::{
    ///     AddAccessTokenLayer, ClientAuthentication, DpopKey, TokenCache, TokenEndpoint, TokenRequest,
    ///     test_util::AuthorizationServer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let server = AuthorizationServer::new();
    /// let checked = server.clone();
    /// let api = service_fn(move |request: Request<Full<Bytes>>| {
    ///     let response = match checked.check_dpop(&request) {
    ///         Ok(()) => Response::new(Full::from("hello")),
    ///         Err(refusal) => refusal,
    ///     };
    ///     async move { Ok::<_, Infallible>(response) }
    /// });
    ///
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client)
    ///     .dpop(DpopKey::generate()?);
    /// let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    /// let layer = AddAccessTokenLayer::new(source).origin("https://api.test")?;
    /// let api = ServiceBuilder::new().layer(layer).service(api);
    ///
    /// let request = Request::get("https://api.test/orders").body(Full::default())?;
    /// assert_eq!(api.oneshot(request).await?.status(), StatusCode::OK);
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::result_large_err)] // The error is the response that the API sends.
    pub fn check_dpop<B>(&self, request: &Request<B>) -> Result<(), Response<Full<Bytes>>> {
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        if values.next().is_some() {
            let refusal = challenge("invalid_request", "there is more than one token");
            return Err(response(StatusCode::BAD_REQUEST, &refusal));
        }
        let credentials = value.and_then(|value| value.split_once(' '));
        match credentials {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("dpop") => {
                self.check_bound(request, token)
            }
            _ => Err(response(
                StatusCode::UNAUTHORIZED,
                &with_algorithms("DPoP "),
            )),
        }
    }

    #[allow(clippy::result_large_err)] // The error is the response that the API sends.
    fn check_bound<B>(
        &self,
        request: &Request<B>,
        token: &str,
    ) -> Result<(), Response<Full<Bytes>>> {
        let unauthorized = |code, why| response(StatusCode::UNAUTHORIZED, &challenge(code, why));
        let bound_to = match self.key_of_access_token(token) {
            Some(Some(key)) => key,
            Some(None) => {
                return Err(unauthorized(
                    "invalid_token",
                    "the token is not bound to a key",
                ));
            }
            None => return Err(unauthorized("invalid_token", "the token is not active")),
        };
        let key = self.check_proof(request, token).map_err(|refusal| {
            let mut response = unauthorized(refusal.code(), refusal.why());
            let nonce = nonce_header(&self.core, Role::ResourceServer);
            if let (Refusal::NonceDemanded, Some(nonce)) = (refusal, nonce) {
                response.headers_mut().insert(DPOP_NONCE, nonce);
            }
            response
        })?;
        match key == bound_to {
            true => Ok(()),
            false => Err(unauthorized(
                "invalid_token",
                "the token is bound to another key",
            )),
        }
    }

    fn check_proof<B>(&self, request: &Request<B>, token: &str) -> Result<String, Refusal> {
        let proof = proof::of(request.headers())?;
        let proof = proof.ok_or(Refusal::Invalid("there is no proof"))?;
        let target = endpoints::target(request.uri(), request.headers());
        let expected = Expected {
            method: request.method(),
            targets: target.as_slice(),
            token: Some(token),
        };
        check(&self.core, Role::ResourceServer, proof, &expected)
    }
}

fn challenge(code: &str, why: &str) -> String {
    with_algorithms(&format!(
        "DPoP error=\"{code}\", error_description=\"{why}\", "
    ))
}

fn with_algorithms(start: &str) -> String {
    format!("{start}algs=\"{}\"", jws::names().join(" "))
}

fn response(status: StatusCode, challenge: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}
