//! `UserinfoEndpoint`: the requests that it sends, and the responses that it reads.

mod dpop_support;
mod support;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::json;
use tower::{ServiceExt, limit::ConcurrencyLimit, service_fn};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, DpopKey, ErrorCode, NoAccessToken, TokenEndpoint,
    TokenError, TokenErrorKind, TokenType, UserinfoEndpoint, UserinfoRequest, UserinfoResponse,
};

use self::{
    dpop_support::{Judge, challenge, demand},
    support::{Answer, Recorder, answer},
};

const URI: &str = "https://as.example/userinfo";
const ISSUER: &str = "https://as.example";
const USER: &str = r#"{"sub":"u1"}"#;

fn bearer() -> AccessToken {
    AccessToken::new("SlAV32hkKG", TokenType::BEARER).unwrap()
}

fn request() -> UserinfoRequest {
    UserinfoRequest::new(&bearer())
}

fn endpoint(recorder: &Recorder) -> UserinfoEndpoint<Recorder> {
    UserinfoEndpoint::new(recorder.clone(), URI)
}

async fn result(
    request: UserinfoRequest,
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Result<UserinfoResponse, TokenError> {
    let recorder = Recorder::new(move |_| answer());
    endpoint(&recorder).oneshot(request).await
}

mod wire {
    use super::*;

    #[tokio::test]
    async fn the_request_is_a_get_with_the_access_token() {
        let recorder = Recorder::new(|_| answer(200, USER));
        let request = request().header("x-tenant", "blue").context(7_u8);
        endpoint(&recorder).oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        assert_eq!(
            (sent.method(), sent.uri().to_string()),
            (&Method::GET, URI.into())
        );
        assert!(sent.body().is_empty());
        let headers = sent.headers();
        assert_eq!(headers[AUTHORIZATION], "Bearer SlAV32hkKG");
        assert!(headers[AUTHORIZATION].is_sensitive());
        assert_eq!(headers[ACCEPT], "application/json");
        assert_eq!(headers["accept-encoding"], "identity");
        assert!(headers.contains_key("user-agent"));
        assert_eq!(headers["x-tenant"], "blue");
        assert_eq!(headers.len(), 5, "{headers:?}");
        assert!(!headers.contains_key(CONTENT_TYPE));
        assert_eq!(sent.extensions().get(), Some(&NoAccessToken));
        assert_eq!(sent.extensions().get(), Some(&7_u8));
    }

    #[tokio::test]
    async fn accept_can_be_set() {
        let recorder = Recorder::new(|_| answer(200, USER));
        let request = request().header("accept", "application/jwt");
        endpoint(&recorder).oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        let accept: Vec<_> = sent.headers().get_all(ACCEPT).iter().collect();
        assert_eq!(accept, ["application/jwt"]);
    }

    #[tokio::test]
    async fn an_invalid_request_is_not_sent() {
        let token = |token_type| UserinfoRequest::new(&AccessToken::new("t", token_type).unwrap());
        for (request, why) in [
            (token(TokenType::N_A), "`N_A`, which this crate cannot send"),
            (token("mac".into()), "`mac`, which this crate cannot send"),
            (token(TokenType::DPOP), "`AccessToken::bound_to`"),
            (request().subject(""), "the subject"),
            (
                request().header("authorization", "Basic x"),
                "leave one of them out",
            ),
            (
                request().header("content-type", "text/plain"),
                "is set by this crate",
            ),
            (
                request().userinfo_endpoint("http://as.example/userinfo"),
                "plain http",
            ),
            (request().userinfo_endpoint(""), "is empty"),
        ] {
            let recorder = Recorder::new(|_| answer(200, USER));
            let error = endpoint(&recorder).oneshot(request).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Request);
            let message = error.to_string();
            assert!(
                message.starts_with("the userinfo request was not sent: "),
                "{message}"
            );
            assert!(message.contains(why), "{message}");
            assert_eq!(recorder.calls(), 0);
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let error = result(request(), || {
            let mut answer = answer(302, "")?;
            let elsewhere = HeaderValue::from_static("https://evil.example/");
            answer.headers_mut().insert(LOCATION, elsewhere);
            Ok(answer)
        });
        let error = error.await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
        assert!(error.to_string().contains("a redirect"), "{error}");
    }

    #[tokio::test]
    async fn another_body_type_is_made_by_a_function() {
        let http = service_fn(|request: Request<String>| async move {
            assert_eq!(request.body(), "");
            Ok::<_, BoxError>(Response::new(USER.to_owned()))
        });
        let endpoint = UserinfoEndpoint::new(http, URI)
            .request_body(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        endpoint.oneshot(request()).await.unwrap();
    }

    #[tokio::test]
    async fn the_settings_can_be_read_and_the_http_service_can_be_had_back() {
        let recorder = Recorder::new(|_| answer(200, USER));
        let mut endpoint = endpoint(&recorder).danger_allow_http();
        assert_eq!(endpoint.uri().unwrap(), URI);
        assert_eq!(endpoint.issuer(), None);
        assert_eq!(endpoint.get_mut().calls() + endpoint.get_ref().calls(), 0);
        let plain = request().userinfo_endpoint("http://as.example/userinfo");
        endpoint.clone().oneshot(plain).await.unwrap();
        assert_eq!(endpoint.into_inner().calls(), 1);
    }
}

mod bound_tokens {
    use super::*;

    fn bound(key: &DpopKey) -> AccessToken {
        let token = AccessToken::new("bound", TokenType::DPOP).unwrap();
        token.bound_to(key.clone())
    }

    #[tokio::test]
    async fn a_proof_names_the_token_and_the_method() {
        let key = DpopKey::generate().unwrap();
        let recorder = Recorder::new(|_| answer(200, USER));
        let request = UserinfoRequest::new(&bound(&key));
        endpoint(&recorder).oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        let (token, proof) = Judge::new().api_request(sent.headers(), "GET", URI, &key);
        assert_eq!((&*token, proof.nonce), ("bound", None));
    }

    #[tokio::test]
    async fn a_demand_for_a_nonce_is_answered_once() {
        for demands in [1, 2] {
            let key = DpopKey::generate().unwrap();
            let recorder = Recorder::new(move |number| match number < demands {
                true => Ok(demand(&format!("n{number}"))),
                false => answer(200, USER),
            });
            let request = UserinfoRequest::new(&bound(&key));
            let result = endpoint(&recorder).oneshot(request.clone()).await;
            let judge = Judge::new();
            let sent = recorder.take();
            let nonces = sent
                .iter()
                .map(|sent| judge.api_request(sent.headers(), "GET", URI, &key).1.nonce);
            assert_eq!(nonces.collect::<Vec<_>>(), [None, Some("n0".into())]);
            match result {
                Ok(_) => assert_eq!(demands, 1),
                Err(error) => {
                    assert_eq!(demands, 2);
                    let code = error.error_response().unwrap().code();
                    assert_eq!(*code, ErrorCode::USE_DPOP_NONCE);
                    assert!(error.is_transient() && !error.may_have_been_processed());
                }
            }
            // The nonce is kept for the next request.
            endpoint(&recorder).oneshot(request).await.unwrap();
            let sent = recorder.take_one();
            let (_, proof) = judge.api_request(sent.headers(), "GET", URI, &key);
            assert_eq!(proof.nonce, Some(format!("n{}", demands - 1)));
        }
    }

    /// RFC 9449 §8 and §9: the nonces of the authorization server are not those of its APIs.
    #[tokio::test]
    async fn nonces_of_the_token_endpoint_are_not_used() {
        let key = DpopKey::generate().unwrap();
        key.note_response(URI, None, demand("of-the-token-endpoint").headers());
        let recorder = Recorder::new(|_| answer(200, USER));
        let request = UserinfoRequest::new(&bound(&key));
        endpoint(&recorder).oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        let (_, proof) = Judge::new().api_request(sent.headers(), "GET", URI, &key);
        assert_eq!(proof.nonce, None);
    }

    #[tokio::test]
    async fn another_error_with_a_nonce_is_no_demand() {
        let key = DpopKey::generate().unwrap();
        let recorder = Recorder::new(|_| {
            let refused = r#"DPoP error="invalid_token", error_description="it has expired""#;
            Ok(challenge(refused, Some("n1")))
        });
        let request = UserinfoRequest::new(&bound(&key));
        let error = endpoint(&recorder).oneshot(request).await.unwrap_err();
        assert_eq!(recorder.calls(), 1);
        assert_eq!(
            *error.error_response().unwrap().code(),
            ErrorCode::INVALID_TOKEN
        );
    }

    /// Otherwise a signer that takes a call through the same stack would wait for itself.
    #[tokio::test]
    async fn the_reservation_is_given_back_while_a_proof_is_signed() {
        let remote = dpop_support::Remote::new(0);
        let control = remote.control.clone();
        let key = DpopKey::new(remote).unwrap();
        let recorder = Recorder::new(|_| answer(200, USER));
        let limited = ConcurrencyLimit::new(recorder, 1);
        let endpoint = UserinfoEndpoint::new(limited, URI);
        let request = UserinfoRequest::new(&bound(&key));
        let signing = tokio::spawn(endpoint.clone().oneshot(request));
        while control.asked() == 0 {
            tokio::task::yield_now().await;
        }
        endpoint.oneshot(super::request()).await.unwrap();
        control.open.add_permits(1);
        signing.await.unwrap().unwrap();
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn the_example_of_openid_connect_is_typed() {
        let body = json!({
            "sub": "248289761001",
            "name": "Jane Doe",
            "given_name": "Jane",
            "preferred_username": "j.doe",
            "email": "janedoe@example.com",
            "email_verified": true,
            "address": { "country": "US" },
        });
        let raw = body.to_string();
        let request = request().subject("248289761001");
        let user = result(request, move || answer(200, raw.clone()))
            .await
            .unwrap();
        assert_eq!(user.sub(), Some("248289761001"));
        assert_eq!(user.name(), Some("Jane Doe"));
        assert_eq!(user.preferred_username(), Some("j.doe"));
        assert_eq!(user.email(), Some("janedoe@example.com"));
        assert_eq!(user.email_verified(), Some(true));
        assert_eq!(user.get("address").unwrap()["country"], "US");
        assert_eq!(*user.json(), body);
        assert_eq!(*user.raw(), body.to_string());
        assert_eq!(user.status(), 200);
        assert!(user.headers().is_empty());
        assert_eq!(user.unverified_jwt(), None);
        let shown = format!("{user:?} {user:#?}");
        for private in ["Jane", "2482", "example.com"] {
            assert!(!shown.contains(private), "{shown}");
        }
    }

    #[tokio::test]
    async fn odd_claims_are_absent_and_can_be_read_as_they_are() {
        for (claim, expected) in [
            ("true", Some(true)),
            ("false", Some(false)),
            ("\"true\"", Some(true)),
            ("\"false\"", Some(false)),
            ("\"yes\"", None),
            ("1", None),
            ("null", None),
        ] {
            let body = format!(r#"{{"sub":"u1","name":7,"email_verified":{claim}}}"#);
            let user = result(request(), move || answer(200, body.clone()));
            let user = user.await.unwrap();
            assert_eq!(user.email_verified(), expected, "{claim}");
            assert_eq!(user.name(), None);
            assert_eq!(user.get("name").unwrap(), 7);
        }
    }

    #[tokio::test]
    async fn claims_about_another_subject_are_an_error() {
        for body in [
            r#"{"sub":"u2"}"#.to_owned(),
            format!(
                "e30.{}.c2ln",
                BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"u2"}"#)
            ),
        ] {
            let request = request().subject("u1");
            let error = result(request, move || answer(200, body.clone()));
            let error = error.await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
            assert!(!error.is_transient());
            let message = error.to_string();
            assert!(message.contains("another subject"), "{message}");
            assert!(
                !message.contains("u1") && !message.contains("u2"),
                "{message}"
            );
        }
    }

    #[tokio::test]
    async fn a_jwt_is_returned_unverified() {
        let jwt = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(USER));
        for content_type in ["application/jwt", "application/json", "text/plain"] {
            let jwt = jwt.clone();
            let request = request().subject("u1");
            let user = result(request, {
                let jwt = jwt.clone();
                move || {
                    let mut answer = answer(200, jwt.clone())?;
                    let content_type = HeaderValue::from_static(content_type);
                    answer.headers_mut().insert(CONTENT_TYPE, content_type);
                    Ok(answer)
                }
            });
            let user = user.await.unwrap();
            assert_eq!(user.unverified_jwt(), Some(&*jwt));
            assert_eq!(user.sub(), None, "nothing has been verified");
            assert!(user.json().is_null());
        }
    }

    #[tokio::test]
    async fn a_challenge_is_a_typed_error() {
        for (status, body, challenges, code, why) in [
            (
                401,
                "",
                &["Bearer error=\"invalid_token\", error_description=\"it has expired\""][..],
                Some(ErrorCode::INVALID_TOKEN),
                "does not accept the access token; it is wrong, expired or revoked, so obtain a new one: invalid_token (it has expired)",
            ),
            (
                401,
                "<html>",
                &["Basic realm=\"x\"", "DPoP error=\"invalid_token\""],
                Some(ErrorCode::INVALID_TOKEN),
                "obtain a new one",
            ),
            (
                403,
                "",
                &["Bearer error=\"insufficient_scope\", scope=\"openid\""],
                Some(ErrorCode::INSUFFICIENT_SCOPE),
                "request the scope `openid`",
            ),
            (
                401,
                r#"{"error":"invalid_request"}"#,
                &["Bearer error=\"invalid_token\""],
                Some(ErrorCode::INVALID_REQUEST),
                "refused the request: invalid_request",
            ),
            (
                401,
                r#"{"message":"go away"}"#,
                &["Bearer"],
                None,
                "go away",
            ),
            (
                401,
                "",
                &["Bearer realm=\"x\""],
                None,
                "check the access token",
            ),
            (401, "", &[], None, "check the access token"),
        ] {
            let error = result(request(), move || {
                let mut answer = answer(status, body)?;
                for challenge in challenges {
                    let challenge = HeaderValue::from_static(challenge);
                    answer.headers_mut().append(WWW_AUTHENTICATE, challenge);
                }
                Ok(answer)
            });
            let error = error.await.unwrap_err();
            let found = error.error_response().map(|error| error.code().clone());
            assert_eq!(found, code, "{challenges:?}");
            let kind = match code {
                Some(_) => TokenErrorKind::ErrorResponse,
                None => TokenErrorKind::UnexpectedStatus,
            };
            assert_eq!(error.kind(), kind, "{challenges:?}");
            assert_eq!(error.status().unwrap(), status);
            assert!(!error.is_transient());
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains("client id"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_token_that_the_server_repeats_is_masked() {
        let token = AccessToken::new("TOKEN-SENTINEL", TokenType::BEARER).unwrap();
        let request = UserinfoRequest::new(&token).subject("SUBJECT-SENTINEL");
        let shown = format!("{request:?} {request:#?}");
        assert!(!shown.contains("SENTINEL"), "{shown}");
        const SAID: &str =
            r#"Bearer error="invalid_token", error_description="no TOKEN-SENTINEL here""#;
        let refusals: [fn() -> Answer; 2] = [
            || Ok(challenge(SAID, None)),
            || {
                answer(
                    400,
                    r#"{"error":"x","error_description":"no TOKEN-SENTINEL here"}"#,
                )
            },
        ];
        for refusal in refusals {
            let error = result(request.clone(), refusal).await.unwrap_err();
            let shown = format!("{error} {error:?} {error:#}");
            assert!(shown.contains("[redacted] here"), "{shown}");
            assert!(!shown.contains("SENTINEL"), "{shown}");
        }
    }

    #[tokio::test]
    async fn failures_say_what_to_do() {
        for (status, body, why, is_transient) in [
            (200, "", "an empty body", true),
            (200, "<html>", "a page instead of JSON", true),
            (200, r#"{"sub":"u1""#, "ends too early", true),
            (200, "[]", "other than a JSON object", false),
            (200, r#"{"name":"x"}"#, "returned no `sub`", false),
            (200, r#"{"sub":7}"#, "`sub` that is not a string", false),
            (
                200,
                r#"{"sub":"u1","sub":"u2"}"#,
                "the member `sub` twice",
                false,
            ),
            (404, "", "there is no userinfo endpoint at this URI", false),
            (502, "<html>", "the userinfo endpoint failed", true),
        ] {
            let error = result(request(), move || answer(status, body));
            let error = error.await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.is_transient(), is_transient, "{error}");
        }
    }
}

mod discovery {
    use super::*;

    fn issuer() -> Recorder {
        let document = json!({
            "issuer": ISSUER,
            "token_endpoint": format!("{ISSUER}/token"),
            "userinfo_endpoint": URI,
            "mtls_endpoint_aliases": { "userinfo_endpoint": "https://mtls.example/userinfo" },
        });
        let document = document.to_string();
        Recorder::new(move |number| match number {
            0 => answer(200, document.clone()),
            _ => answer(200, USER),
        })
    }

    #[tokio::test]
    async fn the_client_and_the_key_of_the_token_endpoint_are_not_used() {
        let http = issuer();
        let client = ClientAuthentication::client_secret_post("c", "s");
        let tokens = TokenEndpoint::discover(http.clone(), ISSUER, client)
            .dpop(DpopKey::generate().unwrap());
        let userinfo = tokens.userinfo();
        assert_eq!((userinfo.issuer(), userinfo.uri()), (Some(ISSUER), None));
        userinfo.oneshot(request()).await.unwrap();
        let sent = http.take();
        assert_eq!(*sent[1].uri(), URI);
        assert_eq!(sent[1].method(), Method::GET);
        assert_eq!(sent[1].headers()[AUTHORIZATION], "Bearer SlAV32hkKG");
        assert!(!sent[1].headers().contains_key("dpop"));
        assert!(sent[1].body().is_empty());
    }

    /// The tokens of such a client are bound to its certificate.
    #[tokio::test]
    async fn a_tls_client_uses_the_alias() {
        for (client, expected) in [
            (
                ClientAuthentication::tls_client_auth("c"),
                "https://mtls.example/userinfo",
            ),
            (ClientAuthentication::none("c"), URI),
        ] {
            let http = issuer();
            let tokens = TokenEndpoint::discover(http.clone(), ISSUER, client);
            tokens.userinfo().oneshot(request()).await.unwrap();
            assert_eq!(*http.take()[1].uri(), expected);
        }
    }

    #[tokio::test]
    async fn a_token_endpoint_without_an_issuer_has_no_userinfo_endpoint() {
        let recorder = Recorder::new(|_| answer(200, USER));
        let userinfo = recorder
            .endpoint(ClientAuthentication::none("c"))
            .userinfo();
        let error = userinfo.clone().oneshot(request()).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("`UserinfoEndpoint::new`"), "{message}");
        let named = request().userinfo_endpoint(URI);
        userinfo.oneshot(named).await.unwrap();
    }
}

#[test]
fn requests_are_equal_by_content() {
    assert_eq!(request(), UserinfoRequest::from(&bearer()));
    assert_ne!(request(), request().subject("u1"));
    let other = AccessToken::new("other", TokenType::BEARER).unwrap();
    assert_ne!(request(), UserinfoRequest::new(&other));
}

/// The body type of the HTTP service need not be `Clone`.
#[tokio::test]
async fn the_service_is_clone_and_debug() {
    let http = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(USER))))
    });
    let endpoint = UserinfoEndpoint::new(http, format!("{URI}?key=SECRET"));
    let shown = format!("{:?}", endpoint.clone());
    assert!(shown.starts_with("UserinfoEndpoint"), "{shown}");
    assert!(!shown.contains("SECRET"), "{shown}");
    let future = endpoint.oneshot(request());
    future.await.unwrap();
}
