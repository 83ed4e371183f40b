//! `RevocationEndpoint`: the requests that it sends, and the responses that it reads.

mod dpop_support;
mod support;

use std::{
    convert::Infallible,
    error::Error,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full, channel::Channel};
use serde_json::{Value, json};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Service, ServiceExt, limit::ConcurrencyLimit, service_fn};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, Credential, DpopKey, ErrorCode, NoAccessToken,
    RefreshToken, RevocationEndpoint, RevocationRequest, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest, TokenType,
    jwt::{SigningAlgorithm, SigningKey},
    test_util::{AuthorizationServer, Failure, ManualClock},
};

use self::{
    dpop_support::Judge,
    support::{Answer, GOOD, Log, Recorder, answer, basic, form, owned},
};

const URI: &str = "https://as.example/revoke";
const ISSUER: &str = "https://as.example";
const METADATA: &str = "/.well-known/oauth-authorization-server";

fn public() -> ClientAuthentication {
    ClientAuthentication::none("c")
}

fn confidential() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("c", "s")
}

fn endpoint(recorder: &Recorder, client: ClientAuthentication) -> RevocationEndpoint<Recorder> {
    RevocationEndpoint::new(recorder.clone(), URI, client)
}

fn request() -> RevocationRequest {
    RevocationRequest::new("t")
}

async fn send(client: ClientAuthentication, request: RevocationRequest) -> Request<Bytes> {
    let recorder = Recorder::new(|_| answer(200, ""));
    let endpoint = endpoint(&recorder, client);
    endpoint.oneshot(request).await.expect("a good request");
    recorder.take_one()
}

