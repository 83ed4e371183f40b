//! OpenID Connect: the ID token of a code, and the userinfo endpoint.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use serde_json::json;

use super::{
    AuthorizationServer,
    answer::{empty_response, json_response},
    authorization_code::AuthorizationCode,
    recorded::RecordedRequest,
};
use crate::base::clock::unix_now;

/// Clients compare the times of an ID token with the wall clock, which a test does not move.
const ID_TOKEN_LIFETIME: u64 = 3600;

/// Returns the ID token for a code (OpenID Connect Core §2), if it belongs to a user and its scope contains `openid`.
///
/// It is not signed. "ID Tokens MUST NOT use none as the alg value unless the Response Type used returns no ID Token from the
/// Authorization Endpoint", as it is here.
pub(super) fn id_token(issuer: &str, code: &AuthorizationCode) -> Option<String> {
    let subject = code.subject.as_ref().filter(|_| has_openid(&code.scope))?;
    let now = unix_now();
    let mut claims = json!({
        "iss": issuer,
        "sub": subject,
        "aud": code.client,
        "iat": now,
        "auth_time": now,
        "exp": now + ID_TOKEN_LIFETIME,
    });
    if let Some(nonce) = &code.nonce {
        claims["nonce"] = json!(nonce);
    }
    let [header, claims] =
        [json!({ "alg": "none" }), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    Some(format!("{header}.{claims}."))
}

/// OpenID Connect Core §5.3.
pub(super) fn userinfo(server: &AuthorizationServer, request: &RecordedRequest) -> Response<Bytes> {
    let authorization = request.headers().get(AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    let (scheme, token) = authorization
        .and_then(|value| value.split_once(' '))
        .unwrap_or_default();
    #[cfg(feature = "dpop")]
    let checked = match scheme.eq_ignore_ascii_case("dpop") {
        true => server.check_dpop(&request.without_body()),
        false => server.check_bearer(request.headers()),
    };
    #[cfg(not(feature = "dpop"))]
    let checked = server.check_bearer(request.headers());
    if let Err(refusal) = checked {
        return refusal.map(|_| Bytes::new());
    }
    let state = server.core.lock();
    let permission = state.active(token).map(|token| &token.permission);
    let permission = permission.filter(|permission| has_openid(&permission.scope));
    let Some(subject) = permission.and_then(|permission| permission.subject.as_ref()) else {
        return insufficient_scope(scheme);
    };
    let mut claims = json!({ "sub": subject });
    for (name, value) in &server.core.config.userinfo_fields {
        claims[name] = value.clone();
    }
    json_response(StatusCode::OK, &claims)
}

/// RFC 6750 §3.1. The token of a client has no user, whatever its scope.
fn insufficient_scope(scheme: &str) -> Response<Bytes> {
    let mut response = empty_response(StatusCode::FORBIDDEN);
    let challenge = format!("{scheme} error=\"insufficient_scope\", scope=\"openid\"");
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn has_openid(scope: &Option<String>) -> bool {
    let mut words = scope.iter().flat_map(|scope| scope.split(' '));
    words.any(|word| word == "openid")
}
