//! Token endpoints that do not follow the RFCs: token types, incomplete and compressed responses, ID tokens, headers that they require.

mod support;

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::USER_AGENT};
use http_body_util::Full;
use serde_json::json;
use tower::{ServiceExt, retry::RetryLayer};
use tower_oauth2_client::{
    ClientAuthentication, IssuedToken, ReqwestService, TokenCache, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenResponse, TokenType, token_endpoint::RetryTransient,
};

use self::support::{GOOD, Loopback, Recorder, Script, answer};

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("c", "s3cret")
}

fn endpoint(body: impl Into<Bytes>) -> TokenEndpoint<Recorder> {
    let body = body.into();
    Recorder::new(move |_| answer(200, body.clone())).endpoint(client())
}

async fn token(endpoint: TokenEndpoint<Recorder>) -> Result<IssuedToken, TokenError> {
    let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    source.token().await
}

async fn fetch(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: impl Into<Bytes>,
) -> Result<TokenResponse, TokenError> {
    let body = body.into();
    let recorder = Recorder::new(move |_| {
        let mut response = answer(status, body.clone())?;
        for (name, value) in headers {
            let value = value.parse().unwrap();
            response.headers_mut().insert(*name, value);
        }
        Ok(response)
    });
    let request = TokenRequest::client_credentials();
    recorder.endpoint(client()).oneshot(request).await
}

fn of_type(token_type: &str) -> String {
    json!({ "access_token": "t", "token_type": token_type, "expires_in": "1799" }).to_string()
}

