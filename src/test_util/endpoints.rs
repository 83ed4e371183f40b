//! Dispatch by path, and the endpoints for introspection, revocation and metadata.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Uri,
    header::{ALLOW, HOST},
    uri::Scheme,
};
use serde_json::json;

use super::{
    AuthorizationServer, Core,
    answer::{OAuthError, empty_response, json_response},
    authorization,
    client::authenticate,
    form,
    grants::{self, GRANT_TYPES},
    openid, polling,
    recorded::RecordedRequest,
};

pub(super) const TOKEN: &str = "/token";
const INTROSPECT: &str = "/introspect";
const REVOKE: &str = "/revoke";
const AUTHORIZE: &str = "/authorize";
const PUSH: &str = "/par";
const USERINFO: &str = "/userinfo";
const DEVICE_AUTHORIZATION: &str = "/device_authorization";
const BACKCHANNEL_AUTHENTICATION: &str = "/bc-authorize";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const OPENID_METADATA: &str = "/.well-known/openid-configuration";

pub(super) fn answer(server: &AuthorizationServer, request: &RecordedRequest) -> Response<Bytes> {
    let core = &*server.core;
    let allowed = match request.path() {
        // "The UserInfo Endpoint MUST support the use of the HTTP GET and HTTP POST methods" (OpenID Connect Core §5.3).
        USERINFO if request.method() == Method::POST => &Method::POST,
        METADATA | OPENID_METADATA | AUTHORIZE | USERINFO => &Method::GET,
        TOKEN | PUSH | INTROSPECT | REVOKE | DEVICE_AUTHORIZATION | BACKCHANNEL_AUTHENTICATION => {
            &Method::POST
        }
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
        TOKEN => grants::token(core, request),
        AUTHORIZE => authorization::authorization(core, request),
        PUSH => authorization::push(core, request),
        USERINFO => Ok(openid::userinfo(server, request)),
        INTROSPECT => introspect(core, request),
        REVOKE => revoke(core, request),
        DEVICE_AUTHORIZATION => polling::device_authorization(core, &base(core, request), request),
        BACKCHANNEL_AUTHENTICATION => polling::backchannel_authentication(core, request),
        _ => Ok(metadata(core, request)),
    };
    #[cfg_attr(
        not(feature = "dpop"),
        expect(unused_mut, reason = "nonces are part of DPoP")
    )]
    let mut response = result.unwrap_or_else(OAuthError::into_response);
    #[cfg(feature = "dpop")]
    if [TOKEN, PUSH].contains(&request.path()) {
        super::dpop::offer_nonce(core, &mut response);
    }
    response
}

/// RFC 7662. "the endpoint MUST also require some form of authorization" (§2.1), so public clients are refused.
fn introspect(core: &Core, request: &RecordedRequest) -> Result<Response<Bytes>, OAuthError> {
    form::check(request)?;
    authenticate(core, request)?
        .filter(|client| !client.public)
        .ok_or(OAuthError::invalid_client(
            false,
            "introspection requires an authenticated client",
        ))?;
    let token = form::require(request, "token", "token is missing")?;
    Ok(json_response(
        StatusCode::OK,
        &core.lock().introspection(token),
    ))
}

/// RFC 7009. Revoking an unknown token succeeds (§2.2); revoking a token of another client fails (§2.1).
fn revoke(core: &Core, request: &RecordedRequest) -> Result<Response<Bytes>, OAuthError> {
    form::check(request)?;
    let client = authenticate(core, request)?.ok_or(OAuthError::invalid_client(
        false,
        "the request does not identify a client",
    ))?;
    let token = form::require(request, "token", "token is missing")?;
    let mut state = core.lock();
    let owner = state
        .tokens
        .get(token)
        .map(|token| token.permission.client.as_ref());
    if owner.is_some_and(|owner| owner != Some(&client.id)) {
        return Err(OAuthError::invalid_grant(
            "the token was issued to another client",
        ));
    }
    state.revoke(token);
    Ok(empty_response(StatusCode::OK))
}

/// RFC 8414 and OpenID Connect Discovery.
fn metadata(core: &Core, request: &RecordedRequest) -> Response<Bytes> {
    let base = base(core, request);
    let custom = core.config.custom_grants.iter().map(String::as_str);
    let grant_types: Vec<&str> = GRANT_TYPES.into_iter().chain(custom).collect();
    let mut body = json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}{AUTHORIZE}"),
        "pushed_authorization_request_endpoint": format!("{base}{PUSH}"),
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint": format!("{base}{TOKEN}"),
        "userinfo_endpoint": format!("{base}{USERINFO}"),
        "introspection_endpoint": format!("{base}{INTROSPECT}"),
        "revocation_endpoint": format!("{base}{REVOKE}"),
        "device_authorization_endpoint": format!("{base}{DEVICE_AUTHORIZATION}"),
        "backchannel_authentication_endpoint": format!("{base}{BACKCHANNEL_AUTHENTICATION}"),
        "backchannel_token_delivery_modes_supported": ["poll"],
        "grant_types_supported": grant_types,
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic", "client_secret_post", "private_key_jwt", "client_secret_jwt",
            "tls_client_auth", "none",
        ],
    });
    #[cfg(feature = "dpop")]
    {
        body["dpop_signing_alg_values_supported"] = json!(super::jws::names());
    }
    if let Some(scopes) = &core.config.scopes {
        body["scopes_supported"] = json!(scopes);
    }
    for (name, value) in &core.config.metadata_fields {
        body[name] = value.clone();
    }
    json_response(StatusCode::OK, &body)
}

/// Returns the issuer: the one that was set, or the address that the request was sent to.
pub(super) fn base(core: &Core, request: &RecordedRequest) -> String {
    let own = core.config.issuer.as_ref().and_then(address);
    own.or_else(|| address(&target(request.uri(), request.headers())?))
        .unwrap_or_else(|| super::IN_PROCESS.to_owned())
}

/// Returns the scheme and authority, without a trailing slash.
pub(super) fn address(uri: &Uri) -> Option<String> {
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// Returns the absolute URI of a request. If it was received over a connection, its authority is in the header `Host`.
pub(super) fn target(uri: &Uri, headers: &HeaderMap) -> Option<Uri> {
    if uri.scheme().is_some() {
        return Some(uri.clone());
    }
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(headers.get(HOST)?.as_bytes().try_into().ok()?);
    Uri::from_parts(parts).ok()
}
