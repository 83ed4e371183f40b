//! Backchannel authentication (CIBA): the request, its answer, and a whole login. When the token endpoint is polled: see `polling.rs`.
#![cfg(feature = "test-util")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header::ACCEPT};
use tokio::time::sleep;
use tower::ServiceExt;
use tower_oauth2_client::{
    BackchannelAuthenticationEndpoint, BackchannelAuthenticationRequest,
    BackchannelAuthenticationResponse, ClientAuthentication, ErrorCode, IdToken, TokenCache,
    TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, test_util::AuthorizationServer,
};

use self::support::{Answer, Recorder, answer, basic, form, owned};

const URI: &str = "https://as.example/bc-authorize";

/// The example of CIBA §7.3.
const GOOD: &str = r#"{
    "auth_req_id": "1c266114-a1be-4252-8ad1-04986c5b9ac1",
    "expires_in": 120,
    "interval": 2
}"#;

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

fn request() -> BackchannelAuthenticationRequest {
    BackchannelAuthenticationRequest::login_hint("alice")
}

async fn send(request: BackchannelAuthenticationRequest) -> Request<Bytes> {
    let recorder = Recorder::new(|_| answer(200, GOOD));
    let endpoint = BackchannelAuthenticationEndpoint::new(recorder.clone(), URI, client());
    endpoint.oneshot(request).await.expect("a good request");
    recorder.take_one()
}

