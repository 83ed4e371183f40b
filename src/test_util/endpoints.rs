//! Which endpoint a request is for; introspection, revocation and the metadata.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode, Uri,
    header::{ALLOW, HOST},
};
use serde_json::json;

use super::{
    Shared,
    answer::{Refusal, empty_response, json_response},
    client::authenticate,
    form,
    grants::{self, GRANT_TYPES},
    polling,
    recorded::RecordedRequest,
};

pub(super) const TOKEN: &str = "/token";
const INTROSPECT: &str = "/introspect";
const REVOKE: &str = "/revoke";
const DEVICE_AUTHORIZATION: &str = "/device_authorization";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const OPENID_METADATA: &str = "/.well-known/openid-configuration";

pub(super) fn answer(shared: &Shared, request: &RecordedRequest) -> Response<Bytes> {
    let allowed = match request.path() {
        METADATA | OPENID_METADATA => &Method::GET,
        TOKEN | INTROSPECT | REVOKE | DEVICE_AUTHORIZATION => &Method::POST,
        _ => return empty_response(StatusCode::NOT_FOUND),
    };
    if request.method() != allowed {
        let mut response = empty_response(StatusCode::METHOD_NOT_ALLOWED);
        if let Ok(allowed) = HeaderValue::try_from(allowed.as_str()) {
            response.headers_mut().insert(ALLOW, allowed);
        }
        return response;
    }
    let result = match request.path() {
        TOKEN => grants::token(shared, request),
        INTROSPECT => introspect(shared, request),
        REVOKE => revoke(shared, request),
        DEVICE_AUTHORIZATION => {
            polling::device_authorization(shared, &base(shared, request), request)
        }
        _ => Ok(metadata(shared, request)),
    };
    result.unwrap_or_else(Refusal::into_response)
}

/// RFC 7662. "the endpoint MUST also require some form of authorization" (§2.1), so no public client.
fn introspect(shared: &Shared, request: &RecordedRequest) -> Result<Response<Bytes>, Refusal> {
    form::check(request)?;
    authenticate(shared, request)?
        .filter(|client| !client.public)
        .ok_or(Refusal::invalid_client(
            false,
            "introspection needs an authenticated client",
        ))?;
    let token = form::require(request, "token", "token is missing")?;
    Ok(json_response(
        StatusCode::OK,
        &shared.lock().introspection(token),
    ))
}

/// RFC 7009. An unknown token is no error (§2.2); one of another client is (§2.1).
fn revoke(shared: &Shared, request: &RecordedRequest) -> Result<Response<Bytes>, Refusal> {
    form::check(request)?;
    let client = authenticate(shared, request)?.ok_or(Refusal::invalid_client(
        false,
        "the request names no client",
    ))?;
    let token = form::require(request, "token", "token is missing")?;
    let mut state = shared.lock();
    let owner = state
        .tokens
        .get(token)
        .map(|token| token.grant.client.as_ref());
    if owner.is_some_and(|owner| owner != Some(&client.id)) {
        return Err(Refusal::invalid_grant(
            "the token was issued to another client",
        ));
    }
    state.revoke(token);
    Ok(empty_response(StatusCode::OK))
}

/// RFC 8414, and the same by OpenID Connect Discovery. There is no `authorization_endpoint`: codes are issued by the test itself.
fn metadata(shared: &Shared, request: &RecordedRequest) -> Response<Bytes> {
    let base = base(shared, request);
    let custom = shared.config.custom_grants.iter().map(String::as_str);
    let grant_types: Vec<&str> = GRANT_TYPES.into_iter().chain(custom).collect();
    let mut body = json!({
        "issuer": base,
        "token_endpoint": format!("{base}{TOKEN}"),
        "introspection_endpoint": format!("{base}{INTROSPECT}"),
        "revocation_endpoint": format!("{base}{REVOKE}"),
        "device_authorization_endpoint": format!("{base}{DEVICE_AUTHORIZATION}"),
        "grant_types_supported": grant_types,
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic", "client_secret_post", "private_key_jwt", "client_secret_jwt",
            "tls_client_auth", "none",
        ],
    });
    if let Some(scopes) = &shared.config.scopes {
        body["scopes_supported"] = json!(scopes);
    }
    for (name, value) in &shared.config.metadata_fields {
        body[name] = value.clone();
    }
    json_response(StatusCode::OK, &body)
}

/// Scheme and authority, without a slash at the end.
fn base(shared: &Shared, request: &RecordedRequest) -> String {
    let of = |uri: &Uri| Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?));
    let host = || {
        request
            .headers()
            .get(HOST)?
            .to_str()
            .ok()
            .map(|host| format!("http://{host}"))
    };
    shared
        .config
        .issuer
        .as_ref()
        .and_then(of)
        .or_else(|| of(request.uri()))
        .or_else(host)
        .unwrap_or_else(|| super::IN_PROCESS.to_owned())
}
