//! Device logins (RFC 8628): the request, its answer, and a whole login. When the token endpoint is polled: see `polling.rs`.
#![cfg(feature = "test-util")]

mod support;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request,
    header::{ACCEPT, AUTHORIZATION, RETRY_AFTER},
};
use tokio::time::sleep;
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, Credential, DeviceAuthorizationEndpoint, DeviceAuthorizationRequest,
    DeviceAuthorizationResponse, ErrorCode, NoAccessToken, RefreshToken, TokenCache, TokenEndpoint,
    TokenError, TokenErrorKind, TokenRequest,
    test_util::{AuthorizationServer, Failure},
};

use self::support::{Answer, Recorder, answer, basic, form, owned};

const URI: &str = "https://as.example/device";

/// The example of RFC 8628 §3.2.
const GOOD: &str = r#"{
    "device_code": "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://example.com/device",
    "verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 5
}"#;

fn public() -> ClientAuthentication {
    ClientAuthentication::none("1406020730")
}

fn confidential() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

fn request() -> DeviceAuthorizationRequest {
    DeviceAuthorizationRequest::new()
}

async fn send(client: ClientAuthentication, request: DeviceAuthorizationRequest) -> Request<Bytes> {
    let recorder = Recorder::new(|_| answer(200, GOOD));
    let endpoint = DeviceAuthorizationEndpoint::new(recorder.clone(), URI, client);
    endpoint.oneshot(request).await.expect("a good request");
    recorder.take_one()
}

