//! Responses of a token endpoint with any status, header and body.

#![no_main]

use std::{convert::Infallible, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use tower::{ServiceExt, service_fn};
use tower_oauth2_client::{ClientAuthentication, DpopKey, TokenEndpoint, TokenRequest};
use tower_oauth2_client_fuzz::{Body, byte, check_error, ready};

static KEY: LazyLock<DpopKey> = LazyLock::new(|| DpopKey::generate().unwrap());

const STATUSES: [u16; 12] = [200, 201, 204, 302, 400, 401, 403, 404, 429, 500, 503, 599];

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let (status, options) = (byte(&mut data), byte(&mut data));
    let status = STATUSES[usize::from(status) % STATUSES.len()];
    let (head, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) if options & 1 != 0 => (&data[..end], &data[end + 1..]),
        _ => (&[][..], data),
    };
    let mut response = Response::new(Body::from(Bytes::copy_from_slice(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    if let Ok(value) = HeaderValue::from_bytes(head) {
        for name in ["retry-after", "date", "dpop-nonce", "location"] {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let http = service_fn(move |_: Request<Body>| {
        std::future::ready(Ok::<_, Infallible>(response.clone()))
    });
    let endpoint = TokenEndpoint::new(
        http,
        "https://as.example/token",
        ClientAuthentication::none("client"),
    );
    let endpoint = match options & 2 {
        0 => endpoint,
        _ => endpoint.dpop(KEY.clone()),
    };
    match ready(endpoint.oneshot(TokenRequest::client_credentials())) {
        Ok(response) => {
            assert!((200..300).contains(&status));
            let token = response.access_token();
            assert!(!token.expose_secret().is_empty());
            if options & 2 != 0 {
                assert!(token.authorization().is_none() || token.dpop_key().is_some());
            }
            let _ = (response.expires_in(), response.scope(), response.json());
            assert_eq!(response.raw(), body);
        }
        Err(error) => {
            check_error(&error);
            let _ = (error.is_transient(), error.retry_after(), error.json());
        }
    }
});
