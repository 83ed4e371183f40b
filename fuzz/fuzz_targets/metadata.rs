//! Discovery with any issuer and any metadata document.

#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use tower::{ServiceExt, service_fn};
use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, TokenRequest};
use tower_oauth2_client_fuzz::{Body, byte, check_error, ready};

const TOKEN: &str = r#"{"access_token":"T","token_type":"Bearer"}"#;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let options = byte(&mut data);
    let (issuer, document) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) if options & 1 != 0 => (&data[..end], &data[end + 1..]),
        _ => (&b"https://as.example/t"[..], data),
    };
    let Ok(issuer) = str::from_utf8(issuer) else {
        return;
    };
    let document = Bytes::copy_from_slice(document);
    let http = service_fn(move |request: Request<Body>| {
        let uri = request.uri();
        let authority = uri.authority().unwrap().as_str();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || literal
                .unwrap_or(host)
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback());
        assert!(
            uri.scheme_str() == Some("https") || is_loopback,
            "a secret is sent to {uri}"
        );
        assert!(!uri.authority().unwrap().as_str().contains('@'), "{uri}");
        let body = match *request.method() {
            Method::GET => document.clone(),
            _ => Bytes::from_static(TOKEN.as_bytes()),
        };
        async move { Ok::<_, Infallible>(Response::new(Body::from(body))) }
    });
    let client = match options & 2 {
        0 => ClientAuthentication::client_secret_basic("client", "secret"),
        _ => ClientAuthentication::tls_client_auth("client"),
    };
    let endpoint = TokenEndpoint::discover(http, issuer, client);
    match ready(endpoint.metadata()) {
        Ok(metadata) => {
            assert_eq!(metadata.issuer(), issuer);
            assert_eq!(
                metadata.get("issuer").and_then(|issuer| issuer.as_str()),
                Some(issuer)
            );
        }
        Err(error) => check_error(&error),
    }
    if let Err(error) = ready(endpoint.oneshot(TokenRequest::client_credentials())) {
        check_error(&error);
        assert!(!error.may_have_been_processed());
    }
});