async fn result(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Result<BackchannelAuthenticationResponse, TokenError> {
    let recorder = Recorder::new(move |_| answer());
    BackchannelAuthenticationEndpoint::new(recorder, URI, client())
        .oneshot(request())
        .await
}

mod wire {
    use super::*;

    #[tokio::test]
    async fn each_way_to_name_the_user_is_sent() {
        type Request = BackchannelAuthenticationRequest;
        for (request, expected) in [
            (Request::login_hint("alice"), ("login_hint", "alice")),
            (
                Request::login_hint_token("a.b.c"),
                ("login_hint_token", "a.b.c"),
            ),
            (
                Request::id_token_hint(IdToken::new("d.e.f")),
                ("id_token_hint", "d.e.f"),
            ),
            (Request::signed("g.h.i"), ("request", "g.h.i")),
        ] {
            let sent = send(request).await;
            assert_eq!(form(sent.body()), owned(&[expected]));
            assert_eq!(sent.uri(), URI);
            assert_eq!(sent.headers()[ACCEPT], "application/json");
            assert_eq!(basic(sent.headers()), "client:secret");
        }
    }

    #[tokio::test]
    async fn parameters_headers_and_overrides_are_sent() {
        let request = request()
            .scope("openid")
            .scope("payments")
            .binding_message("W4SCT")
            .requested_expiry(Duration::from_millis(119_001))
            .user_code("1234")
            .acr_values("silver gold")
            .resource("https://a.example/")
            .parameter("tenant", "blue")
            .parameter("empty", "")
            .header("x-request-id", "42")
            .label("blue")
            .context(7_u8)
            .backchannel_authentication_endpoint("https://blue.example/ciba")
            .client_authentication(ClientAuthentication::client_secret_post("other", "s"));
        assert_eq!(request.get_label(), Some("blue"));
        let sent = send(request).await;
        assert_eq!(sent.extensions().get(), Some(&7_u8));
        assert_eq!(sent.uri(), "https://blue.example/ciba");
        assert_eq!(sent.headers()["x-request-id"], "42");
        let expected = [
            ("login_hint", "alice"),
            ("scope", "openid payments"),
            ("binding_message", "W4SCT"),
            ("requested_expiry", "120"),
            ("user_code", "1234"),
            ("acr_values", "silver gold"),
            ("resource", "https://a.example/"),
            ("tenant", "blue"),
            ("client_id", "other"),
            ("client_secret", "s"),
        ];
        assert_eq!(form(sent.body()), owned(&expected));
    }

    #[tokio::test]
    async fn the_requested_time_is_a_positive_number_of_seconds() {
        for (expiry, expected) in [
            (Duration::ZERO, "1"),
            (Duration::from_millis(1), "1"),
            (Duration::from_secs(60), "60"),
            (Duration::MAX, "18446744073709551615"),
        ] {
            let sent = send(request().requested_expiry(expiry)).await;
            assert_eq!(form(sent.body())[1].1, expected);
        }
    }

    #[tokio::test]
    async fn an_invalid_request_is_not_sent() {
        for (request, why) in [
            (
                BackchannelAuthenticationRequest::login_hint(""),
                "the parameter `login_hint` is empty",
            ),
            (
                BackchannelAuthenticationRequest::signed(""),
                "the parameter `request` is empty",
            ),
            (
                request().binding_message("a").binding_message("b"),
                "the parameter `binding_message` is set twice",
            ),
            (request().scope("a\"b"), "scope"),
            (
                request().backchannel_authentication_endpoint("http://as.example/"),
                "the URI of the backchannel authentication endpoint is plain http",
            ),
        ] {
            let recorder = Recorder::new(|_| answer(200, GOOD));
            let endpoint = BackchannelAuthenticationEndpoint::new(recorder.clone(), URI, client());
            let error = endpoint.oneshot(request).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Request);
            assert_eq!(recorder.calls(), 0);
            let message = error.to_string();
            let begin = "the backchannel authentication request was not sent: ";
            assert!(message.starts_with(begin), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn the_example_of_the_specification_is_read() {
        let response = result(|| answer(200, GOOD)).await.unwrap();
        assert_eq!(
            response.auth_req_id().expose_secret(),
            "1c266114-a1be-4252-8ad1-04986c5b9ac1"
        );
        assert_eq!(response.expires_in(), Some(Duration::from_secs(120)));
        assert_eq!(response.interval(), Duration::from_secs(2));
        assert_eq!(response.get("interval").unwrap(), 2);
        assert_eq!(response.json()["expires_in"], 120);
        assert_eq!(response.raw(), GOOD);
        assert_eq!(response.status(), 200);
        assert!(response.headers().is_empty());
        assert_eq!(
            response.token_request(),
            TokenRequest::ciba(response.auth_req_id())
        );
    }

    #[tokio::test]
    async fn unusable_answers_are_errors_that_say_why() {
        for (body, why, is_transient) in [
            ("", "returned an empty body", true),
            ("<html>", "returned a page instead of JSON", true),
            (&GOOD[..60], "returned JSON that ends too early", true),
            ("[]", "something other than a JSON object", false),
            ("{}", "returned no `auth_req_id`", false),
            (r#"{"auth_req_id":null}"#, "no `auth_req_id`", false),
            (r#"{"auth_req_id":""}"#, "no `auth_req_id`", false),
            (r#"{"auth_req_id":7}"#, "no `auth_req_id`", false),
            (
                r#"{"auth_req_id":"SENTINEL","auth_req_id":"SENTINEL"}"#,
                "returned the member `auth_req_id` twice",
                false,
            ),
            (
                r#"{"auth_req_id":"SENTINEL","error":true}"#,
                "returned an error with a status of success",
                false,
            ),
        ] {
            let error = result(move || answer(200, body)).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{body}");
            let message = format!("{error:#} {error:?}");
            let begin = "the backchannel authentication endpoint ";
            assert!(message.starts_with(begin), "{message}");
            assert!(message.contains(why), "{why}: {message}");
            assert!(!message.contains("SENTINEL"), "{message}");
            assert_eq!(error.is_transient(), is_transient, "{body}");
        }
    }

    /// CIBA §13.
    #[tokio::test]
    async fn every_error_of_the_specification_is_explained() {
        for (status, name, code, why) in [
            (
                400,
                "unknown_user_id",
                ErrorCode::UNKNOWN_USER_ID,
                "does not know the user",
            ),
            (
                400,
                "expired_login_hint_token",
                ErrorCode::EXPIRED_LOGIN_HINT_TOKEN,
                "has expired; obtain a new one",
            ),
            (
                400,
                "missing_user_code",
                ErrorCode::MISSING_USER_CODE,
                "requires the user code",
            ),
            (
                400,
                "invalid_user_code",
                ErrorCode::INVALID_USER_CODE,
                "user code of the user is wrong",
            ),
            (
                400,
                "invalid_binding_message",
                ErrorCode::INVALID_BINDING_MESSAGE,
                "shorten or simplify it",
            ),
            (
                400,
                "unauthorized_client",
                ErrorCode::UNAUTHORIZED_CLIENT,
                "change its registration",
            ),
            (
                400,
                "invalid_scope",
                ErrorCode::INVALID_SCOPE,
                "does not accept the scope",
            ),
            (
                403,
                "access_denied",
                ErrorCode::ACCESS_DENIED,
                "refused the request",
            ),
        ] {
            let body = format!(r#"{{"error":"{name}"}}"#);
            let error = result(move || answer(status, body.clone())).await;
            let error = error.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
            assert_eq!(*error.error_response().unwrap().code(), code);
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.is_transient(), "{name}");
        }
    }
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let body = r#"{"auth_req_id":"SENTINEL-1","expires_in":600}"#;
    let response = result(move || answer(200, body)).await.unwrap();
    let request = BackchannelAuthenticationRequest::login_hint("SENTINEL-2")
        .user_code("SENTINEL-3")
        .binding_message("SENTINEL-4");
    let token_request = response.token_request();
    let id = response.auth_req_id();
    let shown =
        format!("{response:?} {response:#?} {request:?} {request:#?} {token_request:?} {id:?}");
    assert!(shown.contains("binding_message"), "{shown}");
    assert!(!shown.contains("SENTINEL"), "{shown}");
}

/// A whole login at the authorization server of `test_util`.
mod login {
    use super::*;

    fn endpoint(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
        TokenEndpoint::discover(server.clone(), server.issuer(), client())
    }

    async fn ask(server: &AuthorizationServer) -> BackchannelAuthenticationResponse {
        let ask = endpoint(server).backchannel_authentication();
        ask.oneshot(request().scope("openid")).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_approves_and_the_source_lives_on_by_the_refresh_token() {
        let server = AuthorizationServer::new();
        let asked = ask(&server).await;
        let (user, id) = (server.clone(), asked.auth_req_id().clone());
        tokio::spawn(async move {
            sleep(Duration::from_secs(12)).await;
            assert!(user.approve_auth_request(id.expose_secret()));
        });
        let source = TokenCache::new(endpoint(&server)).source(asked.token_request());
        source.wait_for_user().await.unwrap();
        let first = source.token().await.unwrap();
        sleep(Duration::from_secs(100_000)).await;
        let second = source.token().await.unwrap();
        assert_ne!(first.expose_secret(), second.expose_secret());
        assert!(server.is_active(second.expose_secret()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_says_no_or_nothing() {
        for (is_denied, expected) in [
            (true, ErrorCode::ACCESS_DENIED),
            (false, ErrorCode::EXPIRED_TOKEN),
        ] {
            let server = AuthorizationServer::new();
            let asked = ask(&server).await;
            if is_denied {
                let id = asked.auth_req_id().expose_secret();
                assert!(server.deny_auth_request(id));
            }
            let error = asked.wait_for_user(endpoint(&server)).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
            assert_eq!(*error.error_response().unwrap().code(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_requested_time_is_what_the_server_grants() {
        let server = AuthorizationServer::new();
        let ask = endpoint(&server).backchannel_authentication();
        let request = request().requested_expiry(Duration::from_secs(30));
        let asked = ask.oneshot(request).await.unwrap();
        assert_eq!(asked.expires_in(), Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn two_hints_and_public_clients_are_refused_by_the_server() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .public_client("public")
            .build();
        let ask = || endpoint(&server).backchannel_authentication();
        let two = request().parameter("id_token_hint", "a.b.c");
        let public = request().client_authentication(ClientAuthentication::none("public"));
        for (request, expected) in [
            (two, ErrorCode::INVALID_REQUEST),
            (public, ErrorCode::INVALID_CLIENT),
        ] {
            let error = ask().oneshot(request).await.unwrap_err();
            assert_eq!(*error.error_response().unwrap().code(), expected);
        }
    }
}