#[tokio::test]
async fn a_token_of_an_unknown_type_is_sent_as_the_setting_says() {
    for token_type in [
        "BearerToken",
        "Application Access Token",
        "User Access Token",
        "jwt-bearer",
        "bearer_token",
        "access_token",
        "JWT",
        "urn:ietf:params:oauth:token-type:access_token",
        "Zoho-oauthtoken",
        "Bearer,",
        " BearerToken ",
    ] {
        let endpoint = endpoint(of_type(token_type));
        let error = token(endpoint.clone()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
        assert!(!error.is_transient());
        for part in [
            &*format!("`{}`", token_type.trim()),
            "TokenEndpoint::token_type(TokenType::BEARER)",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
        for other in [TokenType::DPOP, TokenType::N_A, TokenType::from("x")] {
            let endpoint = endpoint.clone().token_type(other);
            token(endpoint).await.unwrap_err();
        }
        let endpoint = endpoint.token_type(TokenType::BEARER);
        let sent = token(endpoint.clone()).await.unwrap();
        assert_eq!(sent.authorization().unwrap(), "Bearer t", "{token_type}");
        let response = endpoint.oneshot(TokenRequest::client_credentials());
        let response = response.await.unwrap();
        assert_eq!(*response.token_type(), TokenType::BEARER);
        assert_eq!(response.get("token_type").unwrap(), token_type);
        assert_eq!(response.expires_in(), Some(Duration::from_secs(1799)));
    }
}

#[tokio::test]
async fn the_error_escapes_and_cuts_the_type() {
    let token_type = format!("odd\u{1b}[31m\n{}", "x".repeat(1000));
    let error = token(endpoint(of_type(&token_type))).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains(r"`odd\u{1b}[31m\nxxx"), "{shown}");
    assert!(shown.len() < 600, "{shown}");
}

#[tokio::test]
async fn a_token_that_is_known_to_be_no_bearer_token_is_never_sent() {
    for token_type in [
        "N_A", "n_a", "N/A", "mac", "MAC", "pop", "PoP", " pop ", "DPoP",
    ] {
        let endpoint = endpoint(of_type(token_type)).token_type(TokenType::BEARER);
        let error = token(endpoint).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
        assert!(!error.to_string().contains("token_type("), "{error}");
    }
}

#[tokio::test]
async fn a_token_without_a_type_is_a_bearer_token() {
    for token_type in [
        "\"\"",
        "\" \"",
        "null",
        "\"Bearer \"",
        "\"\\tbearer\"",
        "\"BEARER\"",
    ] {
        let body = format!(r#"{{"access_token":"t","token_type":{token_type}}}"#);
        let sent = token(endpoint(body)).await.unwrap();
        assert_eq!(sent.authorization().unwrap(), "Bearer t", "{token_type}");
    }
}

#[cfg(feature = "dpop")]
#[tokio::test]
async fn a_dpop_request_never_ends_with_a_token_of_an_unknown_type() {
    let key = tower_oauth2_client::DpopKey::generate().unwrap();
    for allows_bearer in [false, true] {
        for has_setting in [false, true] {
            let mut endpoint = endpoint(of_type("BearerToken")).dpop(key.clone());
            if allows_bearer {
                endpoint = endpoint.danger_allow_bearer();
            }
            if has_setting {
                endpoint = endpoint.token_type(TokenType::BEARER);
            }
            let error = token(endpoint).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
            assert!(error.to_string().contains("BearerToken"), "{error}");
        }
    }
    let empty = endpoint(of_type("")).dpop(key);
    let sent = token(empty).await.unwrap();
    assert_eq!(sent.authorization().unwrap(), "DPoP t");
}

/// Bodies of gateways that answer in place of the server, and what is left of a response.
const INCOMPLETE: [(&str, &[u8]); 14] = [
    ("", b""),
    ("application/json", b"\n"),
    ("", b"\xef\xbb\xbf"),
    ("", b"{"),
    ("", br#"{"access_token":"t""#),
    ("", br#"{"access_token":"t","expires_in":60"#),
    ("", br#"{"access_token":"t","#),
    ("", "{\"access_token\":\"t\u{e9}".as_bytes().split_at(19).0),
    ("text/html", b"<html>maintenance</html>"),
    ("application/json", b"  <?xml version=\"1.0\"?><Error/>"),
    ("text/html; charset=utf-8", b"Maintenance"),
    ("text/plain", b"no healthy upstream"),
    (
        "Text/Plain",
        b"upstream connect error or disconnect/reset before headers",
    ),
    ("text/plain", b"OK"),
];

fn incomplete(row: usize) -> Response<Full<Bytes>> {
    let (content_type, body) = INCOMPLETE[row];
    let mut response = answer(200, body).unwrap();
    if !content_type.is_empty() {
        let content_type = content_type.parse().unwrap();
        response.headers_mut().insert("content-type", content_type);
    }
    response
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_success_is_retried_unless_the_credential_may_be_used_up() {
    for row in 0..INCOMPLETE.len() {
        for (request, is_one_time) in [
            (TokenRequest::client_credentials(), false),
            (TokenRequest::password("u", "p"), false),
            (TokenRequest::jwt_bearer("e30.e30."), false),
            (TokenRequest::refresh_token("r1"), true),
            (TokenRequest::device_code("d1"), true),
            (TokenRequest::ciba("a1"), true),
            (
                TokenRequest::authorization_code("c1", "https://app.example/cb"),
                true,
            ),
        ] {
            let recorder = Recorder::new(move |number| match number {
                0 => Ok(incomplete(row)),
                _ => answer(200, GOOD),
            });
            let error = recorder
                .endpoint(client())
                .oneshot(request.clone())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
            assert!(error.is_transient(), "{row}: {error}");
            assert!(error.may_have_been_processed());

            // By a cache, within one fetch.
            let recorder = Recorder::new(move |number| match number {
                0 => Ok(incomplete(row)),
                _ => answer(200, GOOD),
            });
            let cache = TokenCache::new(recorder.endpoint(client()));
            let result = cache.source(request.clone()).token().await;
            assert_eq!(result.is_ok(), !is_one_time, "{row} {request:?}");
            assert_eq!(recorder.calls(), if is_one_time { 1 } else { 2 });

            // By the policy for tower's `Retry`.
            let recorder = Recorder::new(move |number| match number {
                0 => Ok(incomplete(row)),
                _ => answer(200, GOOD),
            });
            let retry = RetryLayer::new(RetryTransient::new());
            let endpoint = tower::ServiceBuilder::new()
                .layer(retry)
                .service(recorder.endpoint(client()));
            let result = endpoint.oneshot(request.clone()).await;
            assert_eq!(result.is_ok(), !is_one_time, "{row} {request:?}");
        }
    }
}

#[tokio::test]
async fn a_complete_success_without_a_token_is_final() {
    for (content_type, body) in [
        ("application/json", "{}"),
        ("application/json", r#"{"token":"t"}"#),
        ("text/html", r#"{"a":1}"#),
        ("text/plain", "access_token=t&expires_in=60"),
        (
            "application/x-www-form-urlencoded",
            "error=bad_verification_code",
        ),
        ("text/plain", "null"),
        ("text/plain", "[]"),
        ("application/json", r#"{"access_token":"t" "expires_in":1}"#),
        (
            "application/json",
            r#"{"errcode":40001,"errmsg":"invalid credential"}"#,
        ),
        (
            "application/json",
            r#"{"status":503,"error":"Service Unavailable"}"#,
        ),
    ] {
        let recorder = Recorder::new(move |_| {
            let mut response = answer(200, body)?;
            let content_type = content_type.parse().unwrap();
            response.headers_mut().insert("content-type", content_type);
            Ok(response)
        });
        let request = TokenRequest::client_credentials();
        let error = recorder
            .endpoint(client())
            .oneshot(request)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{body}");
        assert!(!error.is_transient(), "{body}: {error}");
    }
}

#[tokio::test]
async fn every_status_of_a_failed_server_is_transient_but_two() {
    for status in 500..600 {
        for body in [
            "",
            "<html></html>",
            r#"{"error":"x_vendor_code"}"#,
            r#"{"message":"down"}"#,
        ] {
            let error = fetch(status, &[], body).await.unwrap_err();
            assert_eq!(
                error.is_transient(),
                status != 501 && status != 505,
                "{status} {body}"
            );
            assert_eq!(error.may_have_been_processed(), status != 503, "{status}");
        }
    }
    for status in 400..500 {
        let error = fetch(status, &[], "").await.unwrap_err();
        let transient = [408, 425, 429].contains(&status);
        assert_eq!(error.is_transient(), transient, "{status}");
        assert_eq!(error.may_have_been_processed(), status != 429, "{status}");
    }
}

#[tokio::test]
async fn a_success_that_says_that_there_is_no_error_is_a_success() {
    for members in [
        r#""error":null"#,
        r#""error":"""#,
        r#""error":0"#,
        r#""error":0.0"#,
        r#""error":false"#,
        r#""error":{}"#,
        r#""error":[]"#,
        r#""error":"0""#,
        r#""error":"none""#,
        r#""error":"OK""#,
        r#""error":"success""#,
        r#""error":{"code":"ok","message":""}"#,
        r#""error":{"code":0}"#,
        r#""error_code":0,"error_description":"""#,
        r#""errcode":0,"errmsg":"ok""#,
        r#""error":null,"error_description":null,"error_uri":null"#,
    ] {
        let body = format!(r#"{{"access_token":"t","token_type":"Bearer",{members}}}"#);
        let response = fetch(200, &[], body).await;
        let response = response.unwrap_or_else(|error| panic!("{members}: {error}"));
        assert_eq!(response.access_token().expose_secret(), "t");
    }
    for error in [
        "1",
        "true",
        "\"invalid_grant\"",
        "\"x\"",
        "[\"a\"]",
        r#"{"code":1}"#,
        r#"{"message":"m"}"#,
    ] {
        let body = format!(r#"{{"access_token":"t","error":{error}}}"#);
        fetch(200, &[], body).await.unwrap_err();
    }
}

const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xabVJLNN-.\x8e/\xc9\xcfN\xcdS\xb2R";

#[tokio::test]
async fn a_compressed_response_is_named_as_such() {
    for (headers, body, coding) in [
        (&[("content-encoding", "gzip")] as &[_], GZIP, "gzip"),
        (&[], GZIP, "gzip"),
        (&[("content-encoding", "identity")], GZIP, "gzip"),
        (&[("content-encoding", "")], GZIP, "gzip"),
        (&[("content-encoding", " X-GZIP")], GZIP, "X-GZIP"),
        (
            &[("content-encoding", "br")],
            b"\x0b\x02\x80{\"a\":1}\x03",
            "br",
        ),
        (&[], b"\x28\xb5\x2f\xfd\x04\x58", "zstd"),
        (
            &[("content-encoding", "deflate")],
            b"\x78\x9c\xab\x56\x4a",
            "deflate",
        ),
        (
            &[("content-encoding", "gzip, br\x1b")][..0],
            b"\x78\xda\xab\x56",
            "deflate",
        ),
    ] {
        for status in [200, 400, 401, 500] {
            let error = fetch(status, headers, body).await.unwrap_err();
            let shown = error.to_string();
            for part in [
                &*format!("a compressed response ({coding})"),
                "`Decompression`",
                "reqwest",
            ] {
                assert!(shown.contains(part), "{headers:?} {status}: {shown}");
            }
            assert_eq!(error.is_transient(), status == 500, "{shown}");
            assert_eq!(error.raw().unwrap(), body);
        }
    }
}

/// A client that decompresses may leave the header, and a server may send it for nothing.
#[tokio::test]
async fn a_readable_response_is_read_whatever_its_content_encoding() {
    let response = fetch(200, &[("content-encoding", "gzip")], GOOD)
        .await
        .unwrap();
    assert_eq!(response.access_token().expose_secret(), "T");
    let body = r#"{"error":"invalid_grant"}"#;
    let error = fetch(400, &[("content-encoding", "br")], body)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
    for body in ["", "<html>", "maintenance", "{\"a\":"] {
        let error = fetch(200, &[("content-encoding", "gzip")], body)
            .await
            .unwrap_err();
        assert!(!error.to_string().contains("compressed"), "{error}");
    }
}

fn id_token(claims: serde_json::Value) -> String {
    format!(
        "e30.{}.c2ln",
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

#[tokio::test]
async fn an_id_token_alone_is_an_error_that_names_the_setting() {
    let body = json!({ "id_token": id_token(json!({ "exp": 2 })) }).to_string();
    let error = token(endpoint(body)).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    assert!(!error.is_transient());
    assert!(
        error.to_string().contains("`TokenEndpoint::use_id_token`"),
        "{error}"
    );
}

#[tokio::test]
async fn an_id_token_can_be_used_as_the_access_token() {
    let text = id_token(json!({ "iat": 1_764_362_400, "exp": 1_764_366_000 }));
    for (body, scope) in [
        (json!({ "id_token": text }), None),
        (
            json!({ "id_token": text, "token_type": "N_A", "expires_in": 7 }),
            None,
        ),
        (
            json!({ "id_token": text, "access_token": "", "error": "" }),
            None,
        ),
        (
            json!({ "id_token": text, "access_token": "a", "token_type": "mac", "scope": "openid" }),
            Some("openid"),
        ),
    ] {
        let endpoint = endpoint(body.to_string()).use_id_token();
        let response = endpoint.clone().oneshot(TokenRequest::client_credentials());
        let response = response.await.unwrap();
        assert_eq!(response.access_token().expose_secret(), text);
        assert_eq!(*response.token_type(), TokenType::BEARER);
        assert_eq!(response.expires_in(), Some(Duration::from_secs(3600)));
        assert_eq!(response.id_token().unwrap().expose_secret(), text);
        assert_eq!(response.scope().map(|scope| scope.as_str()), scope);
        let sent = token(endpoint).await.unwrap();
        assert_eq!(sent.authorization().unwrap(), &*format!("Bearer {text}"));
    }
}

#[tokio::test]
async fn the_setting_of_the_id_token_changes_nothing_else() {
    for body in [
        GOOD.to_owned(),
        json!({ "access_token": "T", "expires_in": 3600, "id_token": null }).to_string(),
        json!({ "access_token": "T", "expires_in": 3600, "id_token": "" }).to_string(),
    ] {
        let endpoint = endpoint(body).use_id_token();
        let response = endpoint.oneshot(TokenRequest::client_credentials());
        let response = response.await.unwrap();
        assert_eq!(response.access_token().expose_secret(), "T");
        assert_eq!(response.expires_in(), Some(Duration::from_secs(3600)));
    }
    for body in [
        json!({ "id_token": "a\nb" }),
        json!({ "id_token": 7 }),
        json!({ "id_token": "i.i.i", "error": "invalid_grant" }),
        json!({}),
    ] {
        let endpoint = endpoint(body.to_string()).use_id_token();
        let response = endpoint.oneshot(TokenRequest::client_credentials());
        response.await.unwrap_err();
    }
    let opaque = endpoint(r#"{"id_token":"i.i.i"}"#).use_id_token();
    let response = opaque
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();
    assert_eq!(response.expires_in(), None);
}

#[cfg(feature = "dpop")]
#[tokio::test]
async fn an_id_token_is_no_dpop_token() {
    let key = tower_oauth2_client::DpopKey::generate().unwrap();
    let endpoint = endpoint(r#"{"id_token":"i.i.i","token_type":"DPoP"}"#);
    let endpoint = endpoint.use_id_token().dpop(key);
    let error = token(endpoint.clone()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
    let sent = token(endpoint.danger_allow_bearer()).await.unwrap();
    assert_eq!(sent.authorization().unwrap(), "Bearer i.i.i");
}

const OWN: &str = concat!("tower-oauth2-client/", env!("CARGO_PKG_VERSION"));

async fn sent_headers(request: TokenRequest) -> Request<Bytes> {
    let recorder = Recorder::good();
    recorder.endpoint(client()).oneshot(request).await.unwrap();
    recorder.take_one()
}

#[tokio::test]
async fn requests_ask_for_no_compression_and_name_the_crate() {
    let sent = sent_headers(TokenRequest::client_credentials()).await;
    assert_eq!(sent.headers()["accept-encoding"], "identity");
    assert_eq!(sent.headers()["user-agent"], OWN);
    let request = TokenRequest::client_credentials()
        .header("accept-encoding", "gzip")
        .header("accept-encoding", "br")
        .header("user-agent", "my-app/1.0");
    let sent = sent_headers(request).await;
    let codings: Vec<_> = sent.headers().get_all("accept-encoding").iter().collect();
    assert_eq!(codings, ["gzip", "br"]);
    let agents: Vec<_> = sent.headers().get_all("user-agent").iter().collect();
    assert_eq!(agents, ["my-app/1.0"]);
}

/// The user agent that a server sees, over reqwest.
async fn user_agent(builder: reqwest::ClientBuilder, request: TokenRequest) -> String {
    let server = Loopback::start(|_| Script::good()).await;
    let http = ReqwestService::new(builder.no_proxy().build().unwrap());
    let endpoint = TokenEndpoint::new(http, server.uri(), client());
    endpoint.oneshot(request).await.unwrap();
    let requests = server.requests();
    let lines = requests[0].lines().map(str::to_ascii_lowercase);
    let agents: Vec<_> = lines
        .filter(|line| line.starts_with("user-agent:"))
        .collect();
    assert_eq!(agents.len(), 1, "{}", requests[0]);
    agents[0].split_once(": ").unwrap().1.to_owned()
}

#[tokio::test]
async fn the_user_agent_of_reqwest_stays() {
    let request = TokenRequest::client_credentials;
    let builder = reqwest::Client::builder;
    assert_eq!(user_agent(builder(), request()).await, OWN);
    assert_eq!(
        user_agent(builder().user_agent("mine/1"), request()).await,
        "mine/1"
    );
    let mut headers = http::HeaderMap::new();
    headers.insert(USER_AGENT, "default/1".parse().unwrap());
    let with_default = || builder().default_headers(headers.clone());
    assert_eq!(user_agent(with_default(), request()).await, "default/1");
    let own = request().header("user-agent", "request/1");
    assert_eq!(user_agent(with_default(), own.clone()).await, "request/1");
    assert_eq!(user_agent(builder(), own).await, "request/1");
    // A value that looks like a name is none.
    let mut headers = http::HeaderMap::new();
    headers.insert("x-odd", r#""user-agent": "x""#.parse().unwrap());
    let odd = builder().default_headers(headers);
    assert_eq!(user_agent(odd, request()).await, OWN);
}

#[tokio::test]
async fn reqwest_leaves_other_requests_alone() {
    let server = Loopback::start(|_| Script::good()).await;
    let http = ReqwestService::new(reqwest::Client::builder().no_proxy().build().unwrap());
    let request = Request::get(server.uri())
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = http.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        !server.requests()[0]
            .to_ascii_lowercase()
            .contains("user-agent")
    );
}

#[tokio::test]
async fn a_compressed_metadata_document_is_named_as_such() {
    let recorder = Recorder::new(|_| answer(200, GZIP));
    let endpoint = TokenEndpoint::discover(recorder, "https://as.example", client());
    let error = endpoint.oneshot(TokenRequest::client_credentials()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("a compressed response (gzip)"), "{error}");
}
