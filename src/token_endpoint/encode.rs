//! From a token request to an HTTP request. Pure: whatever takes time has been obtained before.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
};

use super::TokenError;
use crate::{
    access_token::NoAccessToken, client_authentication::ClientAuthentication,
    credential::Credential, guard, secret::Secret, token_request::TokenRequest,
};

/// Parameters that the RFCs allow once, so that a second one is a mistake even where repeating was asked for.
const ONCE: [&str; 20] = [
    "grant_type",
    "scope",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "code",
    "redirect_uri",
    "code_verifier",
    "username",
    "password",
    "refresh_token",
    "device_code",
    "auth_req_id",
    "assertion",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
];

/// Parameters that say nothing when they are empty, though they have a name of an RFC.
const MAY_BE_EMPTY: [&str; 2] = ["password", "scope"];

/// Where the request goes and on whose behalf.
pub(super) struct Target<'a> {
    pub(super) uri: &'a Uri,
    pub(super) client: &'a ClientAuthentication,
    pub(super) allow_http: bool,
}

/// A [`Target`] of its own, for a request that must first obtain a credential.
pub(super) struct OwnedTarget {
    uri: Uri,
    client: ClientAuthentication,
    allow_http: bool,
}

impl Target<'_> {
    pub(super) fn to_owned(&self) -> OwnedTarget {
        OwnedTarget {
            uri: self.uri.clone(),
            client: self.client.clone(),
            allow_http: self.allow_http,
        }
    }
}

impl OwnedTarget {
    /// Asks every provider, then makes the HTTP request.
    pub(super) async fn obtain_and_encode(
        &self,
        request: &TokenRequest,
    ) -> Result<Request<Bytes>, TokenError> {
        let mut obtained = Vec::new();
        for credential in credentials(request, &self.client) {
            let secret = credential.obtain().await.map_err(TokenError::credential)?;
            obtained.push(secret);
        }
        let target = Target {
            uri: &self.uri,
            client: &self.client,
            allow_http: self.allow_http,
        };
        encode(request, &target, Some(&obtained))
    }
}

/// The credentials of a request and of its client, in the order in which they are sent.
pub(super) fn credentials<'a>(
    request: &'a TokenRequest,
    client: &'a ClientAuthentication,
) -> impl Iterator<Item = &'a Credential> {
    let parameters = request.parameters().iter().map(|p| &p.value);
    parameters.chain(client.credential())
}

/// Makes the HTTP request.
///
/// `obtained` holds the text of every credential, or is `None` if all of them are known.
pub(super) fn encode(
    request: &TokenRequest,
    target: &Target<'_>,
    obtained: Option<&[Secret]>,
) -> Result<Request<Bytes>, TokenError> {
    check_uri(target)?;
    if let Some(invalid) = request.invalid() {
        return Err(refuse(invalid));
    }
    let secret = |index: usize, credential: &'_ Credential| match obtained {
        Some(obtained) => obtained.get(index).cloned(),
        None => credential.known().cloned(),
    };
    let parameters = request.parameters();
    let client_secret = target
        .client
        .credential()
        .and_then(|credential| secret(parameters.len(), credential));
    let proof = target
        .client
        .encode(client_secret.as_ref())
        .map_err(refuse)?;

    let mut body = form_urlencoded::Serializer::new(String::with_capacity(256));
    for (index, parameter) in parameters.iter().enumerate() {
        let name = &*parameter.name;
        let twice = parameters[..index].iter().any(|earlier| {
            earlier.name == name
                && !(earlier.repeatable && parameter.repeatable && !ONCE.contains(&name))
        });
        if twice {
            return Err(refuse(format!("the parameter `{name}` is set twice")));
        }
        if proof.parameters.iter().any(|(added, _)| *added == name) {
            return Err(refuse(format!(
                "the parameter `{name}` is set, but the client authentication sets it too"
            )));
        }
        if target.client.proves() && matches!(name, "client_secret" | "client_assertion") {
            return Err(refuse(format!(
                "the parameter `{name}` stands beside another client authentication (RFC 6749 section 2.3); \
                 use one of the methods of `ClientAuthentication`"
            )));
        }
        let Some(secret) = secret(index, &parameter.value) else {
            return Err(refuse(format!("the parameter `{name}` was not obtained")));
        };
        check_value(name, secret.expose())?;
        body.append_pair(name, secret.expose());
    }
    for (name, value) in &proof.parameters {
        check_value(name, value)?;
        body.append_pair(name, value);
    }

    let mut http = Request::new(Bytes::from(body.finish()));
    *http.method_mut() = Method::POST;
    *http.uri_mut() = target.uri.clone();
    *http.headers_mut() = headers(request.headers(), proof.authorization, target.client)?;
    *http.extensions_mut() = request.extensions().clone();
    http.extensions_mut().insert(NoAccessToken);
    Ok(http)
}

