//! From a token request to an HTTP request. Pure: whatever takes time has been obtained before.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION},
};

use super::{
    TokenError,
    check::{check_value, refuse},
};
use crate::{
    access_token::NoAccessToken,
    client_authentication::ClientAuthentication,
    credential::{Credential, UsedSecret},
    dpop::{DPOP, DpopKey, Role},
    scope::Scope,
    secret::Secret,
    token_request::TokenRequest,
};

/// Where the request goes and on whose behalf.
pub(super) struct Target<'a> {
    pub(super) uri: &'a Uri,
    pub(super) client: &'a ClientAuthentication,
    /// Where it is known, it is the audience of the assertions of the client.
    pub(super) issuer: Option<&'a str>,
    pub(super) allow_http: bool,
    pub(super) dpop: Option<&'a DpopKey>,
}

/// A [`Target`] of its own, for a request that must first obtain a credential or a proof.
pub(super) struct OwnedTarget {
    pub(super) uri: Uri,
    client: ClientAuthentication,
    issuer: Option<String>,
    allow_http: bool,
    pub(super) dpop: Option<DpopKey>,
}

impl Target<'_> {
    pub(super) fn to_owned(&self) -> OwnedTarget {
        OwnedTarget {
            uri: self.uri.clone(),
            client: self.client.clone(),
            issuer: self.issuer.map(str::to_owned),
            allow_http: self.allow_http,
            dpop: self.dpop.cloned(),
        }
    }
}

impl OwnedTarget {
    /// Asks every provider, then signs, then makes the HTTP request.
    pub(super) async fn obtain_and_encode(
        &self,
        request: &TokenRequest,
    ) -> Result<Prepared, TokenError> {
        let mut obtained = Vec::new();
        for credential in credentials(request, &self.client) {
            let secret = credential.obtain().await.map_err(TokenError::credential)?;
            obtained.push(secret);
        }
        let client_secret = obtained.get(request.parameters().len());
        let assertion = self.sign_assertion(client_secret).await?;
        let target = Target {
            uri: &self.uri,
            client: &self.client,
            issuer: self.issuer.as_deref(),
            allow_http: self.allow_http,
            dpop: self.dpop.as_ref(),
        };
        let texts = Obtained {
            secrets: &obtained,
            assertion: assertion.as_ref(),
        };
        let mut request = encode(request, &target, Some(&texts))?;
        if let Some(key) = target.dpop {
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

    /// The assertion of this very attempt, if the client signs one. A secret that cannot sign is refused as one that cannot be
    /// sent is.
    async fn sign_assertion(&self, secret: Option<&Secret>) -> Result<Option<Secret>, TokenError> {
        if !self.client.signs() {
            return Ok(None);
        }
        let text = secret.map_or("", Secret::expose);
        self.client.check_secret(text).map_err(refuse)?;
        let uri = self.uri.to_string();
        let audience = self.issuer.as_deref().unwrap_or(&uri);
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
pub(super) fn must_prepare(request: &TokenRequest, target: &Target<'_>) -> bool {
    target.dpop.is_some()
        || target.client.signs()
        || credentials(request, target.client).any(|c| c.known().is_none())
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
            // One space between two words, as the grammar of RFC 6749 A.4 has it.
            let scope = Scope::from_iter(Scope::from(value.expose()).iter());
            body.append_pair(name, scope.as_str());
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