/// What the endpoint returns for this answer.
async fn result(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Result<(), TokenError> {
    let recorder = Recorder::new(move |_| answer());
    endpoint(&recorder, confidential()).oneshot(request()).await
}

/// Checks that nothing is sent, and returns the message.
async fn refused(client: ClientAuthentication, request: RevocationRequest) -> String {
    let recorder = Recorder::new(|_| answer(200, ""));
    let endpoint = endpoint(&recorder, client);
    let error = endpoint.oneshot(request).await.unwrap_err();
    recorder.check_unsent(&error)
}

mod wire {
    use super::*;

    #[tokio::test]
    async fn a_confidential_client_sends_the_example_of_rfc_7009() {
        let client = ClientAuthentication::client_secret_basic("s6BhdRkqt3", "gX1fBat3bV");
        let request =
            RevocationRequest::new("45ghiukldjahdnhzdauz").token_type_hint("refresh_token");
        let sent = send(client, request).await;
        assert_eq!(sent.method(), Method::POST);
        assert_eq!(sent.uri(), URI);
        assert_eq!(
            *sent.body(),
            "token=45ghiukldjahdnhzdauz&token_type_hint=refresh_token"
        );
        let headers = sent.headers();
        assert_eq!(headers[AUTHORIZATION], "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW");
        assert!(headers[AUTHORIZATION].is_sensitive());
        assert_eq!(headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert_eq!(headers[ACCEPT], "application/json");
        assert_eq!(headers["accept-encoding"], "identity");
        assert!(headers.contains_key("user-agent"));
        assert_eq!(headers.len(), 5);
        assert_eq!(sent.extensions().get(), Some(&NoAccessToken));
    }

    #[tokio::test]
    async fn a_public_client_sends_its_id_in_the_body() {
        let sent = send(public(), request()).await;
        assert_eq!(*sent.body(), "token=t&client_id=c");
        assert!(!sent.headers().contains_key(AUTHORIZATION));
    }

    #[tokio::test]
    async fn every_client_authentication_is_sent_as_to_the_token_endpoint() {
        const JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        const SAML2: &str = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
        type Client = ClientAuthentication;
        for (client, basic, expected) in [
            (Client::anonymous(), false, &[] as &[_]),
            (Client::none("c"), false, &[("client_id", "c")]),
            (Client::client_secret_basic("c", "s"), true, &[]),
            (Client::client_secret_basic_raw("c", "s"), true, &[]),
            (
                Client::client_secret_post("c", "s"),
                false,
                &[("client_id", "c"), ("client_secret", "s")],
            ),
            (Client::tls_client_auth("c"), false, &[("client_id", "c")]),
            (
                Client::client_assertion("c", "a.b.c"),
                false,
                &[
                    ("client_id", "c"),
                    ("client_assertion_type", JWT),
                    ("client_assertion", "a.b.c"),
                ],
            ),
            (
                Client::saml2_client_assertion("c", "PHM-"),
                false,
                &[
                    ("client_id", "c"),
                    ("client_assertion_type", SAML2),
                    ("client_assertion", "PHM-"),
                ],
            ),
        ] {
            let case = format!("{client:?}");
            let sent = send(client, request()).await;
            let pairs = [&[("token", "t")], expected].concat();
            assert_eq!(form(sent.body()), owned(&pairs), "{case}");
            let authorization = sent.headers().get(AUTHORIZATION);
            let authorization = authorization.map(HeaderValue::as_bytes);
            assert_eq!(authorization, basic.then_some(&b"Basic Yzpz"[..]), "{case}");
        }
    }

    #[tokio::test]
    async fn a_signed_assertion_is_fresh_for_each_request_and_names_its_audience() {
        let key = SigningKey::generate(SigningAlgorithm::EdDSA).unwrap();
        let secret = "0".repeat(32);
        for client in [
            ClientAuthentication::private_key_jwt("c", key),
            ClientAuthentication::client_secret_jwt("c", secret, SigningAlgorithm::HS256),
        ] {
            let mut ids = Vec::new();
            for _ in 0..2 {
                let sent = send(client.clone(), request()).await;
                let claims = claims(&sent);
                assert_eq!(claims["aud"], URI);
                ids.push(claims["jti"].clone());
            }
            assert_ne!(ids[0], ids[1]);
        }
    }

    #[tokio::test]
    async fn tokens_are_sent_as_their_text() {
        let access_token = AccessToken::new("at", TokenType::BEARER).unwrap();
        let refresh_token = RefreshToken::new("rt");
        let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("p") });
        for (request, expected) in [
            (RevocationRequest::new(&access_token), "at"),
            (RevocationRequest::new(access_token), "at"),
            (RevocationRequest::new(&refresh_token), "rt"),
            (RevocationRequest::new(refresh_token), "rt"),
            (RevocationRequest::new(provided), "p"),
            (RevocationRequest::new(" +&=%é"), " +&=%é"),
        ] {
            let sent = send(confidential(), request).await;
            assert_eq!(form(sent.body()), owned(&[("token", expected)]));
        }
    }

    #[tokio::test]
    async fn parameters_headers_and_context_are_added() {
        let request = request()
            .parameter("tenant", "blue")
            .header("x-request-id", "1")
            .header("cookie", "secret");
        let request = request.context(7_u8);
        assert_eq!(request.get_context(), Some(&7_u8));
        let sent = send(confidential(), request).await;
        assert_eq!(*sent.body(), "token=t&tenant=blue");
        assert_eq!(sent.headers()["x-request-id"], "1");
        assert!(sent.headers()["cookie"].is_sensitive());
        assert_eq!(sent.extensions().get(), Some(&7_u8));
    }

    #[tokio::test]
    async fn a_request_can_name_another_endpoint_and_another_client() {
        let recorder = Recorder::new(|_| answer(200, ""));
        let endpoint = endpoint(&recorder, public());
        let request = request()
            .revocation_endpoint("https://blue.example/revoke?p=1")
            .client_authentication(ClientAuthentication::client_secret_basic("blue", "b"));
        endpoint.oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        assert_eq!(sent.uri(), "https://blue.example/revoke?p=1");
        assert_eq!(basic(sent.headers()), "blue:b");
        assert_eq!(*sent.body(), "token=t");
    }

    #[tokio::test]
    async fn an_invalid_request_is_not_sent() {
        for (client, request, why) in [
            (
                public(),
                RevocationRequest::new(""),
                "the parameter `token` is empty",
            ),
            (
                public(),
                request().token_type_hint(""),
                "the parameter `token_type_hint` is empty",
            ),
            (
                public(),
                request()
                    .token_type_hint("access_token")
                    .token_type_hint("refresh_token"),
                "the parameter `token_type_hint` is set twice",
            ),
            (
                public(),
                request().parameter("token", "u"),
                "the parameter `token` is set twice",
            ),
            (
                public(),
                request().parameter("client_id", "d"),
                "the client authentication sets it too",
            ),
            (
                confidential(),
                request().header("authorization", "Bearer x"),
                "a second client authentication",
            ),
            (
                confidential(),
                request().header("content-type", "text/plain"),
                "`content-type` is set by this crate",
            ),
            (
                confidential(),
                request().header("x", "\n"),
                "the header `x` is invalid",
            ),
            (
                ClientAuthentication::client_secret_post("c", ""),
                request(),
                "`client_secret` is empty",
            ),
        ] {
            let message = refused(client, request).await;
            let start = "the revocation request was not sent: ";
            assert!(message.starts_with(start), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }

    #[tokio::test]
    async fn a_repeated_value_is_sent_once_and_an_empty_one_is_not() {
        let request = request()
            .token_type_hint("access_token")
            .parameter("token_type_hint", "access_token")
            .parameter("token", "t")
            .parameter("tenant", "")
            .parameter("client_id", "c");
        assert_eq!(
            request,
            super::request()
                .token_type_hint("access_token")
                .parameter("client_id", "c")
        );
        let sent = send(public(), request).await;
        assert_eq!(
            *sent.body(),
            "token=t&token_type_hint=access_token&client_id=c"
        );
    }

    #[tokio::test]
    async fn a_provided_token_that_is_empty_is_not_sent() {
        let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("") });
        let message = refused(public(), RevocationRequest::new(provided)).await;
        assert!(message.contains("`token` is empty"), "{message}");
    }

    #[tokio::test]
    async fn an_endpoint_that_would_show_the_token_to_the_network_is_refused() {
        for (uri, why) in [
            ("http://as.example/revoke", "is plain http"),
            ("https://u:p@as.example/revoke", "contains a user name"),
            ("/revoke", "is not absolute"),
            ("as.example/revoke", "is not valid"),
            ("https://as.example/ revoke", "contains white space"),
            ("", "is empty"),
        ] {
            let request = request().revocation_endpoint(uri);
            let message = refused(public(), request).await;
            let said = format!("the URI of the revocation endpoint {why}");
            assert!(message.contains(&said), "{message}");
            let recorder = Recorder::new(|_| answer(200, ""));
            let endpoint = RevocationEndpoint::new(recorder.clone(), uri, public());
            let message = endpoint
                .oneshot(super::request())
                .await
                .unwrap_err()
                .to_string();
            assert!(message.contains(&said), "{message}");
            assert_eq!(recorder.calls(), 0);
        }
        let recorder = Recorder::new(|_| answer(200, ""));
        let endpoint =
            RevocationEndpoint::new(recorder.clone(), "http://as.example/revoke", public());
        let endpoint = endpoint.danger_allow_http();
        endpoint.oneshot(request()).await.unwrap();
        assert_eq!(recorder.calls(), 1);
    }

    #[test]
    fn requests_are_equal_by_content() {
        assert_eq!(request(), RevocationRequest::new("t"));
        assert_ne!(request(), RevocationRequest::new("u"));
        assert_ne!(request(), request().token_type_hint("access_token"));
        assert_ne!(request(), request().client_authentication(public()));
    }
}