async fn result(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Result<DeviceAuthorizationResponse, TokenError> {
    let recorder = Recorder::new(move |_| answer());
    DeviceAuthorizationEndpoint::new(recorder, URI, confidential())
        .oneshot(request())
        .await
}

/// Checks that nothing is sent, and returns the message.
async fn refused(request: DeviceAuthorizationRequest) -> String {
    let recorder = Recorder::new(|_| answer(200, GOOD));
    let endpoint = DeviceAuthorizationEndpoint::new(recorder.clone(), URI, public());
    let error = endpoint.oneshot(request).await.unwrap_err();
    recorder.check_unsent(&error)
}

mod wire {
    use super::*;

    #[tokio::test]
    async fn a_public_client_sends_the_example_of_rfc_8628() {
        let sent = send(public(), request().scope("example_scope")).await;
        assert_eq!(sent.method(), "POST");
        assert_eq!(sent.uri(), URI);
        assert_eq!(*sent.body(), "scope=example_scope&client_id=1406020730");
        assert_eq!(sent.headers()[ACCEPT], "application/json");
        assert!(!sent.headers().contains_key(AUTHORIZATION));
        assert_eq!(sent.extensions().get(), Some(&NoAccessToken));
    }

    #[tokio::test]
    async fn a_confidential_client_authenticates_as_at_the_token_endpoint() {
        let sent = send(confidential(), request()).await;
        assert_eq!(*sent.body(), "");
        assert_eq!(basic(sent.headers()), "client:secret");
    }

    #[tokio::test]
    async fn parameters_headers_and_overrides_are_sent() {
        let request = request()
            .scope("openid")
            .scope("offline_access")
            .resource("https://a.example/")
            .resource("https://b.example/")
            .audience("api")
            .parameter("tenant", "blue")
            .parameter("empty", "")
            .parameter(
                "hint",
                Credential::from_fn(|| async { Ok::<_, Infallible>("h") }),
            )
            .header("x-request-id", "42")
            .label("blue")
            .context(7_u8)
            .device_authorization_endpoint("https://blue.example/device")
            .client_authentication(ClientAuthentication::client_secret_post("other", "s"));
        assert_eq!(request.get_label(), Some("blue"));
        let sent = send(public(), request).await;
        assert_eq!(sent.extensions().get(), Some(&7_u8));
        assert_eq!(sent.uri(), "https://blue.example/device");
        assert_eq!(sent.headers()["x-request-id"], "42");
        let expected = [
            ("scope", "openid offline_access"),
            ("resource", "https://a.example/"),
            ("resource", "https://b.example/"),
            ("audience", "api"),
            ("tenant", "blue"),
            ("hint", "h"),
            ("client_id", "other"),
            ("client_secret", "s"),
        ];
        assert_eq!(form(sent.body()), owned(&expected));
    }

    #[tokio::test]
    async fn an_invalid_request_is_not_sent() {
        for (request, why) in [
            (request().scope("a\"b"), "scope"),
            (
                request().parameter("a", "1").parameter("a", "2"),
                "the parameter `a` is set twice",
            ),
            (request().resource(""), "the parameter `resource` is empty"),
            (
                request().device_authorization_endpoint("http://as.example/device"),
                "the URI of the device authorization endpoint is plain http",
            ),
            (request().header("content-type", "text/plain"), "header"),
        ] {
            let message = refused(request).await;
            let begin = "the device authorization request was not sent: ";
            assert!(message.starts_with(begin), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn requests_are_equal_by_content() {
        assert_eq!(request().scope("a b"), request().scope("b a"));
        assert_ne!(request(), request().scope("a"));
        assert_ne!(request(), request().client_authentication(public()));
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn the_example_of_rfc_8628_is_read() {
        for status in [200, 201] {
            let response = result(move || answer(status, GOOD)).await.unwrap();
            assert_eq!(
                response.device_code().expose_secret(),
                "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS"
            );
            assert_eq!(response.user_code(), "WDJB-MJHT");
            assert_eq!(response.verification_uri(), "https://example.com/device");
            assert_eq!(
                response.verification_uri_complete(),
                Some("https://example.com/device?user_code=WDJB-MJHT")
            );
            assert_eq!(response.expires_in(), Some(Duration::from_secs(1800)));
            assert_eq!(response.interval(), Duration::from_secs(5));
            assert_eq!(response.get("interval").unwrap(), 5);
            assert_eq!(response.json()["user_code"], "WDJB-MJHT");
            assert_eq!(response.status(), status);
            assert_eq!(response.raw(), GOOD);
            assert!(response.headers().is_empty());
            assert_eq!(
                response.token_request(),
                TokenRequest::device_code(response.device_code())
            );
        }
    }

    /// Google's first device flow, Microsoft's, and what other servers add or leave out.
    #[tokio::test]
    async fn answers_of_odd_servers_are_read() {
        const OF_GOOGLE: &str = r#"{"device_code":"dc","user_code":"uc",
            "verification_url":"https://www.google.com/device","expires_in":1800,"interval":5}"#;
        const OF_MICROSOFT: &str = r#"{"user_code":"uc","device_code":"dc",
            "verification_uri":"https://microsoft.com/devicelogin","expires_in":"900","interval":"5",
            "message":"To sign in, use a web browser"}"#;
        const LEAST: &str =
            r#"{"device_code":"dc","user_code":"uc","verification_uri":"as.example/d"}"#;
        const NO_ERROR: &str = r#"{"error":null,"device_code":"dc","user_code":"uc",
            "verification_uri":"https://as.example/d","interval":0}"#;
        let with_a_mark = format!("\u{feff}{LEAST}");
        for (body, uri, expires_in) in [
            (OF_GOOGLE, "https://www.google.com/device", Some(1800)),
            (OF_MICROSOFT, "https://microsoft.com/devicelogin", Some(900)),
            (LEAST, "https://as.example/d", None),
            (&*with_a_mark, "https://as.example/d", None),
            (NO_ERROR, "https://as.example/d", None),
        ] {
            let body = body.to_owned();
            let response = result(move || answer(200, body.clone())).await.unwrap();
            assert_eq!(response.device_code().expose_secret(), "dc");
            assert_eq!(response.user_code(), "uc");
            assert_eq!(response.verification_uri(), uri);
            assert_eq!(response.verification_uri_complete(), None);
            assert_eq!(response.expires_in(), expires_in.map(Duration::from_secs));
            assert_eq!(response.interval(), Duration::from_secs(5));
        }
    }

    fn replaced(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from));
        GOOD.replace(from, to)
    }

    #[tokio::test]
    async fn unusable_answers_are_errors_that_say_why() {
        let user_code = r#""WDJB-MJHT","#;
        let uri = r#""https://example.com/device","#;
        let code = r#""GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS","#;
        for (body, why, is_transient) in [
            (String::new(), "returned an empty body", true),
            ("<html>".into(), "returned a page instead of JSON", true),
            (GOOD[..60].into(), "returned JSON that ends too early", true),
            (format!("{GOOD}}}"), "returned JSON that is broken", false),
            ("[]".into(), "something other than a JSON object", false),
            ("\"ok\"".into(), "something other than a JSON object", false),
            ("{}".into(), "returned no `device_code`", false),
            (replaced(code, "null,"), "returned no `device_code`", false),
            (replaced(code, "\"\","), "returned no `device_code`", false),
            (replaced(code, "7,"), "returned no `device_code`", false),
            (replaced(code, "{},"), "returned no `device_code`", false),
            (replaced(user_code, "null,"), "no `user_code`", false),
            (replaced(user_code, "\" \","), "no `user_code`", false),
            (replaced(user_code, "123456,"), "no `user_code`", false),
            (
                replaced(user_code, r#""\u001b[2J","#),
                "a `user_code` with an invisible character",
                false,
            ),
            (replaced(uri, "null,"), "no `verification_uri`", false),
            (replaced(uri, "[],"), "no `verification_uri`", false),
            (
                replaced(uri, r#""javascript:alert(1)","#),
                "a `verification_uri` that is no https or http URI",
                false,
            ),
            (
                replaced("\"interval\"", "\"device_code\":\"a\",\"device_code\""),
                "returned the member `device_code` twice",
                false,
            ),
            (
                replaced("\"interval\"", "\"error\":{\"x\":1},\"interval\""),
                "returned an error with a status of success",
                false,
            ),
        ] {
            let sent = body.clone();
            let error = result(move || answer(200, sent.clone())).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{body}");
            let message = error.to_string();
            let begin = "the device authorization endpoint ";
            assert!(message.starts_with(begin), "{message}");
            assert!(message.contains(why), "{why}: {message}");
            assert_eq!(error.is_transient(), is_transient, "{body}");
            for secret in ["GmRhmhcxhwAzkoEqiMEg", "WDJB"] {
                let shown = format!("{error:?} {error:#}");
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }

    #[tokio::test]
    async fn a_huge_answer_is_an_error() {
        let body = format!(r#"{{"device_code":"{}"}}"#, "x".repeat(2 << 20));
        let error = result(move || answer(200, body.clone())).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::BodyTooLarge);
        let message = error.to_string();
        let advice = "`DeviceAuthorizationEndpoint::max_response_body`";
        assert!(message.contains(advice), "{message}");
    }

    #[tokio::test]
    async fn an_error_of_the_server_is_typed_whatever_its_status() {
        for (status, body, code, why) in [
            (
                400,
                r#"{"error":"invalid_scope"}"#,
                ErrorCode::INVALID_SCOPE,
                "does not accept the scope",
            ),
            (
                400,
                r#"{"error":"unauthorized_client"}"#,
                ErrorCode::UNAUTHORIZED_CLIENT,
                "the client may not use the device flow",
            ),
            (
                401,
                r#"{"error":"invalid_client"}"#,
                ErrorCode::INVALID_CLIENT,
                "does not accept the client",
            ),
            // GitHub.
            (
                200,
                r#"{"error":"device_flow_disabled","error_description":"Device Flow must be enabled"}"#,
                "device_flow_disabled".into(),
                "Device Flow must be enabled",
            ),
        ] {
            let error = result(move || answer(status, body)).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
            assert_eq!(*error.error_response().unwrap().code(), code);
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.is_transient());
        }
    }

    #[tokio::test]
    async fn other_statuses_are_errors_that_say_what_to_check() {
        for (status, why, is_transient) in [
            (302, "responded with a redirect", false),
            (
                404,
                "there is no device authorization endpoint at this URI",
                false,
            ),
            (429, "refused the request", true),
            (500, "the device authorization endpoint failed", true),
        ] {
            let error = result(move || {
                let mut answer = answer(status, "<html>")?;
                let headers = answer.headers_mut();
                headers.insert("location", HeaderValue::from_static("/other"));
                headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
                Ok(answer)
            });
            let error = error.await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{status}");
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.is_transient(), is_transient, "{status}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        }
    }
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let body = r#"{"device_code":"SENTINEL-1","user_code":"SENTINEL-2","verification_uri":"https://as.example/d","verification_uri_complete":"https://as.example/d?c=SENTINEL-2","expires_in":600}"#;
    let response = result(move || answer(200, body)).await.unwrap();
    let request = request()
        .parameter("x", "SENTINEL-3")
        .client_authentication(ClientAuthentication::client_secret_post("c", "SENTINEL-4"));
    let endpoint = DeviceAuthorizationEndpoint::new(
        Recorder::good(),
        URI,
        ClientAuthentication::client_secret_basic("c", "SENTINEL-5"),
    );
    let token_request = response.token_request();
    let code = response.device_code();
    let shown = format!(
        "{response:?} {response:#?} {request:?} {request:#?} {endpoint:?} {token_request:?} {code:?}"
    );
    assert!(shown.contains("https://as.example/d"), "{shown}");
    assert!(!shown.contains("SENTINEL"), "{shown}");
}

/// A whole login at the authorization server of `test_util`.
mod login {
    use super::*;

    fn endpoint(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
        TokenEndpoint::discover(server.clone(), server.issuer(), confidential())
    }

    /// The user decides after this time.
    fn decide_after(
        seconds: u64,
        decide: impl FnOnce() -> bool + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            assert!(decide());
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_signs_in_and_stays_signed_in_by_the_refresh_token() {
        let server = AuthorizationServer::new();
        let endpoint = endpoint(&server);
        let request = request().scope("api");
        let device = endpoint.device_authorization().oneshot(request).await;
        let device = device.unwrap();
        let (user, code) = (server.clone(), device.user_code().to_owned());
        let user = decide_after(12, move || user.approve_device(&code));

        let (sender, mut stored) = tokio::sync::mpsc::unbounded_channel::<RefreshToken>();
        let cache = TokenCache::builder(endpoint)
            .on_refresh_token(move |_: TokenRequest, token| {
                let sender = sender.clone();
                async move { sender.send(token).unwrap() }
            })
            .build();
        let source = cache.source(device.token_request());
        source.wait_for_user().await.unwrap();
        user.await.unwrap();
        let first = source.token().await.unwrap();
        assert!(server.is_active(first.expose_secret()));
        let refresh_token = stored.try_recv().unwrap();
        assert!(server.is_active(refresh_token.expose_secret()));
        // After 5 and 10 seconds the user had not decided.
        let polls = server
            .requests()
            .into_iter()
            .filter(|r| r.path() == "/token");
        assert_eq!(polls.count(), 3);

        sleep(Duration::from_secs(100_000)).await;
        let second = source.token().await.unwrap();
        assert_ne!(first.expose_secret(), second.expose_secret());
        assert!(server.is_active(second.expose_secret()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_without_a_cache() {
        let server = AuthorizationServer::new();
        let endpoint = endpoint(&server);
        let device = endpoint.device_authorization().oneshot(request()).await;
        let device = device.unwrap();
        let (user, code) = (server.clone(), device.user_code().to_owned());
        decide_after(12, move || user.approve_device(&code));
        let response = device.wait_for_user(endpoint.clone()).await.unwrap();
        assert!(server.is_active(response.access_token().expose_secret()));
        let refresh_token = response.refresh_token().unwrap();
        let response = endpoint.oneshot(TokenRequest::refresh_token(refresh_token));
        response.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_says_no_or_nothing() {
        for (is_denied, expected) in [
            (true, ErrorCode::ACCESS_DENIED),
            (false, ErrorCode::EXPIRED_TOKEN),
        ] {
            let server = AuthorizationServer::new();
            let endpoint = endpoint(&server);
            let device = endpoint.device_authorization().oneshot(request()).await;
            let device = device.unwrap();
            if is_denied {
                let (user, code) = (server.clone(), device.user_code().to_owned());
                decide_after(12, move || user.deny_device(&code));
            }
            let cache = TokenCache::new(endpoint.clone());
            let source = cache.source(device.token_request());
            let alone = device.wait_for_user(endpoint).await.unwrap_err();
            let cached = source.wait_for_user().await.unwrap_err();
            for error in [alone, cached] {
                assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
                assert_eq!(*error.error_response().unwrap().code(), expected);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_test_server_approves_by_itself_after_some_polls() {
        for polls in [0, 1, 3] {
            let server = AuthorizationServer::builder()
                .client("client", "secret")
                .approve_after_polls(polls)
                .build();
            let endpoint = endpoint(&server);
            let device = endpoint.device_authorization().oneshot(request()).await;
            device.unwrap().wait_for_user(endpoint).await.unwrap();
            assert_eq!(server.token_requests(), polls + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_survives_an_outage() {
        let server = AuthorizationServer::new();
        let endpoint = endpoint(&server);
        let device = endpoint.device_authorization().oneshot(request()).await;
        let device = device.unwrap();
        server.fail_until_told(Failure::status(503));
        let (user, code) = (server.clone(), device.user_code().to_owned());
        decide_after(60, move || user.approve_device(&code));
        let back = server.clone();
        decide_after(100, move || {
            back.recover();
            true
        });
        device.wait_for_user(endpoint).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_without_device_logins_is_an_error_before_anything_is_sent() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .metadata_field("device_authorization_endpoint", serde_json::Value::Null)
            .build();
        let device = endpoint(&server).device_authorization();
        let error = device.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        let message = error.to_string();
        let why = "no `device_authorization_endpoint`";
        assert!(message.contains(why), "{message}");
        assert!(server.requests().iter().all(|r| r.method() == "GET"));
    }
}
