//! `IntrospectionEndpoint`: the requests that it sends, and the responses that it reads.

mod dpop_support;
mod support;

use std::{
    io,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    Method, Request, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, channel::Channel};
use serde_json::json;
use tower::{ServiceExt, service_fn};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, Credential, DpopKey, ErrorCode,
    IntrospectionEndpoint, IntrospectionRequest, IntrospectionResponse, NoAccessToken,
    RefreshToken, Scope, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenType,
    test_util::AuthorizationServer,
};

use self::{
    dpop_support::{Judge, demand},
    support::{Answer, Recorder, answer, basic, form, owned},
};

const URI: &str = "https://as.example/introspect";
const ACTIVE: &str = r#"{"active":true}"#;

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("c", "s")
}

fn endpoint(recorder: &Recorder) -> IntrospectionEndpoint<Recorder> {
    IntrospectionEndpoint::new(recorder.clone(), URI, client())
}

fn request() -> IntrospectionRequest {
    IntrospectionRequest::new("t")
}

fn bearer(text: &str) -> AccessToken {
    AccessToken::new(text, TokenType::BEARER).unwrap()
}

async fn send(request: IntrospectionRequest) -> Request<Bytes> {
    let recorder = Recorder::new(|_| answer(200, ACTIVE));
    endpoint(&recorder).oneshot(request).await.unwrap();
    recorder.take_one()
}