fn check_uri(target: &Target<'_>) -> Result<(), TokenError> {
    let uri = target.uri;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(refuse(
            "the URI of the token endpoint is not absolute; give scheme, host and path",
        ));
    };
    if authority.as_str().contains('@') {
        return Err(refuse(
            "the URI of the token endpoint holds a user name or a password; use `ClientAuthentication`",
        ));
    }
    match scheme {
        "https" => Ok(()),
        "http" if target.allow_http || guard::is_loopback(uri) => Ok(()),
        "http" => Err(refuse(
            "the token endpoint is plain http, which would show the secrets to the network; use https, \
             or `danger_allow_http` if something else protects the connection",
        )),
        _ => Err(refuse(
            "the URI of the token endpoint is neither https nor http",
        )),
    }
}

/// The values that the RFCs demand are not empty, and the verifier has the form of RFC 7636 §4.1.
fn check_value(name: &str, value: &str) -> Result<(), TokenError> {
    let is_required = ONCE.contains(&name) && !MAY_BE_EMPTY.contains(&name);
    let is_indicator = matches!(name, "resource" | "audience" | "");
    if value.is_empty() && (is_required || is_indicator) {
        return Err(refuse(format!("the parameter `{name}` is empty")));
    }
    if name.is_empty() {
        return Err(refuse("the name of a parameter is empty"));
    }
    if name == "scope" {
        return crate::Scope::from(value)
            .check()
            .map_err(|error| refuse(error.to_string()));
    }
    if name == "code_verifier" {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !(43..=128).contains(&value.len()) || !value.bytes().all(unreserved) {
            return Err(refuse(
                "the `code_verifier` is not 43 to 128 characters out of letters, digits and -._~ (RFC 7636 section 4.1)",
            ));
        }
    }
    Ok(())
}

fn headers(
    asked: &HeaderMap,
    authorization: Option<HeaderValue>,
    client: &ClientAuthentication,
) -> Result<HeaderMap, TokenError> {
    for name in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING, HOST] {
        if asked.contains_key(&name) {
            return Err(refuse(format!(
                "the header `{name}` is set by this crate; leave it out"
            )));
        }
    }
    if client.proves() && asked.contains_key(AUTHORIZATION) {
        return Err(refuse(
            "the header `authorization` stands beside another client authentication (RFC 6749 section 2.3); \
             use `ClientAuthentication::none` with it",
        ));
    }
    let mut headers = HeaderMap::with_capacity(asked.len() + 3);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    if asked.contains_key(ACCEPT) {
        headers.remove(ACCEPT);
    }
    for (name, value) in asked {
        let mut value = value.clone();
        value.set_sensitive(value.is_sensitive() || name == AUTHORIZATION);
        headers.append(name, value);
    }
    Ok(headers)
}

fn refuse(reason: impl Into<String>) -> TokenError {
    TokenError::request(format!("the token request was not sent: {}", reason.into()))
}
