//! The target URI in a DPoP proof (`htu`), for any URI.

#![no_main]

use std::{net::Ipv6Addr, sync::LazyLock};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use tower_oauth2_client::DpopKey;
use tower_oauth2_client_fuzz::{byte, check_error, ready};

static KEY: LazyLock<DpopKey> = LazyLock::new(|| DpopKey::generate().unwrap());

/// Returns the claims of a proof, if a proof can be made for this URI.
fn claims(key: &DpopKey, method: &Method, uri: &Uri) -> Option<serde_json::Value> {
    let proof = match ready(key.proof(method, uri, None)) {
        Ok(proof) => proof,
        Err(error) => {
            check_error(&error);
            assert!(uri.scheme().is_none() || !is_well_formed(uri));
            return None;
        }
    };
    let claims = proof.to_str().unwrap().split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    Some(serde_json::from_slice(&claims).unwrap())
}

/// Whether nothing but the user name stands beside the host and the port.
fn is_well_formed(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else {
        return false;
    };
    let (user, host_and_port) = match authority.as_str().rsplit_once('@') {
        Some((user, rest)) => (user, rest),
        None => ("", authority.as_str()),
    };
    let (host, port) = (authority.host(), authority.port());
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match literal {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(['[', ']']),
    };
    is_host
        && !user.contains('@')
        && !port.contains('+')
        && host_and_port.trim_end_matches(':') == format!("{host}{port}")
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let method = match byte(&mut data) % 3 {
        0 => Method::GET,
        1 => Method::POST,
        _ => Method::from_bytes(data.get(..4).unwrap_or(b"PUT")).unwrap_or(Method::PUT),
    };
    let Ok(uri) = Uri::try_from(data) else {
        return;
    };
    if let Ok(nonce) = HeaderValue::from_bytes(data) {
        let key = DpopKey::generate().unwrap();
        let uri = Uri::from_static("https://as.example");
        key.note_response(
            &uri,
            None,
            &HeaderMap::from_iter([("dpop-nonce".parse().unwrap(), nonce)]),
        );
        claims(&key, &method, &uri).unwrap();
    }
    let Some(claims_of_uri) = claims(&KEY, &method, &uri) else {
        return;
    };
    assert_eq!(claims_of_uri["htm"], method.as_str());
    let htu = claims_of_uri["htu"].as_str().unwrap();
    assert!(!htu.contains(['?', '#']), "{htu}");
    let target: Uri = htu.parse().unwrap();
    assert!(!target.authority().unwrap().as_str().contains('@'), "{htu}");
    assert_eq!(
        target.path(),
        if uri.path() == "*" { "/" } else { uri.path() }
    );
    // A server that normalizes `htu` gets the same value.
    assert_eq!(claims(&KEY, &method, &target).unwrap()["htu"], htu);
});
