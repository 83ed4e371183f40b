//! Which requests are valid. Checked before credentials are obtained, and again for the values that a provider returned.

use http::{
    HeaderMap,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
};

use super::{EndpointCall, EndpointNames};
use crate::{
    base::{Quoted, secure_uri::Protection},
    client_authentication::ClientAuthentication,
    dpop::{DPOP, DpopKey},
    error::TokenError,
    message::{AccessToken, Form, Parameter, TokenType, scope},
    secret::Secret,
};

/// Parameters that may appear only once in a request to any endpoint.
const ONCE: [&str; 5] = [
    "scope",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

/// Refuses what can be checked without asking a provider, which may be slow, fail, or return what can be used once.
pub(super) fn check<C: EndpointCall>(
    call: &C,
    form: &Form,
    client: &ClientAuthentication,
    dpop: Option<&DpopKey>,
) -> Result<(), TokenError> {
    check_form(call, form, client, dpop).map_err(|why| C::NAMES.refuse(why))
}

fn check_form<C: EndpointCall>(
    call: &C,
    form: &Form,
    client: &ClientAuthentication,
    dpop: Option<&DpopKey>,
) -> Result<(), String> {
    if let Some(invalid) = form.invalid() {
        return Err(invalid.to_owned());
    }
    client.check()?;
    if let Some(token) = call.access_token() {
        check_access_token(token, form, client)?;
    }
    let added = client.parameters("");
    let is_once = |name: &str| ONCE.contains(&name) || C::ONCE.contains(&name);
    if let Some(name) = form.repeated_name(is_once) {
        return Err(format!("the parameter `{}` is set twice", Quoted(name)));
    }
    for parameter in form.parameters() {
        let name = &*parameter.name;
        if name.is_empty() {
            return Err("the name of a parameter is empty".into());
        }
        let value = parameter.value.known().map(Secret::expose);
        let is_same =
            |added: &str| name == "client_id" && !parameter.repeatable && value == Some(added);
        if added
            .iter()
            .any(|(added, value)| *added == name && !is_same(value))
        {
            return Err(format!(
                "the parameter `{}` is set, but the client authentication sets it too",
                Quoted(name)
            ));
        }
        if client.proves() && matches!(name, "client_secret" | "client_assertion") {
            return Err(format!(
                "the parameter `{name}` is a second client authentication, which RFC 6749 section 2.3 forbids; \
                 use only one of the methods of `ClientAuthentication`"
            ));
        }
        if let Some(value) = value {
            check_value::<C>(parameter, value)?;
        }
    }
    check_headers(form.headers(), client, dpop)
}

/// Checks the value of a parameter: the parameters of the client must not be empty, and a scope must be well-formed.
pub(super) fn check_value<C: EndpointCall>(
    parameter: &Parameter,
    value: &str,
) -> Result<(), String> {
    match &*parameter.name {
        _ if parameter.is_left_out(value) => Ok(()),
        "scope" => scope::check(value).map_err(|error| error.to_string()),
        name if ONCE.contains(&name) => check_not_empty(name, value),
        _ => C::check_value(parameter, value),
    }
}

pub(crate) fn check_not_empty(name: &str, value: &str) -> Result<(), String> {
    match value {
        "" => Err(format!("the parameter `{}` is empty", Quoted(name))),
        _ => Ok(()),
    }
}

/// Refuses an endpoint to which secrets must not be sent.
pub(super) fn check_uri(
    names: &EndpointNames,
    protection: Protection,
    allow_http: bool,
) -> Result<(), TokenError> {
    protection
        .check(allow_http)
        .map_err(|why| names.refuse(format!("the URI of the {} {why}", names.endpoint)))
}

/// Refuses an access token that cannot be sent, or that is sent beside something else that authorizes the request.
fn check_access_token(
    token: &AccessToken,
    form: &Form,
    client: &ClientAuthentication,
) -> Result<(), String> {
    if token.sendable().is_none() {
        return Err(match *token.token_type() == TokenType::DPOP {
            true => "the access token is of the type `DPoP`, but its key is not known; add it with `AccessToken::bound_to`".into(),
            false => format!(
                "the access token is of the type `{}`, which this crate cannot send",
                token.token_type()
            ),
        });
    }
    if client.proves() || form.headers().contains_key(AUTHORIZATION) {
        return Err(
            "the access token authorizes the request, but so does the client or the header `authorization`; leave one of them out".into(),
        );
    }
    Ok(())
}

fn check_headers(
    headers: &HeaderMap,
    client: &ClientAuthentication,
    dpop: Option<&DpopKey>,
) -> Result<(), String> {
    if headers.is_empty() {
        return Ok(());
    }
    for name in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING, HOST] {
        if headers.contains_key(&name) {
            return Err(format!(
                "the header `{name}` is set by this crate; leave it out"
            ));
        }
    }
    if let Some(key) = dpop {
        key.check()?;
    }
    if dpop.is_some() && headers.contains_key(DPOP) {
        return Err(
            "the header `dpop` is set, but the DPoP key sets it too; leave one of them out".into(),
        );
    }
    if client.proves() && headers.contains_key(AUTHORIZATION) {
        return Err(
            "the header `authorization` is a second client authentication, which RFC 6749 section 2.3 forbids; \
             use `ClientAuthentication::none` with it"
                .into(),
        );
    }
    Ok(())
}
