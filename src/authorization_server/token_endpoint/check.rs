//! What is wrong with a token request in itself. Judged before any provider is asked, and again where one has answered.

use http::{
    HeaderMap, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
};

use crate::{
    base::secure_uri::check_secure,
    client_authentication::ClientAuthentication,
    dpop::{DPOP, DpopKey},
    error::TokenError,
    message::{TokenRequest, scope},
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

/// Parameters of [`ONCE`] whose empty value has a meaning: a user without a password, and no scope asked for.
const MAY_BE_EMPTY: [&str; 2] = ["password", "scope"];

/// Refuses what can be judged without asking a provider, which may be slow, fail, or hand out what can be used once.
pub(super) fn check(
    request: &TokenRequest,
    client: &ClientAuthentication,
    dpop: Option<&DpopKey>,
) -> Result<(), TokenError> {
    if let Some(invalid) = request.invalid() {
        return Err(refuse(invalid));
    }
    client.check().map_err(refuse)?;
    let added = client.parameters("");
    let parameters = request.parameters();
    for (index, parameter) in parameters.iter().enumerate() {
        let name = &*parameter.name;
        if name.is_empty() {
            return Err(refuse("the name of a parameter is empty"));
        }
        let twice = parameters[..index].iter().any(|earlier| {
            earlier.name == name
                && !(earlier.repeatable && parameter.repeatable && !ONCE.contains(&name))
        });
        if twice {
            return Err(refuse(format!("the parameter `{name}` is set twice")));
        }
        if added.iter().any(|(added, _)| *added == name) {
            return Err(refuse(format!(
                "the parameter `{name}` is set, but the client authentication sets it too"
            )));
        }
        if client.proves() && matches!(name, "client_secret" | "client_assertion") {
            return Err(refuse(format!(
                "the parameter `{name}` stands beside another client authentication (RFC 6749 section 2.3); \
                 use one of the methods of `ClientAuthentication`"
            )));
        }
        if let Some(value) = parameter.value.known() {
            check_value(name, value.expose())?;
        }
    }
    check_headers(request.headers(), client, dpop)
}

/// Refuses a token endpoint to which secrets must not go.
pub(super) fn check_uri(uri: &Uri, allow_http: bool) -> Result<(), TokenError> {
    check_secure(uri, allow_http)
        .map_err(|why| refuse(format!("the URI of the token endpoint {why}")))
}

/// The values that the RFCs demand are not empty, and the verifier has the form of RFC 7636 §4.1.
pub(super) fn check_value(name: &str, value: &str) -> Result<(), TokenError> {
    let is_required = ONCE.contains(&name) && !MAY_BE_EMPTY.contains(&name);
    let is_indicator = matches!(name, "resource" | "audience");
    if value.is_empty() && (is_required || is_indicator) {
        return Err(refuse(format!("the parameter `{name}` is empty")));
    }
    if name == "scope" {
        return scope::check(value).map_err(|error| refuse(error.to_string()));
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

fn check_headers(
    asked: &HeaderMap,
    client: &ClientAuthentication,
    dpop: Option<&DpopKey>,
) -> Result<(), TokenError> {
    for name in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING, HOST] {
        if asked.contains_key(&name) {
            return Err(refuse(format!(
                "the header `{name}` is set by this crate; leave it out"
            )));
        }
    }
    if dpop.is_some() && asked.contains_key(DPOP) {
        return Err(refuse(
            "the header `dpop` is set, but the DPoP key makes it; leave one of them out",
        ));
    }
    if client.proves() && asked.contains_key(AUTHORIZATION) {
        return Err(refuse(
            "the header `authorization` stands beside another client authentication (RFC 6749 section 2.3); \
             use `ClientAuthentication::none` with it",
        ));
    }
    Ok(())
}

pub(super) fn refuse(reason: impl Into<String>) -> TokenError {
    TokenError::request(format!("the token request was not sent: {}", reason.into()))
}
