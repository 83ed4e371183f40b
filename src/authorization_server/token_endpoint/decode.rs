//! From the body of a response to a token.

use std::time::SystemTime;

use super::{call::TokenCall, id_token};
use crate::{
    authorization_server::endpoint::{
        BadAnswer, ERROR_MEMBERS, JsonObject, JsonValue, is_no_error,
    },
    dpop::DpopKey,
    error::{Answer, TokenErrorKind},
    message::{AccessToken, Fields, TokenType},
};

/// The members of RFC 6749 §5.1 and §5.2, RFC 8693 §2.2.1 and OpenID Connect Core §3.1.3.3.
const MEMBERS: [&str; 9] = [
    ERROR_MEMBERS[0],
    "access_token",
    "token_type",
    "expires_in",
    "refresh_in",
    "refresh_token",
    "scope",
    "id_token",
    "issued_token_type",
];

/// Reads the token that a successful response carries. `now` is the time of day.
pub(super) fn fields(
    call: &TokenCall,
    answer: &Answer,
    dpop: Option<&DpopKey>,
    now: SystemTime,
) -> Result<Fields, BadAnswer> {
    let unusable = |what: &str| BadAnswer::unusable::<TokenCall>(what);
    let refusal = |what: &str| BadAnswer::refusal::<TokenCall>(answer, what);
    let object = JsonObject::read(answer.text(), &MEMBERS)
        .map_err(|error| BadAnswer::unparsed::<TokenCall>(answer, &error))?;
    let [
        error,
        access_token,
        token_type,
        expires_in,
        refresh_in,
        refresh_token,
        scope,
        id_token,
        issued_token_type,
    ] = object.values;
    let is_id_token = call.use_id_token && id_token.is_some_text();
    if !error.says_none() && !is_no_error(answer.text()) {
        return Err(refusal(match error.as_text() {
            Some(_) => "returned an error with a status of success",
            None => "returned an `error` that is not a string",
        }));
    }
    if let Some(name) = object.repeated {
        return Err(unusable(&format!(
            "returned the member `{name}` twice (RFC 6749 section 3.2 allows it once)"
        )));
    }
    let token_type = match &token_type {
        _ if is_id_token => "Bearer",
        JsonValue::Text(token_type) => token_type.trim_ascii(),
        JsonValue::Absent => "",
        _ => return Err(unusable("returned a `token_type` that is not a string")),
    };
    let token_type = match (TokenType::from(token_type), dpop) {
        (_, None) if token_type.is_empty() => TokenType::BEARER,
        (_, Some(_)) if token_type.is_empty() => TokenType::DPOP,
        (unknown, None) if call.unknown_as_bearer && unknown.is_unknown() => TokenType::BEARER,
        (unknown, Some(_)) if call.unknown_as_bearer && unknown.is_unknown() => {
            let what = format!("returned a token of the type `{unknown}`, but {REQUESTED}");
            return Err(unusable(&what).with_kind(TokenErrorKind::UnsupportedTokenType));
        }
        (token_type, _) => token_type,
    };
    if dpop.is_some() && token_type == TokenType::BEARER && !call.allow_bearer {
        return Err(unusable(DOWNGRADED).with_kind(TokenErrorKind::UnsupportedTokenType));
    }
    if let (Some(id_token), Some(checks)) = (id_token.as_text(), &call.id_token_checks) {
        let checked = checks.check(id_token, now);
        checked.map_err(|why| unusable(&format!("returned an ID token that {why}")))?;
    }
    let text = if is_id_token {
        &id_token
    } else {
        &access_token
    };
    let access_token = match text {
        JsonValue::Text(text) => AccessToken::from_text(text, token_type.clone())
            .map_err(|error| unusable(&format!("returned an invalid access token: {error}")))?,
        JsonValue::Absent if id_token.is_some_text() => return Err(refusal(ID_TOKEN_ALONE)),
        JsonValue::Absent => return Err(refusal("returned no `access_token`")),
        _ => return Err(unusable("returned an `access_token` that is not a string")),
    };
    let access_token = match dpop {
        Some(key) if token_type == TokenType::DPOP => access_token.bind(key.clone()),
        _ => access_token,
    };
    let expires_in = match id_token.as_text() {
        Some(id_token) if is_id_token => id_token::lifetime(id_token, &answer.headers, now),
        _ => expires_in.seconds(),
    };
    Ok(Fields {
        access_token,
        expires_in,
        refresh_in: refresh_in.seconds().filter(|_| !is_id_token),
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

const REQUESTED: &str = "a token that is bound to the DPoP key was requested";

const DOWNGRADED: &str = "returned a Bearer token, but a token that is bound to the DPoP key was requested; \
                          configure the server to issue DPoP tokens to this client (RFC 9449 section 5), or remove the key";

const ID_TOKEN_ALONE: &str = "returned an `id_token` but no `access_token`; \
                              if the API accepts the ID token, call `TokenEndpoint::use_id_token`";
