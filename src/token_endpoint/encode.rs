//! From a token request to an HTTP request. Pure: whatever takes time has been obtained before.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION},
};

use super::{
    TokenError,
    check::{check_value, refuse},
    place::Place,
};
use crate::{
    access_token::NoAccessToken,
    client_authentication::ClientAuthentication,
    credential::{Credential, UsedSecret},
    metadata::Rules,
    scope::Scope,
    secret::Secret,
    token_request::TokenRequest,
};

/// Where the request goes and on whose behalf.
pub(super) struct Target<'a> {
    pub(super) uri: &'a Uri,
    pub(super) client: &'a ClientAuthentication,
    /// Where it is known, it is the audience of what the client signs.
    #[allow(dead_code, reason = "no client signs yet")]
    pub(super) issuer: Option<&'a str>,
}

/// A [`Target`] of its own, for a request that must first obtain the metadata of the issuer, or a credential.
pub(super) struct OwnedTarget {
    pub(super) place: Place,
    pub(super) client: ClientAuthentication,
    pub(super) rules: Rules,
}

impl OwnedTarget {
    /// Looks where the token endpoint is, asks every provider, then makes the HTTP request.
    pub(super) async fn obtain_and_encode(
        &self,
        request: &TokenRequest,
    ) -> Result<Prepared, TokenError> {
        let place = self.place.find(&self.client, self.rules).await?;
        let mut obtained = Vec::new();
        for credential in credentials(request, &self.client) {
            let secret = credential.obtain().await.map_err(TokenError::credential)?;
            obtained.push(secret);
        }
        let target = Target {
            uri: &place.uri,
            client: &self.client,
            issuer: place.issuer.as_deref(),
        };
        let request = encode(request, &target, Some(&obtained))?;
        let secret = self.client.rotating_secret().zip(obtained.pop());
        Ok(Prepared {
            request,
            secret: secret.map(|(credential, text)| UsedSecret {
                credential: credential.clone(),
                text,
            }),
        })
    }
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

/// Makes the HTTP request of a token request that has passed [`check`](super::check::check).
///
/// `obtained` holds the text of every credential, or is `None` if all of them are known.
pub(super) fn encode(
    request: &TokenRequest,
    target: &Target<'_>,
    obtained: Option<&[Secret]>,
) -> Result<Request<Bytes>, TokenError> {
    let secret = |index: usize, credential: &'_ Credential| match obtained {
        Some(obtained) => obtained.get(index).cloned(),
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
    body.extend_pairs(client.parameters(client_secret));
    let authorization = client.authorization(client_secret).map_err(refuse)?;

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
        let is_secret = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name);
        value.set_sensitive(value.is_sensitive() || is_secret);
        headers.append(name, value);
    }
    headers
}
