//! From the body of a response to a token.

use super::call::TokenCall;
use crate::{
    authorization_server::endpoint::{
        BadAnswer, ERROR_MEMBERS, JsonObject, JsonValue, error_response,
    },
    dpop::DpopKey,
    error::TokenErrorKind,
    message::{AccessToken, Fields, TokenType},
};

/// The members of RFC 6749 §5.1 and §5.2, RFC 8693 §2.2.1 and OpenID Connect Core §3.1.3.3.
const MEMBERS: [&str; 11] = [
    ERROR_MEMBERS[0],
    ERROR_MEMBERS[1],
    ERROR_MEMBERS[2],
    "access_token",
    "token_type",
    "expires_in",
    "refresh_in",
    "refresh_token",
    "scope",
    "id_token",
    "issued_token_type",
];

/// Reads the token that a successful response carries.
pub(super) fn fields(
    body: &[u8],
    dpop: Option<&DpopKey>,
    allow_bearer: bool,
) -> Result<Fields, BadAnswer> {
    let unusable = |what: &str| BadAnswer::unusable::<TokenCall>(what);
    let object = JsonObject::read(body, &MEMBERS)
        .map_err(|error| BadAnswer::unparsed::<TokenCall>(body, &error))?;
    let [
        error,
        error_description,
        error_uri,
        access_token,
        token_type,
        expires_in,
        refresh_in,
        refresh_token,
        scope,
        id_token,
        issued_token_type,
    ] = object.values;
    let error = [error, error_description, error_uri];
    if let Some(error) = error_response(&error) {
        return Err(BadAnswer::named::<TokenCall>(error));
    }
    if error[0].is_present() && error[0].as_text().is_none() {
        return Err(unusable("returned an `error` that is not a string"));
    }
    if let Some(name) = object.repeated {
        return Err(unusable(&format!(
            "returned the member `{name}` twice (RFC 6749 section 3.2 allows it once)"
        )));
    }
    let token_type = match &token_type {
        JsonValue::Text(token_type) => TokenType::from(&**token_type),
        JsonValue::Absent if dpop.is_some() => TokenType::DPOP,
        JsonValue::Absent => TokenType::BEARER,
        _ => return Err(unusable("returned a `token_type` that is not a string")),
    };
    if dpop.is_some() && token_type == TokenType::BEARER && !allow_bearer {
        return Err(unusable(DOWNGRADED).with_kind(TokenErrorKind::UnsupportedTokenType));
    }
    let access_token = match access_token {
        JsonValue::Text(text) => AccessToken::from_text(&text, token_type.clone())
            .map_err(|error| unusable(&format!("returned an invalid access token: {error}")))?,
        JsonValue::Absent => return Err(unusable("returned no `access_token`")),
        _ => return Err(unusable("returned an `access_token` that is not a string")),
    };
    let access_token = match dpop {
        Some(key) if token_type == TokenType::DPOP => access_token.bind(key.clone()),
        _ => access_token,
    };
    Ok(Fields {
        access_token,
        expires_in: expires_in.seconds(),
        refresh_in: refresh_in.seconds(),
        // An empty one is none: it must not replace the one in use.
        refresh_token: refresh_token
            .text()
            .filter(|token| !token.is_empty())
            .map(Into::into),
        scope: scope.text_or_list().map(Into::into),
        id_token: id_token.text().map(Into::into),
        issued_token_type: issued_token_type.text().map(Into::into),
    })
}

const DOWNGRADED: &str = "returned a Bearer token, but a token that is bound to the DPoP key was requested; \
                          configure the server to issue DPoP tokens to this client (RFC 9449 section 5), or remove the key";
