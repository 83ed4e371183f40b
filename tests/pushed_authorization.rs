//! `PushedAuthorizationEndpoint`: the requests that it sends, the responses that it reads, and the URLs that follow.

mod support;

use std::time::Duration;

use http::{
    Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::json;
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, DpopKey, ErrorCode, PushedAuthorizationEndpoint,
    PushedAuthorizationRequest, PushedAuthorizationResponse, TokenEndpoint, TokenError,
    TokenErrorKind,
    authorization_code::{AuthorizationEndpoint, AuthorizationRequest, AuthorizationResponse},
    jwt::{SigningAlgorithm, SigningKey},
    test_util::{AuthorizationServer, Failure},
};

use self::support::{Answer, Recorder, answer, basic, form};

const URI: &str = "https://as.example/par";
const REFERENCE: &str = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c";
const GOOD: &str = r#"{"request_uri":"urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c","expires_in":60}"#;
const REDIRECT_URI: &str = "https://app.test/callback";

fn confidential() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

fn endpoint(recorder: &Recorder) -> PushedAuthorizationEndpoint<Recorder> {
    PushedAuthorizationEndpoint::new(recorder.clone(), URI, confidential())
}

fn raw() -> PushedAuthorizationRequest {
    PushedAuthorizationRequest::new([
        ("response_type", "code"),
        ("client_id", "client"),
        ("redirect_uri", REDIRECT_URI),
    ])
}