fn claims(sent: &Request<Bytes>) -> Value {
    let pairs = form(sent.body());
    let assertion = pairs.iter().find(|(name, _)| name == "client_assertion");
    let claims = assertion.unwrap().1.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn any_2xx_is_success_whatever_its_body() {
        for status in [200, 201, 202, 204, 299] {
            for body in [
                "",
                "{}",
                "ok",
                "<html>signed out</html>",
                r#"{"result":"ok"}"#,
                r#"{"error":"ignored"}"#,
                "\u{0}",
            ] {
                result(move || answer(status, body)).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_success_with_a_body_above_the_limit_is_a_success() {
        let recorder = Recorder::new(|_| answer(200, vec![b'x'; 100]));
        let endpoint = endpoint(&recorder, public()).max_response_body(10);
        endpoint.oneshot(request()).await.unwrap();

        let recorder = Recorder::new(|_| answer(400, vec![b'x'; 100]));
        let endpoint = super::endpoint(&recorder, public()).max_response_body(10);
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
        assert!(
            error.to_string().contains("is larger than 10 bytes"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_success_whose_body_breaks_off_is_a_success() {
        for (status, expected) in [(200, None), (400, Some(TokenErrorKind::UnexpectedStatus))] {
            let http = service_fn(move |_: Request<Full<Bytes>>| async move {
                let (sender, body) = Channel::<Bytes, io::Error>::new(1);
                sender.abort(io::ErrorKind::ConnectionReset.into());
                let response = Response::builder().status(status).body(body.boxed());
                Ok::<_, BoxError>(response.unwrap())
            });
            let endpoint = RevocationEndpoint::new(http, URI, public());
            let result = endpoint.oneshot(request()).await;
            assert_eq!(result.err().map(|error| error.kind()), expected);
        }
    }

    #[tokio::test]
    async fn a_success_does_not_wait_for_the_end_of_its_body() {
        let senders = Arc::new(Mutex::new(Vec::new()));
        let kept = senders.clone();
        let http = service_fn(move |_: Request<Full<Bytes>>| {
            let (sender, body) = Channel::<Bytes, io::Error>::new(1);
            kept.lock().unwrap().push(sender);
            async { Ok::<_, BoxError>(Response::new(body)) }
        });
        let endpoint = RevocationEndpoint::new(http, URI, public());
        let mut call = task::spawn(endpoint.oneshot(request()));
        assert_ready_ok!(call.poll());
    }

    #[tokio::test]
    async fn an_oauth_error_is_typed() {
        for (status, body, code, why) in [
            (
                400,
                r#"{"error":"unsupported_token_type"}"#,
                ErrorCode::UNSUPPORTED_TOKEN_TYPE,
                "the server does not revoke tokens of this type",
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"no token"}"#,
                ErrorCode::INVALID_REQUEST,
                "the revocation endpoint refused the request: invalid_request (no token)",
            ),
            (
                401,
                r#"{"error":"invalid_client"}"#,
                ErrorCode::INVALID_CLIENT,
                "the revocation endpoint does not accept the client",
            ),
            (
                503,
                r#"{"error":"temporarily_unavailable"}"#,
                ErrorCode::TEMPORARILY_UNAVAILABLE,
                "the revocation endpoint has a problem of its own",
            ),
        ] {
            let error = result(move || answer(status, body)).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
            assert_eq!(*error.error_response().unwrap().code(), code);
            assert_eq!(error.is_transient(), status == 503);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.raw().unwrap(), body);
        }
        assert_eq!(
            ErrorCode::from("unsupported_token_type"),
            ErrorCode::UNSUPPORTED_TOKEN_TYPE
        );
    }

    #[tokio::test]
    async fn other_statuses_are_errors_that_say_what_to_check() {
        for (status, why, is_transient) in [
            (302, "responded with a redirect", false),
            (400, "refused the request without giving a reason", false),
            (401, "check the id of the client", false),
            (404, "there is no revocation endpoint at this URI", false),
            (405, "there is no revocation endpoint at this URI", false),
            (429, "refused the request", true),
            (500, "the revocation endpoint failed", true),
            (501, "the revocation endpoint failed", false),
            (502, "the revocation endpoint failed", true),
        ] {
            let error = result(move || {
                let mut answer = answer(status, "<html>")?;
                let location = HeaderValue::from_static("https://evil.example/");
                answer.headers_mut().insert("location", location);
                Ok(answer)
            });
            let error = error.await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{status}");
            assert_eq!(error.status().unwrap(), status);
            assert_eq!(error.is_transient(), is_transient, "{status}");
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains("token endpoint"), "{error}");
        }
    }

    /// RFC 7009 §2.2.1: the token still exists, and the client may try again later.
    #[tokio::test]
    async fn a_503_with_retry_after_is_transient_and_nothing_was_processed() {
        let error = result(|| {
            let mut answer = answer(503, "")?;
            let seconds = HeaderValue::from_static("7");
            answer.headers_mut().insert(RETRY_AFTER, seconds);
            Ok(answer)
        });
        let error = error.await.unwrap_err();
        assert!(error.is_transient() && !error.may_have_been_processed());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_the_network_are_transient() {
        let error = result(|| Err("reset".into())).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Service);
        assert!(error.is_transient() && error.may_have_been_processed());
        assert_eq!(
            error.to_string(),
            "the request to the revocation endpoint failed [host as.example, client c]"
        );

        let http = tower::timeout::Timeout::new(
            service_fn(|_: Request<Full<Bytes>>| std::future::pending::<Answer>()),
            Duration::from_secs(1),
        );
        let endpoint = RevocationEndpoint::new(http, URI, public());
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Timeout);
        assert_eq!(
            error.to_string(),
            "the revocation endpoint did not respond in time [host as.example, client c]"
        );
    }
}

mod stack {
    use super::*;

    #[tokio::test]
    async fn the_ready_service_is_called_at_once() {
        let recorder = Recorder::new(|_| answer(200, ""));
        let mut endpoint = endpoint(&recorder, confidential());
        assert_ready_ok!(task::spawn(std::future::poll_fn(|cx| endpoint.poll_ready(cx))).poll());
        let revoking = endpoint.call(request());
        assert_eq!(recorder.calls(), 1, "before the future is polled");
        revoking.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_is_not_sent_gives_its_reservation_back() {
        let recorder = Recorder::new(|_| answer(200, ""));
        let limited = ConcurrencyLimit::new(recorder, 1);
        let provided = Credential::from_fn(std::future::pending::<Result<String, Infallible>>);
        for request in [RevocationRequest::new(""), RevocationRequest::new(provided)] {
            let mut endpoint = RevocationEndpoint::new(limited.clone(), URI, public());
            let mut other = endpoint.clone();
            std::future::poll_fn(|cx| endpoint.poll_ready(cx))
                .await
                .unwrap();
            assert_pending!(task::spawn(std::future::poll_fn(|cx| other.poll_ready(cx))).poll());
            let _pending = endpoint.call(request);
            assert_ready_ok!(task::spawn(std::future::poll_fn(|cx| other.poll_ready(cx))).poll());
        }
    }

    #[tokio::test]
    async fn another_body_type_is_made_by_a_function() {
        let http = service_fn(|request: Request<String>| async move {
            assert_eq!(request.body(), "token=t&client_id=c");
            Ok::<_, BoxError>(Response::new(String::new()))
        });
        let endpoint = RevocationEndpoint::new(http, URI, public())
            .request_body(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        endpoint.oneshot(request()).await.unwrap();
    }

    #[tokio::test]
    async fn the_settings_can_be_read_and_the_http_service_can_be_had_back() {
        let recorder = Recorder::new(|_| answer(200, ""));
        let mut endpoint = endpoint(&recorder, public());
        assert_eq!(endpoint.uri().unwrap(), URI);
        assert_eq!(endpoint.client(), &public());
        assert_eq!(endpoint.issuer(), None);
        assert_eq!(endpoint.get_mut().calls() + endpoint.get_ref().calls(), 0);
        endpoint.clone().oneshot(request()).await.unwrap();
        assert_eq!(endpoint.into_inner().calls(), 1);
    }
}

/// Answers the first request with this document, and the others with a token.
fn issuer(document: Value) -> Recorder {
    let document = document.to_string();
    Recorder::new(move |number| match number {
        0 => answer(200, document.clone()),
        _ => answer(200, GOOD),
    })
}

fn document() -> Value {
    json!({
        "issuer": ISSUER,
        "token_endpoint": format!("{ISSUER}/token"),
        "revocation_endpoint": format!("{ISSUER}/revoke"),
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut document = document();
    document[name] = value;
    document
}

fn paths(recorder: &Recorder) -> Vec<String> {
    let sent = recorder.take();
    sent.iter().map(|r| r.uri().path().to_owned()).collect()
}

mod discovery {
    use super::*;

    #[tokio::test]
    async fn the_endpoint_is_found_in_the_metadata_of_the_issuer() {
        let http = issuer(document());
        let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, public()).revocation();
        assert_eq!((endpoint.issuer(), endpoint.uri()), (Some(ISSUER), None));
        assert_eq!(http.calls(), 0, "nothing is sent before the first request");
        for _ in 0..2 {
            endpoint.clone().oneshot(request()).await.unwrap();
        }
        assert_eq!(paths(&http), [METADATA, "/revoke", "/revoke"]);
    }

    #[tokio::test]
    async fn a_discovered_token_endpoint_shares_its_metadata() {
        let http = issuer(document());
        let tokens = TokenEndpoint::discover(http.clone(), ISSUER, confidential());
        let revocation = tokens.revocation();
        assert_eq!(revocation.issuer(), Some(ISSUER));
        assert_eq!(revocation.client(), tokens.client());

        let response = tokens
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap();
        let token = response.access_token();
        revocation
            .oneshot(RevocationRequest::new(token))
            .await
            .unwrap();
        let sent = http.take();
        let paths: Vec<_> = sent.iter().map(|r| r.uri().path()).collect();
        assert_eq!(paths, [METADATA, "/token", "/revoke"]);
        assert_eq!(basic(sent[2].headers()), "c:s");
        assert_eq!(*sent[2].body(), "token=T");
    }

    #[tokio::test]
    async fn the_revocation_endpoint_of_a_token_endpoint_keeps_its_permission_for_plain_http() {
        const ISSUER: &str = "http://as.example";
        let document = json!({
            "issuer": ISSUER,
            "token_endpoint": format!("{ISSUER}/token"),
            "revocation_endpoint": format!("{ISSUER}/revoke"),
        });
        let http = issuer(document);
        let tokens = TokenEndpoint::discover(http.clone(), ISSUER, public());
        let strict = tokens.revocation().oneshot(request()).await.unwrap_err();
        assert!(strict.to_string().contains("plain http"), "{strict}");
        let allowed = tokens.danger_allow_http().revocation();
        allowed.oneshot(request()).await.unwrap();
        assert_eq!(paths(&http), [METADATA, "/revoke"]);
    }

    #[tokio::test]
    async fn lifetime_and_clock_of_the_metadata_can_be_set() {
        let clock = ManualClock::new();
        let http = issuer(document());
        let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, public())
            .metadata_lifetime(Duration::from_secs(60))
            .metadata_clock(clock.clock())
            .revocation();
        for (seconds, metadata_requests) in [(0, 1), (59, 0), (1, 1)] {
            clock.advance(Duration::from_secs(seconds));
            endpoint.clone().oneshot(request()).await.unwrap();
            // The renewal runs in the background.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let paths = paths(&http);
            let of_metadata = paths.iter().filter(|path| *path == METADATA).count();
            assert_eq!(of_metadata, metadata_requests, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_token_endpoint_without_an_issuer_has_no_revocation_endpoint() {
        let recorder = Recorder::new(|_| answer(200, ""));
        let revocation = recorder.endpoint(public()).revocation();
        assert_eq!((revocation.issuer(), revocation.uri()), (None, None));
        let error = revocation.clone().oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        let message = error.to_string();
        assert!(message.contains("`TokenEndpoint::discover`"), "{message}");
        assert!(message.contains("`RevocationEndpoint::new`"), "{message}");
        assert_eq!(recorder.calls(), 0);

        let request = request().revocation_endpoint(URI);
        revocation.oneshot(request).await.unwrap();
        assert_eq!(*recorder.take_one().uri(), URI);
    }

    #[tokio::test]
    async fn metadata_without_the_endpoint_are_an_error_that_says_what_to_do() {
        for absent in [json!(null), json!(1)] {
            let http = issuer(with("revocation_endpoint", absent));
            let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, public()).revocation();
            let error = endpoint.oneshot(request()).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Request);
            assert!(!error.may_have_been_processed());
            let message = error.to_string();
            let start = "the revocation request was not sent: the metadata contains no `revocation_endpoint`";
            assert!(message.starts_with(start), "{message}");
            assert!(message.contains("`RevocationEndpoint::new`"), "{message}");
            assert_eq!(http.calls(), 1);
        }
    }

    #[tokio::test]
    async fn an_endpoint_in_the_metadata_must_be_secure() {
        for (uri, why) in [
            (
                "http://as.example/revoke",
                "the `revocation_endpoint` is plain http",
            ),
            (
                "http://localhost/revoke",
                "the `revocation_endpoint` is plain http on this machine",
            ),
            ("/revoke", "the `revocation_endpoint` is not absolute"),
            ("not a uri", "the `revocation_endpoint` is not a URI"),
        ] {
            let http = issuer(with("revocation_endpoint", json!(uri)));
            let tokens = TokenEndpoint::discover(http.clone(), ISSUER, public());
            let error = tokens.revocation().oneshot(request()).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Request);
            assert!(error.to_string().contains(why), "{error}");
            let request = TokenRequest::client_credentials();
            tokens
                .oneshot(request)
                .await
                .expect("tokens are not affected");
        }
    }

    #[tokio::test]
    async fn a_tls_client_uses_the_alias_if_there_is_one() {
        let aliases = json!({ "revocation_endpoint": "https://mtls.example/revoke" });
        for (document, client, expected) in [
            (
                with("mtls_endpoint_aliases", aliases.clone()),
                ClientAuthentication::tls_client_auth("c"),
                "https://mtls.example/revoke",
            ),
            (
                with("mtls_endpoint_aliases", aliases),
                confidential(),
                "https://as.example/revoke",
            ),
            (
                with("mtls_endpoint_aliases", json!({})),
                ClientAuthentication::tls_client_auth("c"),
                "https://as.example/revoke",
            ),
        ] {
            let http = issuer(document);
            let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, client).revocation();
            endpoint.oneshot(request()).await.unwrap();
            assert_eq!(*http.take()[1].uri(), expected);
        }
    }

    /// The list of the token endpoint is not that of the revocation endpoint.
    #[tokio::test]
    async fn the_method_is_checked_by_the_list_of_the_revocation_endpoint() {
        const TOKEN: &str = "token_endpoint_auth_methods_supported";
        const REVOCATION: &str = "revocation_endpoint_auth_methods_supported";
        for (document, may_pass) in [
            (document(), true),
            (with(TOKEN, json!(["client_secret_post"])), true),
            (with(REVOCATION, json!(["client_secret_basic"])), true),
            (with(REVOCATION, json!(["client_secret_post"])), false),
        ] {
            let http = issuer(document);
            let endpoint = TokenEndpoint::discover(http, ISSUER, confidential()).revocation();
            match endpoint.oneshot(request()).await {
                Ok(()) => assert!(may_pass),
                Err(error) => {
                    assert!(!may_pass, "{error}");
                    let why = "does not support the client authentication method";
                    assert!(error.to_string().contains(why), "{error}");
                }
            }
        }
    }

    /// Those of the token endpoint are not those of the revocation endpoint.
    #[tokio::test]
    async fn the_algorithm_is_checked_by_the_list_of_the_revocation_endpoint() {
        const TOKEN: &str = "token_endpoint_auth_signing_alg_values_supported";
        const REVOCATION: &str = "revocation_endpoint_auth_signing_alg_values_supported";
        for (document, may_pass) in [
            (document(), true),
            (with(TOKEN, json!(["ES256"])), true),
            (with(REVOCATION, json!(["EdDSA"])), true),
            (with(REVOCATION, json!(["ES256"])), false),
        ] {
            let key = SigningKey::generate(SigningAlgorithm::EdDSA).unwrap();
            let client = ClientAuthentication::private_key_jwt("c", key);
            let endpoint = TokenEndpoint::discover(issuer(document), ISSUER, client).revocation();
            match endpoint.oneshot(request()).await {
                Ok(()) => assert!(may_pass),
                Err(error) => {
                    assert!(!may_pass, "{error}");
                    let why = "does not support the algorithm of the client assertion";
                    assert!(error.to_string().contains(why), "{error}");
                }
            }
        }
    }

    #[tokio::test]
    async fn the_audience_of_an_assertion_is_the_issuer() {
        let key = SigningKey::generate(SigningAlgorithm::EdDSA).unwrap();
        let client = ClientAuthentication::private_key_jwt("c", key);
        let http = issuer(document());
        let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, client).revocation();
        endpoint.oneshot(request()).await.unwrap();
        assert_eq!(claims(&http.take()[1])["aud"], ISSUER);
    }
}

mod dpop {
    use super::*;

    fn demand(number: usize) -> Answer {
        let (status, body) = match number {
            0 => (400, r#"{"error":"use_dpop_nonce"}"#),
            _ => (200, ""),
        };
        let mut answer = answer(status, body)?;
        let nonce = HeaderValue::try_from(format!("n{number}"))?;
        answer.headers_mut().insert("dpop-nonce", nonce);
        Ok(answer)
    }

    #[tokio::test]
    async fn a_demand_for_a_nonce_is_met_once_with_everything_fresh() {
        let asked = Arc::new(AtomicUsize::new(0));
        let assertion = Credential::from_fn(move || {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Infallible>(format!("assertion-{number}")) }
        });
        let client = ClientAuthentication::client_assertion("c", assertion);
        let (judge, key) = (Judge::new(), DpopKey::generate().unwrap());
        let recorder = Recorder::new(demand);
        let endpoint = endpoint(&recorder, client).dpop(key.clone());
        for _ in 0..2 {
            endpoint.clone().oneshot(request()).await.unwrap();
        }
        let sent = recorder.take();
        let nonces: Vec<_> = sent
            .iter()
            .map(|sent| judge.token_request(sent.headers(), URI, &key))
            .collect();
        let nonces: Vec<_> = nonces.iter().map(Option::as_deref).collect();
        assert_eq!(nonces, [None, Some("n0"), Some("n1")]);
        for (number, sent) in sent.iter().enumerate() {
            let expected = ("client_assertion".to_owned(), format!("assertion-{number}"));
            assert!(form(sent.body()).contains(&expected));
        }
    }

    #[tokio::test]
    async fn the_key_of_a_token_endpoint_is_that_of_its_revocation_endpoint() {
        let (judge, key) = (Judge::new(), DpopKey::generate().unwrap());
        let http = issuer(document());
        let tokens = TokenEndpoint::discover(http.clone(), ISSUER, public()).dpop(key.clone());
        tokens.revocation().oneshot(request()).await.unwrap();
        judge.token_request(http.take()[1].headers(), URI, &key);
    }
}

mod server {
    use super::*;

    #[tokio::test]
    async fn a_revoked_token_is_no_longer_active() {
        let server = AuthorizationServer::builder()
            .client("client", "secret")
            .public_client("cli")
            .build();
        for client in [
            ClientAuthentication::client_secret_basic("client", "secret"),
            ClientAuthentication::client_secret_post("client", "secret"),
            ClientAuthentication::none("cli"),
        ] {
            let access_token = server.issue_access_token(client.client_id(), "");
            let refresh_token = server.issue_refresh_token(client.client_id(), "");
            let uri = server.uri("/revoke");
            let endpoint = RevocationEndpoint::new(server.clone(), uri, client);
            for token in [access_token, refresh_token] {
                assert!(server.is_active(&token));
                let request = RevocationRequest::new(token.clone());
                endpoint.clone().oneshot(request.clone()).await.unwrap();
                assert!(!server.is_active(&token));
                endpoint.clone().oneshot(request).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_token_stays_valid_while_the_server_is_unavailable() {
        let server = AuthorizationServer::new();
        let token = server.issue_access_token("client", "");
        let wait = Duration::from_secs(3);
        server.fail_next(Failure::status(503).retry_after(wait).at("/revoke"));
        let endpoint = RevocationEndpoint::new(
            server.clone(),
            server.uri("/revoke"),
            ClientAuthentication::client_secret_basic("client", "secret"),
        );
        let request = RevocationRequest::new(token.clone());
        let error = endpoint.clone().oneshot(request.clone()).await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(error.retry_after(), Some(wait));
        assert!(server.is_active(&token));
        endpoint.oneshot(request).await.unwrap();
        assert!(!server.is_active(&token));
    }
}

const SENTINEL: &str = "SENTINEL";

#[tokio::test]
async fn no_secret_is_printed_or_logged() {
    let (log, _guard) = Log::record();

    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>(SENTINEL) });
    let failing = Credential::from_fn(|| async { Err::<String, _>("vault is closed") });
    let secret = ClientAuthentication::client_secret_post("c", SENTINEL);
    for token in [SENTINEL.into(), provided, failing] {
        for (status, body) in [
            (200, format!("<html>{SENTINEL}")),
            (400, format!("<html>{SENTINEL}")),
            (
                400,
                format!(r#"{{"error":"invalid_request","token":"{SENTINEL}"}}"#),
            ),
            (500, SENTINEL.to_owned()),
        ] {
            let request = RevocationRequest::new(token.clone())
                .token_type_hint("access_token")
                .parameter("otp", SENTINEL)
                .header("x-api-key", SENTINEL)
                .client_authentication(secret.clone())
                .revocation_endpoint(format!("{URI}?key={SENTINEL}"));
            let recorder = Recorder::new(move |_| answer(status, body.clone()));
            let mut endpoint = endpoint(&recorder, secret.clone());
            let mut shown = format!("{request:?} {request:#?} {endpoint:?} {endpoint:#?}");
            assert!(shown.contains("access_token") && shown.contains("otp"));
            endpoint.ready().await.unwrap();
            let future = endpoint.call(request);
            shown += &format!("{future:?} {future:#?}");
            if let Err(error) = future.await {
                shown += &format!("{error} {error:?} {error:#?}");
                let mut source = error.source();
                while let Some(error) = source {
                    shown += &format!("{error} {error:?}");
                    source = error.source();
                }
                tracing::trace!(?error, %error, "failed");
            }
            assert!(!shown.contains(SENTINEL), "{shown}");
        }
    }
    let log = log.text();
    assert!(log.contains("failed"), "{log}");
    assert!(!log.contains(SENTINEL), "{log}");
}
