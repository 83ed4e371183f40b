//! Responses of an API with any `WWW-Authenticate` and `DPoP-Nonce`.

#![no_main]

use std::{
    convert::Infallible,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::WWW_AUTHENTICATE};
use libfuzzer_sys::fuzz_target;
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, Challenge, DpopKey, ProtectedResource, TokenSource,
    TokenType, add_access_token::CloneBody,
};
use tower_oauth2_client_fuzz::{Body, byte, check_error, ready};

static KEY: LazyLock<DpopKey> = LazyLock::new(|| DpopKey::generate().unwrap());

/// Whatever address an API names, only its own origin is asked.
fn check_discovery(challenges: &[Challenge]) {
    for challenge in challenges {
        let _ = format!("{challenge:?}");
        assert!(challenge.scope().is_none_or(|scope| scope.check().is_ok()));
    }
    let http = service_fn(|request: Request<Body>| {
        let uri = request.uri();
        assert_eq!(uri.scheme_str(), Some("https"), "{uri}");
        let authority = uri.authority().unwrap().as_str().to_ascii_lowercase();
        let host = authority
            .split_once(':')
            .map_or(&*authority, |(host, _)| host);
        assert_eq!(host, "api.example", "{uri}");
        async { Ok::<_, Infallible>(Response::new(Body::default())) }
    });
    let discover = ProtectedResource::discover(http, "https://api.example/a");
    let error = ready(discover.challenges(challenges).into_future()).unwrap_err();
    check_error(&error);
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let options = byte(&mut data);
    let is_bound = options & 1 != 0;
    let values: Vec<HeaderValue> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    let mut headers = HeaderMap::new();
    for value in &values {
        headers.append(WWW_AUTHENTICATE, value.clone());
    }
    check_discovery(&Challenge::all(&headers));
    let calls = AtomicUsize::new(0);
    let api = service_fn(|request: Request<Body>| {
        calls.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.headers().contains_key("dpop"), is_bound);
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let mut values = values.iter().cloned();
        if let Some(nonce) = values.next().filter(|_| options & 2 != 0) {
            response.headers_mut().insert("dpop-nonce", nonce);
        }
        for value in values {
            response.headers_mut().append(WWW_AUTHENTICATE, value);
        }
        async move { Ok::<_, Infallible>(response) }
    });
    let token = match is_bound {
        true => AccessToken::new("T", TokenType::DPOP).map(|token| token.bound_to(KEY.clone())),
        false => AccessToken::new("T", TokenType::BEARER),
    };
    let request = Request::get("https://api.example/")
        .body(Body::default())
        .unwrap();
    let layer = AddAccessTokenLayer::new(TokenSource::fixed(token.unwrap())).resend(CloneBody);
    let layer = layer.origin(request.uri()).unwrap();
    let response = ready(layer.layer(api).oneshot(request)).unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    // A fixed token cannot be replaced, so the request is resent only for a nonce, and only once.
    assert!(calls.into_inner() <= 1 + usize::from(is_bound));
});