async fn result(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Result<PushedAuthorizationResponse, TokenError> {
    let recorder = Recorder::new(move |_| answer());
    endpoint(&recorder).oneshot(raw()).await
}

fn request() -> AuthorizationRequest {
    AuthorizationRequest::new(REDIRECT_URI).scope("openid orders")
}

fn discover(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
    TokenEndpoint::discover(server.clone(), server.issuer(), confidential())
}

#[tokio::test]
async fn the_whole_request_is_pushed_and_the_url_contains_only_client_and_reference() {
    let recorder = Recorder::new(|_| answer(201, GOOD));
    let authorization = AuthorizationEndpoint::new("https://as.example/authorize?tenant=1&state=x");
    let asked = request()
        .resource("https://a.example/")
        .resource("https://b.example/")
        .prompt("login");
    let (request, pending) = authorization.begin_pushed(asked, "client").unwrap();
    let pushed = endpoint(&recorder).oneshot(request).await.unwrap();

    assert_eq!(pushed.request_uri(), REFERENCE);
    assert_eq!(pushed.expires_in(), Some(Duration::from_secs(60)));
    assert_eq!(pushed.get("expires_in"), Some(&json!(60)));
    assert_eq!(*pushed.raw(), GOOD);
    let sent = recorder.take_one();
    assert_eq!(sent.method(), Method::POST);
    assert_eq!(sent.uri(), URI);
    assert_eq!(
        sent.headers()[CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(basic(sent.headers()), "client:secret");
    let sent = form(sent.body());
    let values = |name: &str| {
        let pairs = sent.iter().filter(|(other, _)| other == name);
        pairs.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    for (name, expected) in [
        ("response_type", &["code"][..]),
        ("redirect_uri", &[REDIRECT_URI]),
        ("scope", &["openid orders"]),
        ("resource", &["https://a.example/", "https://b.example/"]),
        ("prompt", &["login"]),
        ("state", &[pending.state()]),
        ("code_challenge_method", &["S256"]),
        ("client_id", &["client"]),
        ("client_secret", &[]),
    ] {
        assert_eq!(values(name), expected, "{name}");
    }
    assert_eq!(values("code_challenge")[0].len(), 43);
    assert_eq!(values("nonce")[0].len(), 43);

    let url = authorization.pushed_url(&pushed, "client").unwrap();
    let reference = REFERENCE.replace(':', "%3A");
    assert_eq!(
        url,
        format!(
            "https://as.example/authorize?tenant=1&state=x&client_id=client&request_uri={reference}"
        )
    );
}

#[tokio::test]
async fn a_public_client_pushes_its_id() {
    let recorder = Recorder::new(|_| answer(201, GOOD));
    let public = ClientAuthentication::none("cli");
    let endpoint = PushedAuthorizationEndpoint::new(recorder.clone(), URI, public);
    let authorization = AuthorizationEndpoint::new("https://as.example/authorize");
    let (pushed, _) = authorization.begin_pushed(request(), "cli").unwrap();
    endpoint.clone().oneshot(pushed).await.unwrap();
    let sent = recorder.take_one();
    assert!(!sent.headers().contains_key(AUTHORIZATION));
    let ids = form(sent.body());
    let ids: Vec<_> = ids.iter().filter(|(name, _)| name == "client_id").collect();
    assert_eq!(ids, [&("client_id".to_owned(), "cli".to_owned())]);

    let error = endpoint.oneshot(raw()).await.unwrap_err();
    assert!(error.to_string().contains("`client_id` is set"), "{error}");
}

#[tokio::test]
async fn invalid_requests_are_not_sent() {
    for (request, expected) in [
        (
            raw().parameter("request_uri", REFERENCE),
            "`request_uri` must not be pushed",
        ),
        (
            raw().parameter("state", "a").parameter("state", "b"),
            "`state` is set twice",
        ),
        (
            raw().parameter("client_secret", "x"),
            "second client authentication",
        ),
        (raw().parameter("", "x"), "the name of a parameter is empty"),
        (
            raw().header("x", "a\n"),
            "the value of the header `x` is invalid",
        ),
        (
            raw().pushed_authorization_request_endpoint("/par"),
            "is not absolute",
        ),
        (
            raw().pushed_authorization_request_endpoint("http://as.example/par"),
            "the URI of the pushed authorization request endpoint is plain http",
        ),
    ] {
        let recorder = Recorder::new(|_| answer(201, GOOD));
        let error = endpoint(&recorder).oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(recorder.calls(), 0);
    }
}

#[tokio::test]
async fn whatever_a_success_is_called_its_reference_is_read() {
    for (status, body, lifetime) in [
        (201, GOOD, Some(60)),
        (200, GOOD, Some(60)),
        (
            201,
            r#"{"request_uri":"urn:x","expires_in":"90"}"#,
            Some(90),
        ),
        (201, r#"{"request_uri":"urn:x"}"#, None),
        (
            201,
            r#"{"request_uri":"urn:x","expires_in":null,"error":null}"#,
            None,
        ),
        (201, r#"{"request_uri":"urn:x","expires_in":"soon"}"#, None),
        (201, r#"{"request_uri":"urn:x","expires_in":-5}"#, Some(0)),
        (
            201,
            "\u{feff}{\"request_uri\":\"urn:x\",\"x\":1,\"x\":2}",
            None,
        ),
    ] {
        let pushed = result(move || answer(status, body)).await.unwrap();
        assert_eq!(
            pushed.expires_in(),
            lifetime.map(Duration::from_secs),
            "{body}"
        );
    }
}

#[tokio::test]
async fn bad_answers_are_errors() {
    let huge = format!(r#"{{"request_uri":"urn:{}"}}"#, "x".repeat(5000));
    let too_large = format!(
        r#"{{"request_uri":"urn:x","y":"{}"}}"#,
        "y".repeat(2 * 1024 * 1024)
    );
    for (status, body, kind, expected, is_transient) in [
        (
            201,
            "",
            TokenErrorKind::InvalidResponse,
            "returned an empty body",
            true,
        ),
        (
            201,
            "<html>",
            TokenErrorKind::InvalidResponse,
            "returned a page instead of JSON",
            true,
        ),
        (
            201,
            &GOOD[..40],
            TokenErrorKind::InvalidResponse,
            "returned JSON that ends too early",
            true,
        ),
        (
            201,
            "[]",
            TokenErrorKind::InvalidResponse,
            "something other than a JSON object",
            false,
        ),
        (
            201,
            "{}",
            TokenErrorKind::InvalidResponse,
            "returned no `request_uri`",
            false,
        ),
        (
            201,
            r#"{"request_uri":null}"#,
            TokenErrorKind::InvalidResponse,
            "returned no `request_uri`",
            false,
        ),
        (
            201,
            r#"{"request_uri":""}"#,
            TokenErrorKind::InvalidResponse,
            "returned no `request_uri`",
            false,
        ),
        (
            201,
            r#"{"request_uri":1}"#,
            TokenErrorKind::InvalidResponse,
            "a `request_uri` that is not a string",
            false,
        ),
        (
            201,
            r#"{"request_uri":["urn:x"]}"#,
            TokenErrorKind::InvalidResponse,
            "a `request_uri` that is not a string",
            false,
        ),
        (
            201,
            r#"{"request_uri":{"a":1}}"#,
            TokenErrorKind::InvalidResponse,
            "a `request_uri` that is not a string",
            false,
        ),
        (
            201,
            r#"{"request_uri":"urn:a","request_uri":"urn:b"}"#,
            TokenErrorKind::InvalidResponse,
            "`request_uri` twice",
            false,
        ),
        (
            201,
            &huge,
            TokenErrorKind::InvalidResponse,
            "of more than 4096 bytes",
            false,
        ),
        (
            201,
            &too_large,
            TokenErrorKind::BodyTooLarge,
            "is larger than 1048576 bytes",
            false,
        ),
        (
            201,
            r#"{"request_uri":"urn:x","error":"invalid_request"}"#,
            TokenErrorKind::ErrorResponse,
            "invalid_request",
            false,
        ),
        (
            400,
            r#"{"error":"invalid_request","error_description":"redirect_uri"}"#,
            TokenErrorKind::ErrorResponse,
            "check the redirect URI",
            false,
        ),
        (
            401,
            r#"{"error":"invalid_client"}"#,
            TokenErrorKind::ErrorResponse,
            "does not accept the client",
            false,
        ),
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            TokenErrorKind::ErrorResponse,
            "`pushed(false)`",
            false,
        ),
        (
            404,
            "",
            TokenErrorKind::UnexpectedStatus,
            "there is no pushed authorization request endpoint at this URI",
            false,
        ),
        (
            429,
            "",
            TokenErrorKind::UnexpectedStatus,
            "refused the request",
            true,
        ),
        (
            503,
            "",
            TokenErrorKind::UnexpectedStatus,
            "the pushed authorization request endpoint failed",
            true,
        ),
    ] {
        let owned = body.to_owned();
        let error = result(move || answer(status, owned.clone()))
            .await
            .unwrap_err();
        let shown = &body[..body.len().min(60)];
        assert_eq!(error.kind(), kind, "{status} {shown}: {error}");
        assert!(
            error.to_string().contains(expected),
            "{status} {shown}: {error}"
        );
        assert_eq!(
            error.is_transient(),
            is_transient,
            "{status} {shown}: {error}"
        );
        assert_eq!(error.status(), Some(StatusCode::from_u16(status).unwrap()));
    }
}

#[tokio::test]
async fn a_request_is_pushed_if_the_server_can_take_it() {
    let none = || json!(null);
    for (member, required, wanted, expected) in [
        (json!("https://as.test/par"), false, None, Some(true)),
        (json!("https://as.test/par"), false, Some(true), Some(true)),
        (
            json!("https://as.test/par"),
            false,
            Some(false),
            Some(false),
        ),
        (json!("https://as.test/par"), true, None, Some(true)),
        (json!("https://as.test/par"), true, Some(false), None),
        (none(), false, None, Some(false)),
        (none(), false, Some(true), None),
        (none(), true, None, None),
    ] {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .metadata_field("pushed_authorization_request_endpoint", member.clone())
            .metadata_field("require_pushed_authorization_requests", required)
            .build();
        let request = match wanted {
            Some(wanted) => request().pushed(wanted),
            None => request(),
        };
        let begun = discover(&server).begin_authorization(request).await;
        let what = format!("{member} {required} {wanted:?}");
        match (begun, expected) {
            (Err(error), None) => assert_eq!(error.kind(), TokenErrorKind::Request, "{what}"),
            (Ok((url, _)), Some(is_pushed)) => {
                assert_eq!(url.contains("request_uri="), is_pushed, "{what}");
                assert_eq!(url.contains("scope="), !is_pushed, "{what}");
            }
            (begun, _) => panic!("{what}: {begun:?}"),
        }
    }
}

#[tokio::test]
async fn a_pushed_request_ends_in_a_token() {
    let server = AuthorizationServer::new();
    let endpoint = discover(&server);
    let (url, mut pending) = endpoint.begin_authorization(request()).await.unwrap();
    let returned_to = server.authorize(&url).unwrap();
    // The reference can be used once.
    assert_eq!(server.authorize(&url), None);
    let request = pending
        .accept(&AuthorizationResponse::from_uri(returned_to))
        .unwrap();
    let response = endpoint.oneshot(request).await.unwrap();
    assert_eq!(response.scope().unwrap().as_str(), "openid orders");
}

#[tokio::test]
async fn a_refused_or_failed_push_makes_no_url() {
    let server = AuthorizationServer::builder()
        .client("client", "secret")
        .scopes(["other"])
        .build();
    let error = discover(&server)
        .begin_authorization(request())
        .await
        .unwrap_err();
    assert_eq!(
        *error.error_response().unwrap().code(),
        ErrorCode::INVALID_SCOPE
    );

    let server = AuthorizationServer::new();
    server.fail_next(Failure::status(503).at("/par"));
    let error = discover(&server)
        .begin_authorization(request())
        .await
        .unwrap_err();
    assert!(error.is_transient());
    discover(&server)
        .begin_authorization(request())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_proof_is_pushed_and_a_demand_for_a_nonce_is_met() {
    let server = AuthorizationServer::new();
    server.demand_dpop_nonces(true);
    let key = DpopKey::generate().unwrap();
    let endpoint = discover(&server).dpop(key.clone());
    let (url, mut pending) = endpoint.begin_authorization(request()).await.unwrap();
    let pushes = || {
        server
            .requests()
            .into_iter()
            .filter(|r| r.path() == "/par")
            .collect::<Vec<_>>()
    };
    assert_eq!(pushes().len(), 2); // the first one had no nonce
    let sent = pushes();
    assert_eq!(sent[0].get("state"), sent[1].get("state"));
    assert_ne!(sent[0].headers()["dpop"], sent[1].headers()["dpop"]);
    assert_eq!(sent[1].get("dpop_jkt"), Some(key.thumbprint()));
    let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
    let response = endpoint
        .oneshot(pending.accept(&back).unwrap())
        .await
        .unwrap();
    assert_eq!(response.access_token().dpop_key(), Some(&key));
}

#[tokio::test]
async fn a_signed_assertion_is_made_for_the_issuer() {
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    let server = AuthorizationServer::builder()
        .private_key_jwt_client("client", key.public_jwk())
        .build();
    let client = ClientAuthentication::private_key_jwt("client", key);
    let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client);
    let (url, mut pending) = endpoint.begin_authorization(request()).await.unwrap();
    let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
    endpoint
        .oneshot(pending.accept(&back).unwrap())
        .await
        .unwrap();
    let assertions: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|request| request.get("client_assertion").map(str::to_owned))
        .collect();
    assert_eq!(assertions.len(), 2);
    assert_ne!(assertions[0], assertions[1]);
}

#[tokio::test]
async fn a_tls_client_pushes_to_the_alias() {
    let alias = "https://mtls.as.test/par";
    let aliases = json!({ "pushed_authorization_request_endpoint": alias });
    let server = AuthorizationServer::builder()
        .tls_client("tls")
        .client("client", "secret")
        .metadata_field("mtls_endpoint_aliases", aliases)
        .build();
    let tls = ClientAuthentication::tls_client_auth("tls");
    let by_tls = TokenEndpoint::discover(server.clone(), server.issuer(), tls);
    by_tls.begin_authorization(request()).await.unwrap();
    discover(&server)
        .begin_authorization(request())
        .await
        .unwrap();
    let bound = discover(&server).certificate_bound_tokens();
    bound.begin_authorization(request()).await.unwrap();
    let pushes = server
        .requests()
        .into_iter()
        .filter(|request| request.path() == "/par");
    let uris: Vec<_> = pushes.map(|request| request.uri().to_string()).collect();
    assert_eq!(uris, [alias, "https://as.test/par", alias]);
}

#[test]
fn nothing_of_a_request_or_response_is_printed() {
    let request = raw().parameter("login_hint", "S3NT1NEL");
    let shown = format!("{request:?} {request:#?}");
    assert!(shown.contains("login_hint"));
    assert!(
        !shown.contains("S3NT1NEL") && !shown.contains("app.test"),
        "{shown}"
    );
}
