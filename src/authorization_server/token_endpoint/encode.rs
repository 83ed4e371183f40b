//! From a token request to an HTTP request. Pure: whatever takes time has been obtained before.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION},
};

use super::{
    check::{check_value, refuse},
    place::{Found, Place},
};
use crate::{
    authorization_server::metadata::Rules,
    client_authentication::ClientAuthentication,
    dpop::{DPOP, DpopKey, Role},
    error::TokenError,
    message::{NoAccessToken, TokenRequest, scope},
    secret::{Credential, Secret, UsedSecret},
};

/// Where the request goes and on whose behalf.
pub(super) struct Target<'a> {
    pub(super) uri: &'a Uri,
    pub(super) client: &'a ClientAuthentication,
}

/// A [`Target`] of its own, for a request that must first obtain something: the metadata of the issuer, a credential, a signature.
pub(super) struct OwnedTarget {
    pub(super) place: Place,
    pub(super) client: ClientAuthentication,
    pub(super) rules: Rules,
    pub(super) dpop: Option<DpopKey>,
}

impl OwnedTarget {
    /// Looks where the token endpoint is, asks every provider, then signs, then makes the HTTP request.
    pub(super) async fn obtain_and_encode(
        &self,
        request: &TokenRequest,
    ) -> Result<Prepared, TokenError> {
        let found = self.find().await?;
        let mut obtained = Vec::new();
        for credential in credentials(request, &self.client) {
            let secret = credential.obtain().await.map_err(TokenError::credential)?;
            obtained.push(secret);
        }
        let client_secret = obtained.get(request.parameters().len());
        let assertion = self.sign_assertion(&found, client_secret).await?;
        let target = Target {
            uri: &found.uri,
            client: &self.client,
        };
        let texts = Obtained {
            secrets: &obtained,
            assertion: assertion.as_ref(),
        };
        let mut request = encode(request, &target, Some(&texts))?;
        if let Some(key) = &self.dpop {
            let role = Role::AuthorizationServer;
            let proof = key.prove(role, request.method(), target.uri, None).await?;
            request.headers_mut().insert(DPOP, proof);
        }
        let secret = self.client.rotating_secret().zip(obtained.pop());
        Ok(Prepared {
            request,
            secret: secret.map(|(credential, text)| UsedSecret {
                credential: credential.clone(),
                text,
            }),
        })
    }

    async fn find(&self) -> Result<Found, TokenError> {
        let dpop_algorithm = self.dpop.as_ref().map(DpopKey::algorithm_name);
        let place = &self.place;
        place.find(&self.client, dpop_algorithm, self.rules).await
    }

    /// The assertion of this very attempt, if the client signs one. A secret that is too short for it is refused by [`encode`].
    async fn sign_assertion(
        &self,
        found: &Found,
        secret: Option<&Secret>,
    ) -> Result<Option<Secret>, TokenError> {
        if !self.client.signs() {
            return Ok(None);
        }
        let uri = found.uri.to_string();
        let audience = found.issuer.as_deref().unwrap_or(&uri);
        let assertion = self.client.sign_assertion(audience, secret).await;
        assertion.map_err(TokenError::credential)
    }
}

/// What was obtained for one attempt.
pub(super) struct Obtained<'a> {
    /// The text of every credential, in the order of [`credentials`].
    secrets: &'a [Secret],
    /// The JWT that a client signed which authenticates by one.
    assertion: Option<&'a Secret>,
}

/// A request whose credentials have been obtained.
pub(super) struct Prepared {
    pub(super) request: Request<Bytes>,
    pub(super) secret: Option<UsedSecret>,
}

/// The credentials of a request and of its client, in the order in which they are sent.
pub(super) fn credentials<'a>(
    request: &'a TokenRequest,
    client: &'a ClientAuthentication,
) -> impl Iterator<Item = &'a Credential> {
    let parameters = request.parameters().iter().map(|p| &p.value);
    parameters.chain(client.credential())
}

/// Whether something must be obtained or signed before the request can be made.
pub(super) fn must_prepare(request: &TokenRequest, client: &ClientAuthentication) -> bool {
    client.signs() || credentials(request, client).any(|c| c.known().is_none())
}

/// Makes the HTTP request of a token request that has passed [`check`](super::check::check).
///
/// `obtained` is `None` if every credential is known and the client signs nothing.
pub(super) fn encode(
    request: &TokenRequest,
    target: &Target<'_>,
    obtained: Option<&Obtained<'_>>,
) -> Result<Request<Bytes>, TokenError> {
    let secret = |index: usize, credential: &'_ Credential| match obtained {
        Some(obtained) => obtained.secrets.get(index).cloned(),
        None => credential.known().cloned(),
    };
    let parameters = request.parameters();
    let mut body = form_urlencoded::Serializer::new(String::with_capacity(256));
    for (index, parameter) in parameters.iter().enumerate() {
        let name = &*parameter.name;
        let Some(value) = secret(index, &parameter.value) else {
            return Err(refuse(format!("the parameter `{name}` was not obtained")));
        };
        if parameter.value.known().is_none() {
            check_value(name, value.expose())?;
        }
        if name == "scope" {
            body.append_pair(name, &scope::normalized(value.expose()));
        } else {
            body.append_pair(name, value.expose());
        }
    }
    let client = target.client;
    let client_secret = client
        .credential()
        .and_then(|credential| secret(parameters.len(), credential));
    let client_secret = client_secret.as_ref().map_or("", Secret::expose);
    client.check_secret(client_secret).map_err(refuse)?;
    let proof = match obtained.and_then(|obtained| obtained.assertion) {
        Some(assertion) => assertion.expose(),
        None if client.signs() => return Err(refuse("the client assertion was not signed")),
        None => client_secret,
    };
    body.extend_pairs(client.parameters(proof));
    let authorization = client.authorization(proof).map_err(refuse)?;

    let mut http = Request::new(Bytes::from(body.finish()));
    *http.method_mut() = Method::POST;
    *http.uri_mut() = target.uri.clone();
    *http.headers_mut() = headers(request.headers(), authorization);
    *http.extensions_mut() = request.extensions().clone();
    http.extensions_mut().insert(NoAccessToken);
    Ok(http)
}

fn headers(asked: &HeaderMap, authorization: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(asked.len() + 3);
    if !asked.contains_key(ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    for (name, value) in asked {
        let mut value = value.clone();
        let is_secret = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, DPOP].contains(name);
        value.set_sensitive(value.is_sensitive() || is_secret);
        headers.append(name, value);
    }
    headers
}

#[cfg(all(test, feature = "jwt"))]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;
    use crate::jwt::SigningAlgorithm;

    #[tokio::test]
    async fn the_issuer_is_the_audience_where_it_is_known() {
        let uri = Uri::from_static("https://as.example/token");
        let secret = Secret::new("0".repeat(32));
        let target = OwnedTarget {
            place: Place::Known(uri.clone()),
            client: ClientAuthentication::client_secret_jwt(
                "c",
                secret.expose(),
                SigningAlgorithm::HS256,
            ),
            rules: Rules {
                allow_http: false,
                limit: 0,
            },
            dpop: None,
        };
        for (issuer, audience) in [
            (Some("https://as.example"), "https://as.example"),
            (None, "https://as.example/token"),
        ] {
            let found = Found {
                uri: uri.clone(),
                issuer: issuer.map(Into::into),
            };
            let assertion = target.sign_assertion(&found, Some(&secret)).await;
            let assertion = assertion.unwrap().unwrap();
            let assertion = assertion.expose();
            let claims = assertion.split('.').nth(1).unwrap();
            let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["aud"], audience);
        }
    }
}