async fn result(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Result<IntrospectionResponse, TokenError> {
    let recorder = Recorder::new(move |_| answer());
    endpoint(&recorder).oneshot(request()).await
}

async fn read(body: impl Into<Bytes>) -> IntrospectionResponse {
    let body = body.into();
    result(move || answer(200, body.clone())).await.unwrap()
}

#[tokio::test]
async fn a_confidential_client_sends_the_example_of_rfc_7662() {
    let request = IntrospectionRequest::new("mF_9.B5f-4.1JqM").token_type_hint("access_token");
    let sent = send(request).await;
    assert_eq!(
        (sent.method(), sent.uri().to_string()),
        (&Method::POST, URI.into())
    );
    assert_eq!(
        *sent.body(),
        "token=mF_9.B5f-4.1JqM&token_type_hint=access_token"
    );
    let headers = sent.headers();
    assert_eq!(basic(headers), "c:s");
    assert_eq!(headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert_eq!(headers[ACCEPT], "application/json");
    assert_eq!(sent.extensions().get(), Some(&NoAccessToken));
}

#[tokio::test]
async fn tokens_parameters_headers_and_overrides_are_sent() {
    let refresh_token = RefreshToken::new("rt");
    for (request, expected) in [
        (IntrospectionRequest::new(bearer("at")), "at"),
        (IntrospectionRequest::new(refresh_token), "rt"),
        (IntrospectionRequest::new(" +&=%é"), " +&=%é"),
    ] {
        let sent = send(request).await;
        assert_eq!(form(sent.body()), owned(&[("token", expected)]));
    }
    let request = request()
        .parameter("tenant", "blue")
        .header("cookie", "secret")
        .introspection_endpoint("https://blue.example/introspect")
        .client_authentication(ClientAuthentication::client_secret_basic("d", "e"))
        .context(7_u8);
    assert_eq!(request.get_context(), Some(&7_u8));
    let sent = send(request).await;
    assert_eq!(*sent.uri(), "https://blue.example/introspect");
    assert_eq!(*sent.body(), "token=t&tenant=blue");
    assert_eq!(basic(sent.headers()), "d:e");
    assert!(sent.headers()["cookie"].is_sensitive());
    assert_eq!(sent.extensions().get(), Some(&7_u8));
}

#[tokio::test]
async fn an_invalid_request_is_not_sent() {
    let not_sendable = AccessToken::new("t", TokenType::N_A).unwrap();
    let without_key = AccessToken::new("t", TokenType::DPOP).unwrap();
    let own = bearer("own");
    for (request, why) in [
        (IntrospectionRequest::new(""), "`token` is empty"),
        (request().token_type_hint(""), "`token_type_hint` is empty"),
        (request().parameter("token", "u"), "`token` is set twice"),
        (
            request().introspection_endpoint("http://as.example/"),
            "plain http",
        ),
        (
            request().introspection_endpoint("/introspect"),
            "is not absolute",
        ),
        (
            request().authorized_by(&not_sendable),
            "of the type `N_A`, which this crate cannot send",
        ),
        (
            request().authorized_by(&without_key),
            "its key is not known",
        ),
        (
            request()
                .authorized_by(&own)
                .header("authorization", "Basic x"),
            "leave one of them out",
        ),
        (
            request()
                .authorized_by(&own)
                .client_authentication(client()),
            "leave one of them out",
        ),
    ] {
        let recorder = Recorder::new(|_| answer(200, ACTIVE));
        let error = endpoint(&recorder).oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        let message = error.to_string();
        assert!(
            message.starts_with("the introspection request was not sent: "),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
        assert_eq!(recorder.calls(), 0);
    }
}

#[test]
fn requests_are_equal_by_content() {
    assert_eq!(request(), IntrospectionRequest::new("t"));
    assert_ne!(request(), IntrospectionRequest::new("u"));
    assert_ne!(request(), request().jwt_response());
    assert_eq!(
        request().jwt_response(),
        request().jwt_response().jwt_response()
    );
    let [a, b] = ["a", "b"].map(|text| request().authorized_by(&bearer(text)));
    assert_eq!(a, a.clone());
    assert_ne!(a, b);
    assert_ne!(a, request());
}

mod authorized_by_a_token {
    use super::*;

    #[tokio::test]
    async fn the_client_of_the_endpoint_is_not_used() {
        let sent = send(request().authorized_by(&bearer("own"))).await;
        let authorization = &sent.headers()[AUTHORIZATION];
        assert_eq!(authorization, "Bearer own");
        assert!(authorization.is_sensitive());
        assert_eq!(*sent.body(), "token=t");

        let public = ClientAuthentication::none("c");
        let request = request()
            .authorized_by(&bearer("own"))
            .client_authentication(public);
        let sent = send(request).await;
        assert_eq!(*sent.body(), "token=t&client_id=c");
    }

    #[tokio::test]
    async fn a_bound_token_has_a_proof_and_a_nonce_is_answered_once() {
        let key = DpopKey::generate().unwrap();
        let own = AccessToken::new("own", TokenType::DPOP)
            .unwrap()
            .bound_to(key.clone());
        let recorder = Recorder::new(|number| match number {
            0 => Ok(demand("n1")),
            _ => answer(200, ACTIVE),
        });
        let request = request().authorized_by(&own);
        assert!(
            endpoint(&recorder)
                .oneshot(request)
                .await
                .unwrap()
                .is_active()
        );
        let judge = Judge::new();
        let nonces = recorder.take().into_iter().map(|sent| {
            let (token, proof) = judge.api_request(sent.headers(), "POST", URI, &key);
            assert_eq!(token, "own");
            proof.nonce
        });
        assert_eq!(nonces.collect::<Vec<_>>(), [None, Some("n1".into())]);
    }

    #[tokio::test]
    async fn the_key_of_the_endpoint_is_for_its_client_only() {
        let recorder = Recorder::new(|_| answer(200, ACTIVE));
        let endpoint = endpoint(&recorder).dpop(DpopKey::generate().unwrap());
        let unbound = request().authorized_by(&bearer("own"));
        endpoint.clone().oneshot(unbound).await.unwrap();
        endpoint.oneshot(request()).await.unwrap();
        let sent = recorder.take();
        let has_proof: Vec<_> = sent
            .iter()
            .map(|sent| sent.headers().contains_key("dpop"))
            .collect();
        assert_eq!(has_proof, [false, true]);
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_check() {
        for (challenge, why) in [
            (
                r#"Bearer error="invalid_token""#,
                "does not accept the access token that authorizes the request: invalid_token",
            ),
            ("Bearer", "check the access token"),
        ] {
            let recorder = Recorder::new(move |_| Ok(dpop_support::challenge(challenge, None)));
            let request = request().authorized_by(&bearer("own"));
            let error = endpoint(&recorder).oneshot(request).await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains("client id"), "{error}");
        }
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn the_example_of_rfc_7662_is_typed() {
        let body = json!({
            "active": true,
            "client_id": "l238j323ds-23ij4",
            "username": "jdoe",
            "scope": "read write dolphin",
            "sub": "Z5O3upPC88QrAjx00dis",
            "aud": "https://protected.example.net/resource",
            "iss": "https://server.example.com/",
            "exp": 1_419_356_238,
            "iat": 1_419_350_238,
            "nbf": "1419350239",
            "jti": "id-1",
            "token_type": "bearer",
            "extension_field": "twenty-seven",
        });
        let state = read(body.to_string()).await;
        assert!(state.is_active());
        assert_eq!(state.client_id(), Some("l238j323ds-23ij4"));
        assert_eq!(state.username(), Some("jdoe"));
        assert_eq!(state.scope().unwrap(), Scope::from("dolphin read write"));
        assert_eq!(state.sub(), Some("Z5O3upPC88QrAjx00dis"));
        let audiences: Vec<_> = state.aud().collect();
        assert_eq!(audiences, ["https://protected.example.net/resource"]);
        assert_eq!(state.iss(), Some("https://server.example.com/"));
        assert_eq!(state.jti(), Some("id-1"));
        assert_eq!(state.token_type().unwrap(), TokenType::BEARER);
        let time = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(state.exp(), time(1_419_356_238));
        assert_eq!(state.iat(), time(1_419_350_238));
        assert_eq!(state.nbf(), time(1_419_350_239));
        assert_eq!(state.get("extension_field").unwrap(), "twenty-seven");
        assert_eq!(*state.json(), body);
        assert_eq!(*state.raw(), body.to_string());
        assert_eq!(state.status(), 200);
        assert!(state.headers().is_empty());
        assert_eq!(state.unverified_jwt(), None);
        let shown = format!("{state:?}");
        for private in ["jdoe", "Z5O3", "l238", "twenty", "id-1"] {
            assert!(!shown.contains(private), "{shown}");
        }
    }

    #[tokio::test]
    async fn an_inactive_token_is_a_success_with_nothing_in_it() {
        let state = read(r#"{"active":false}"#).await;
        assert!(!state.is_active());
        assert_eq!(
            (state.scope(), state.exp(), state.sub()),
            (None, None, None)
        );
        assert_eq!(state.aud().count(), 0);
    }

    #[tokio::test]
    async fn lists_of_scopes_and_audiences_are_read() {
        let state = read(r#"{"active":true,"scope":["a","b"],"aud":["x","y"]}"#).await;
        assert_eq!(state.scope().unwrap(), Scope::from("a b"));
        assert_eq!(state.aud().collect::<Vec<_>>(), ["x", "y"]);
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_an_error_and_never_an_active_token() {
        let page = r#"<html>"active":true</html>"#;
        for (status, body, kind, is_transient) in [
            (
                200,
                r#"{"active":"true"}"#,
                TokenErrorKind::InvalidResponse,
                false,
            ),
            (
                200,
                r#"{"active":1}"#,
                TokenErrorKind::InvalidResponse,
                false,
            ),
            (200, "{}", TokenErrorKind::InvalidResponse, false),
            (
                200,
                r#"{"active":false,"active":true}"#,
                TokenErrorKind::InvalidResponse,
                false,
            ),
            (
                200,
                r#"{"active":true,"exp":"soon"}"#,
                TokenErrorKind::InvalidResponse,
                false,
            ),
            (
                200,
                r#"{"active":true"#,
                TokenErrorKind::InvalidResponse,
                true,
            ),
            (200, page, TokenErrorKind::InvalidResponse, true),
            (200, "", TokenErrorKind::InvalidResponse, true),
            (204, "", TokenErrorKind::InvalidResponse, true),
            (302, ACTIVE, TokenErrorKind::UnexpectedStatus, false),
            (403, ACTIVE, TokenErrorKind::UnexpectedStatus, false),
            (503, ACTIVE, TokenErrorKind::UnexpectedStatus, true),
            (
                200,
                r#"{"error":"invalid_client"}"#,
                TokenErrorKind::ErrorResponse,
                false,
            ),
            (
                401,
                r#"{"error":"invalid_client"}"#,
                TokenErrorKind::ErrorResponse,
                false,
            ),
            (
                400,
                r#"{"error":"invalid_request"}"#,
                TokenErrorKind::ErrorResponse,
                false,
            ),
        ] {
            let error = result(move || answer(status, body)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{status} {body}: {error}");
            assert_eq!(
                error.is_transient(),
                is_transient,
                "{status} {body}: {error}"
            );
            assert!(
                error.to_string().contains("introspection endpoint"),
                "{error}"
            );
            assert_eq!(error.raw().unwrap(), body);
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_or_cut_off_is_an_error() {
        let recorder = Recorder::new(|_| {
            let padding = " ".repeat(100);
            answer(200, format!("{ACTIVE}{padding}"))
        });
        let endpoint = endpoint(&recorder).max_response_body(50);
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::BodyTooLarge);
        assert!(
            error
                .to_string()
                .contains("`IntrospectionEndpoint::max_response_body`"),
            "{error}"
        );

        let http = service_fn(|_: Request<Full<Bytes>>| async {
            let (mut sender, body) = Channel::<Bytes, io::Error>::new(2);
            sender.send_data(Bytes::from(ACTIVE)).await?;
            sender.abort(io::ErrorKind::ConnectionReset.into());
            Ok::<_, BoxError>(Response::new(body.boxed()))
        });
        let endpoint = IntrospectionEndpoint::new(http, URI, client());
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Body);
        assert!(error.is_transient());
    }

    #[tokio::test]
    async fn secrets_that_the_server_repeats_are_masked() {
        let recorder = Recorder::new(|_| {
            let said = "no TOKEN-SENTINEL by OWN-SENTINEL or SECRET-SENTINEL";
            answer(
                400,
                json!({ "error": "x", "error_description": said }).to_string(),
            )
        });
        let secret = ClientAuthentication::client_secret_post("c", "SECRET-SENTINEL");
        let endpoint = IntrospectionEndpoint::new(recorder, URI, secret);
        let request = IntrospectionRequest::new("TOKEN-SENTINEL");
        for (request, hidden) in [
            (request.clone(), ["TOKEN-SENTINEL", "SECRET-SENTINEL"]),
            (
                request.authorized_by(&bearer("OWN-SENTINEL")),
                ["TOKEN-SENTINEL", "OWN-SENTINEL"],
            ),
        ] {
            let shown = format!("{request:?} {request:#?}");
            assert!(!shown.contains("SENTINEL"), "{shown}");
            let error = endpoint.clone().oneshot(request).await.unwrap_err();
            let shown = format!("{error} {error:?} {error:#}");
            assert!(shown.contains("[redacted]"), "{shown}");
            for hidden in hidden {
                assert!(!shown.contains(hidden), "{shown}");
            }
        }
    }
}

mod signed_answers {
    use super::*;

    #[tokio::test]
    async fn a_jwt_is_requested_and_returned_unverified() {
        const MEDIA_TYPE: &str = "application/token-introspection+jwt";
        let recorder = Recorder::new(|_| {
            let mut answer = answer(200, "e30.eyJhY3RpdmUiOnRydWV9.c2ln")?;
            let media_type = MEDIA_TYPE.parse().unwrap();
            answer.headers_mut().insert(CONTENT_TYPE, media_type);
            Ok(answer)
        });
        let request = request().jwt_response();
        let state = endpoint(&recorder).oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        let accept: Vec<_> = sent.headers().get_all(ACCEPT).iter().collect();
        assert_eq!(accept, [MEDIA_TYPE]);
        assert_eq!(
            state.unverified_jwt(),
            Some("e30.eyJhY3RpdmUiOnRydWV9.c2ln")
        );
        assert!(!state.is_active(), "nothing has been verified");
        assert!(state.json().is_null() && state.get("active").is_none());
        assert!(!format!("{state:?}").contains("e30"));
    }

    #[tokio::test]
    async fn an_unsigned_answer_does_not_replace_a_signed_one() {
        let recorder = Recorder::new(|_| answer(200, ACTIVE));
        let request = request().jwt_response();
        let error = endpoint(&recorder).oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
        assert!(error.to_string().contains("a JWT was requested"), "{error}");
    }

    #[tokio::test]
    async fn a_signed_answer_that_was_not_requested_is_an_error() {
        let error = result(|| answer(200, "e30.e30.c2ln")).await.unwrap_err();
        assert!(error.to_string().contains("was not requested"), "{error}");
    }
}

#[tokio::test]
async fn the_state_follows_the_token_at_an_authorization_server() {
    let server = AuthorizationServer::new();
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let tokens = TokenEndpoint::discover(server.clone(), server.issuer(), client);
    let introspection = tokens.introspection();
    let response = tokens.oneshot(TokenRequest::client_credentials().scope("a b"));
    let response = response.await.unwrap();
    let request = IntrospectionRequest::new(response.access_token());

    let state = introspection
        .clone()
        .oneshot(request.clone())
        .await
        .unwrap();
    assert!(state.is_active());
    assert_eq!(state.client_id(), Some("client"));
    assert_eq!(state.scope().unwrap(), Scope::from("a b"));

    server.revoke_all();
    let state = introspection
        .clone()
        .oneshot(request.clone())
        .await
        .unwrap();
    assert!(!state.is_active());

    let wrong = request.client_authentication(ClientAuthentication::client_secret_basic(
        "client",
        Credential::fixed("wrong"),
    ));
    let error = introspection.oneshot(wrong).await.unwrap_err();
    let code = error.error_response().unwrap().code();
    assert_eq!(*code, ErrorCode::INVALID_CLIENT);
    let paths: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.path().to_owned())
        .collect();
    assert_eq!(paths[0], "/.well-known/oauth-authorization-server");
    assert_eq!(
        paths[1..],
        ["/token", "/introspect", "/introspect", "/introspect"]
    );
}
