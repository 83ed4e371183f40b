//! `RegistrationEndpoint` and its client, and client ID metadata documents.

mod dpop_support;
mod support;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{
    Method, Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_oauth2_client::{
    AccessToken, ClientAuthentication, ClientIdMetadataDocument, ClientMetadata, DpopKey,
    ErrorCode, NoAccessToken, RegistrationEndpoint, RegistrationRequest, RegistrationResponse,
    TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenType,
    jwt::{SigningAlgorithm, SigningKey},
};

use self::{
    dpop_support::{Judge, challenge, demand},
    support::{Answer, Recorder, answer, basic, form},
};

const URI: &str = "https://as.example/register";
const ISSUER: &str = "https://as.example";
const REGISTERED: &str = r#"{"client_id":"c","token_endpoint_auth_method":"none"}"#;

fn metadata() -> ClientMetadata {
    ClientMetadata::new().redirect_uri("https://client.example.org/callback")
}

fn request() -> RegistrationRequest {
    RegistrationRequest::new(metadata())
}

fn endpoint(recorder: &Recorder) -> RegistrationEndpoint<Recorder> {
    RegistrationEndpoint::new(recorder.clone(), URI)
}

async fn result(
    request: RegistrationRequest,
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Result<RegistrationResponse, TokenError> {
    let recorder = Recorder::new(move |_| answer());
    endpoint(&recorder).oneshot(request).await
}

async fn registered(body: &Value) -> RegistrationResponse {
    let body = body.to_string();
    result(request(), move || answer(201, body.clone()))
        .await
        .unwrap()
}

async fn send(request: RegistrationRequest) -> Request<Bytes> {
    let recorder = Recorder::new(|_| answer(201, REGISTERED));
    endpoint(&recorder).oneshot(request).await.unwrap();
    recorder.take_one()
}

mod wire {
    use super::*;

    #[tokio::test]
    async fn the_metadata_is_sent_as_json() {
        let metadata = ClientMetadata::new()
            .redirect_uri("https://client.example.org/callback")
            .redirect_uri("https://client.example.org/callback2")
            .client_name("My Example Client")
            .member("client_name#ja-Jpan-JP", "クライアント名")
            .token_endpoint_auth_method("client_secret_basic")
            .grant_type("authorization_code")
            .grant_type("refresh_token")
            .response_type("code")
            .scope("read write")
            .contact("ve7jtb@example.org")
            .client_uri("https://client.example.org/")
            .logo_uri("https://client.example.org/logo.png")
            .tos_uri("https://client.example.org/tos")
            .policy_uri("https://client.example.org/policy")
            .jwks_uri("https://client.example.org/jwks")
            .software_id("4NRB1-0XZABZI9E6-5SM3R")
            .software_version("1.0")
            .software_statement("e30.e30.c2ln")
            .member("example_extension_parameter", "example_value");
        let sent = send(RegistrationRequest::new(metadata)).await;
        assert_eq!(
            (sent.method(), sent.uri().to_string()),
            (&Method::POST, URI.into())
        );
        let headers = sent.headers();
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(headers[ACCEPT], "application/json");
        assert!(!headers.contains_key(AUTHORIZATION));
        assert_eq!(headers.len(), 4, "{headers:?}");
        assert_eq!(sent.extensions().get(), Some(&NoAccessToken));
        let body: Value = serde_json::from_slice(sent.body()).unwrap();
        assert_eq!(
            body,
            json!({
                "redirect_uris": [
                    "https://client.example.org/callback",
                    "https://client.example.org/callback2",
                ],
                "client_name": "My Example Client",
                "client_name#ja-Jpan-JP": "クライアント名",
                "token_endpoint_auth_method": "client_secret_basic",
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
                "scope": "read write",
                "contacts": ["ve7jtb@example.org"],
                "client_uri": "https://client.example.org/",
                "logo_uri": "https://client.example.org/logo.png",
                "tos_uri": "https://client.example.org/tos",
                "policy_uri": "https://client.example.org/policy",
                "jwks_uri": "https://client.example.org/jwks",
                "software_id": "4NRB1-0XZABZI9E6-5SM3R",
                "software_version": "1.0",
                "software_statement": "e30.e30.c2ln",
                "example_extension_parameter": "example_value",
            })
        );
    }

    #[tokio::test]
    async fn headers_context_and_another_endpoint_are_used() {
        let request = request()
            .header("x-tenant", "blue")
            .registration_endpoint("https://blue.example/register")
            .context(7_u8);
        let sent = send(request).await;
        assert_eq!(*sent.uri(), "https://blue.example/register");
        assert_eq!(sent.headers()["x-tenant"], "blue");
        assert_eq!(sent.extensions().get(), Some(&7_u8));
    }

    #[tokio::test]
    async fn an_initial_access_token_authorizes_the_request() {
        let token = AccessToken::new("ey23f2.adfj230.af32", TokenType::BEARER).unwrap();
        let sent = send(request().initial_access_token(&token)).await;
        let authorization = &sent.headers()[AUTHORIZATION];
        assert_eq!(authorization, "Bearer ey23f2.adfj230.af32");
        assert!(authorization.is_sensitive());
    }

    #[tokio::test]
    async fn a_bound_initial_access_token_has_a_proof_and_a_nonce_is_answered_once() {
        let key = DpopKey::generate().unwrap();
        let token = AccessToken::new("initial", TokenType::DPOP)
            .unwrap()
            .bound_to(key.clone());
        let recorder = Recorder::new(|number| match number {
            0 => Ok(demand("n1")),
            _ => answer(201, REGISTERED),
        });
        let request = request().initial_access_token(&token);
        endpoint(&recorder).oneshot(request).await.unwrap();
        let judge = Judge::new();
        let sent = recorder.take();
        let nonces = sent
            .iter()
            .map(|sent| judge.api_request(sent.headers(), "POST", URI, &key).1.nonce);
        assert_eq!(nonces.collect::<Vec<_>>(), [None, Some("n1".into())]);
        assert_eq!(sent[0].body(), sent[1].body());
    }

    #[tokio::test]
    async fn an_invalid_request_is_not_sent() {
        let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let mut private = key.public_jwk();
        private["d"] = json!("SECRET");
        let without_key = AccessToken::new("SECRET", TokenType::DPOP).unwrap();
        for (request, why) in [
            (
                RegistrationRequest::new(metadata().redirect_uri("https://a.example/#SECRET")),
                "a redirect URI has a fragment",
            ),
            (
                RegistrationRequest::new(metadata().jwk(private)),
                "`jwks` contains a private key",
            ),
            (
                RegistrationRequest::new(metadata().client_name("a").client_name("SECRET")),
                "`client_name` is set twice",
            ),
            (
                request().initial_access_token(&without_key),
                "its key is not known",
            ),
            (
                request().registration_endpoint("http://as.example/SECRET"),
                "plain http",
            ),
        ] {
            let recorder = Recorder::new(|_| answer(201, REGISTERED));
            let error = endpoint(&recorder).oneshot(request).await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Request);
            let message = error.to_string();
            let start = "the registration request was not sent: ";
            assert!(message.starts_with(start), "{message}");
            assert!(message.contains(why), "{message}");
            assert!(!message.contains("SECRET"), "{message}");
            assert_eq!(recorder.calls(), 0);
        }
    }

    #[tokio::test]
    async fn the_endpoint_is_found_before_there_is_a_client() {
        let document = json!({
            "issuer": ISSUER,
            "token_endpoint": format!("{ISSUER}/token"),
            "registration_endpoint": URI,
        });
        let document = document.to_string();
        let http = Recorder::new(move |number| match number {
            0 => answer(200, document.clone()),
            _ => answer(201, REGISTERED),
        });
        let nobody = ClientAuthentication::anonymous();
        let tokens = TokenEndpoint::discover(http.clone(), ISSUER, nobody);
        let registration = tokens.registration();
        assert_eq!(registration.issuer(), Some(ISSUER));
        registration.oneshot(request()).await.unwrap();
        let sent = http.take();
        assert_eq!(*sent[1].uri(), URI);
    }
}

mod client {
    use super::*;

    /// The request with which this client asks for a token.
    async fn token_request(client: ClientAuthentication) -> Result<Request<Bytes>, TokenError> {
        let recorder = Recorder::good();
        let request = TokenRequest::client_credentials();
        recorder.endpoint(client).oneshot(request).await?;
        Ok(recorder.take_one())
    }

    fn in_seconds(seconds: i64) -> u64 {
        #[allow(
            clippy::disallowed_methods,
            reason = "the rule is for `src/`; a server reads its own clock"
        )]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_secs().checked_add_signed(seconds).unwrap()
    }

    #[tokio::test]
    async fn the_example_of_rfc_7591_is_typed() {
        let body = json!({
            "client_id": "s6BhdRkqt3",
            "client_secret": "cf136dc3c1fc93f31185e5885805d",
            "client_id_issued_at": 2_893_256_800_u64,
            "client_secret_expires_at": 2_893_276_800_u64,
            "registration_access_token": "reg-23410913-abewfq.123483",
            "registration_client_uri": "https://server.example.com/register/s6BhdRkqt3",
            "redirect_uris": ["https://client.example.org/callback"],
            "token_endpoint_auth_method": "client_secret_basic",
        });
        let registered = registered(&body).await;
        assert_eq!(registered.client_id(), "s6BhdRkqt3");
        let secret = registered.client_secret().unwrap();
        assert_eq!(secret.expose_secret(), "cf136dc3c1fc93f31185e5885805d");
        let time = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(registered.client_id_issued_at(), time(2_893_256_800));
        assert_eq!(registered.client_secret_expires_at(), time(2_893_276_800));
        assert_eq!(
            registered.registration_access_token(),
            Some("reg-23410913-abewfq.123483")
        );
        assert_eq!(
            registered.registration_client_uri(),
            Some("https://server.example.com/register/s6BhdRkqt3")
        );
        assert_eq!(
            registered.token_endpoint_auth_method(),
            "client_secret_basic"
        );
        assert_eq!(*registered.json(), body);
        assert_eq!(*registered.raw(), body.to_string());
        assert_eq!(registered.status(), 201);
        assert!(registered.headers().is_empty());
        let client = registered.client_authentication().unwrap();
        let shown = format!("{registered:?} {registered:#?} {client:?}");
        for secret in ["cf136", "reg-23410913"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let sent = token_request(client).await.unwrap();
        assert_eq!(
            basic(sent.headers()),
            "s6BhdRkqt3:cf136dc3c1fc93f31185e5885805d"
        );
    }

    #[tokio::test]
    async fn the_client_authenticates_by_the_registered_method() {
        let secret = "0".repeat(32);
        for (method, in_body) in [
            ("none", &["client_id"][..]),
            ("client_secret_basic", &[]),
            ("client_secret_post", &["client_id", "client_secret"]),
            (
                "client_secret_jwt",
                &["client_id", "client_assertion_type", "client_assertion"],
            ),
            ("tls_client_auth", &["client_id"]),
        ] {
            let body = json!({
                "client_id": "c", "client_secret": secret, "token_endpoint_auth_method": method,
                "client_secret_expires_at": 0,
            });
            let registered = registered(&body).await;
            assert_eq!(registered.client_secret_expires_at(), None);
            let client = registered.client_authentication().unwrap();
            assert_eq!(client, registered.client_authentication().unwrap());
            let sent = token_request(client).await.unwrap();
            let names = form(sent.body()).into_iter().map(|(name, _)| name);
            let names: Vec<_> = names.filter(|name| name != "grant_type").collect();
            assert_eq!(names, in_body, "{method}");
            let has_header = sent.headers().contains_key(AUTHORIZATION);
            assert_eq!(has_header, method == "client_secret_basic", "{method}");
        }
    }

    #[tokio::test]
    async fn a_private_key_signs_if_it_is_registered() {
        let key = SigningKey::generate(SigningAlgorithm::ES256)
            .unwrap()
            .kid("k1");
        let metadata = metadata()
            .token_endpoint_auth_method("private_key_jwt")
            .jwk(key.public_jwk());
        // A server that does not repeat the metadata.
        let body = r#"{"client_id":"c"}"#;
        let request = RegistrationRequest::new(metadata);
        let registered = result(request, move || answer(201, body)).await.unwrap();
        let error = registered.client_authentication().unwrap_err();
        assert!(error.to_string().contains("`private_key_jwt`"), "{error}");
        let client = registered.private_key_jwt(key).unwrap();
        let sent = token_request(client).await.unwrap();
        let pairs = form(sent.body());
        assert!(pairs.iter().any(|(name, _)| name == "client_assertion"));
    }

    #[tokio::test]
    async fn an_expired_secret_is_not_sent_and_the_error_says_why() {
        for (expires_in, is_sent) in [(60, true), (-60, true), (-601, false), (-86_400, false)] {
            for method in ["client_secret_basic", "client_secret_post"] {
                let body = json!({
                    "client_id": "c", "client_secret": "SECRET",
                    "token_endpoint_auth_method": method,
                    "client_secret_expires_at": in_seconds(expires_in),
                });
                let registered = registered(&body).await;
                let client = registered.client_authentication().unwrap();
                assert_eq!(client, registered.client_authentication().unwrap());
                let result = token_request(client).await;
                assert_eq!(result.is_ok(), is_sent, "{expires_in}");
                if let Err(error) = result {
                    assert_eq!(error.kind(), TokenErrorKind::Credential);
                    assert!(!error.may_have_been_processed());
                    let shown = format!("{error} {error:?}");
                    assert!(
                        shown.contains("`c` has expired; register the client again"),
                        "{shown}"
                    );
                    assert!(!shown.contains("SECRET"), "{shown}");
                }
            }
        }
    }

    /// Some servers send a lifetime in place of a time. An expired secret does no harm, and a valid one that is not sent is an outage.
    #[tokio::test]
    async fn a_lifetime_in_place_of_the_expiry_does_not_keep_the_secret_from_being_sent() {
        for not_a_time in [0, 1, 3600, 86_400, 31_536_000, 315_360_000] {
            let body = json!({
                "client_id": "c", "client_secret": "SECRET", "client_secret_expires_at": not_a_time,
            });
            let registered = registered(&body).await;
            assert_eq!(registered.client_secret_expires_at(), None, "{not_a_time}");
            let client = registered.client_authentication().unwrap();
            token_request(client).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stored_registration_is_read_again() {
        let body = json!({ "client_id": "c", "client_secret": "s" });
        let metadata = metadata().token_endpoint_auth_method("client_secret_post");
        let request = RegistrationRequest::new(metadata);
        let sent = body.to_string();
        let registered = result(request, move || answer(200, sent.clone()));
        let stored = registered.await.unwrap().json().to_string();
        let read = RegistrationResponse::from_json(serde_json::from_str(&stored).unwrap());
        let client = read.unwrap().client_authentication().unwrap();
        let expected = ClientAuthentication::client_secret_post("c", "s");
        assert_eq!(client, expected);

        for (stored, why) in [
            (json!([]), "not a JSON object"),
            (json!({}), "no `client_id`"),
            (json!({ "client_id": "" }), "an empty `client_id`"),
            (
                json!({ "client_id": "c", "client_secret": 7 }),
                "a `client_secret` that is not a string",
            ),
        ] {
            let error = RegistrationResponse::from_json(stored).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

mod failures {
    use super::*;

    #[tokio::test]
    async fn the_errors_of_rfc_7591_are_typed() {
        for (code, expected, why) in [
            (
                "invalid_redirect_uri",
                ErrorCode::INVALID_REDIRECT_URI,
                "does not accept a redirect URI",
            ),
            (
                "invalid_client_metadata",
                ErrorCode::INVALID_CLIENT_METADATA,
                "does not accept the metadata of the client",
            ),
            (
                "invalid_software_statement",
                ErrorCode::INVALID_SOFTWARE_STATEMENT,
                "does not accept the software statement",
            ),
            (
                "unapproved_software_statement",
                ErrorCode::UNAPPROVED_SOFTWARE_STATEMENT,
                "does not trust the issuer",
            ),
        ] {
            let body = json!({ "error": code, "error_description": "says who" }).to_string();
            let error = result(request(), move || answer(400, body.clone()));
            let error = error.await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
            assert_eq!(*error.error_response().unwrap().code(), expected);
            assert!(!error.is_transient());
            let message = error.to_string();
            assert!(message.contains(why), "{message}");
            assert!(message.contains(&format!("{code} (says who)")), "{message}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_check() {
        let token = AccessToken::new("initial", TokenType::BEARER).unwrap();
        let with_token = || request().initial_access_token(&token);
        for (request, refused, code, why) in [
            (
                request(),
                "Bearer",
                None,
                "check whether the server requires an initial access token",
            ),
            (
                with_token(),
                "Bearer",
                None,
                "check the initial access token",
            ),
            (
                with_token(),
                r#"Bearer error="invalid_token""#,
                Some(ErrorCode::INVALID_TOKEN),
                "does not accept the initial access token",
            ),
            (
                with_token(),
                r#"Bearer error="insufficient_scope""#,
                Some(ErrorCode::INSUFFICIENT_SCOPE),
                "does not allow to register",
            ),
        ] {
            let error = result(request, move || Ok(challenge(refused, None)));
            let error = error.await.unwrap_err();
            let found = error.error_response().map(|error| error.code().clone());
            assert_eq!(found, code);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_registration_is_an_error() {
        for (status, body, why, is_transient) in [
            (201, "", "an empty body", true),
            (201, "<html>", "a page instead of JSON", true),
            (201, r#"{"client_id":"c""#, "ends too early", true),
            (200, "[]", "other than a JSON object", false),
            (201, "{}", "returned no `client_id`", false),
            (201, r#"{"client_id":7}"#, "that is not a string", false),
            (
                201,
                r#"{"client_id":"c","client_id":"d"}"#,
                "the member `client_id` twice",
                false,
            ),
            (
                201,
                r#"{"client_id":"c","client_secret":{}}"#,
                "a `client_secret` that is not a string",
                false,
            ),
            (404, "", "there is no registration endpoint", false),
            (503, "", "the registration endpoint failed", true),
        ] {
            let error = result(request(), move || answer(status, body));
            let error = error.await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.is_transient(), is_transient, "{error}");
        }
        let recorder = Recorder::new(|_| answer(201, REGISTERED));
        let endpoint = endpoint(&recorder).max_response_body(10);
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::BodyTooLarge);
        assert!(error.may_have_been_processed());
    }

    #[tokio::test]
    async fn secrets_that_the_server_repeats_are_masked_and_public_metadata_is_not() {
        let token = AccessToken::new("TOKEN-SENTINEL", TokenType::BEARER).unwrap();
        let metadata = metadata()
            .client_name("My-Name")
            .software_statement("e30.STATEMENT-SENTINEL.c2ln")
            .member("client_secret", "SECRET-SENTINEL");
        let request = RegistrationRequest::new(metadata).initial_access_token(&token);
        let shown = format!("{request:?} {request:#?}");
        assert!(!shown.contains("SENTINEL"), "{shown}");
        let said = "My-Name: TOKEN-SENTINEL, e30.STATEMENT-SENTINEL.c2ln, SECRET-SENTINEL, \
                    https://client.example.org/callback";
        let body = json!({ "error": "x", "error_description": said }).to_string();
        let error = result(request, move || answer(400, body.clone()));
        let error = error.await.unwrap_err();
        let shown = format!("{error} {error:?} {error:#}");
        assert!(!shown.contains("SENTINEL"), "{shown}");
        assert!(shown.contains("My-Name:"), "{shown}");
        let redacted = "[redacted], [redacted], [redacted],";
        assert!(shown.contains(redacted), "{shown}");
        assert!(
            shown.contains("https://client.example.org/callback"),
            "{shown}"
        );
    }
}

mod client_id_metadata_documents {
    use super::*;

    const ID: &str = "https://client.example.org/oauth.json";

    #[tokio::test]
    async fn a_public_client_sends_the_url_of_its_document() {
        let document = ClientIdMetadataDocument::new(ID, metadata()).unwrap();
        assert_eq!(document.client_id(), ID);
        assert_eq!(
            *document.json(),
            json!({
                "client_id": ID,
                "redirect_uris": ["https://client.example.org/callback"],
                "token_endpoint_auth_method": "none",
            })
        );
        let printed: Value = serde_json::from_str(&document.to_string()).unwrap();
        assert_eq!(printed, *document.json());
        let client = document.client_authentication().unwrap();
        let recorder = Recorder::good();
        let request = TokenRequest::refresh_token("r");
        recorder.endpoint(client).oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        let client_id = ("client_id".to_owned(), ID.to_owned());
        assert!(form(sent.body()).contains(&client_id));
    }

    #[tokio::test]
    async fn a_confidential_client_signs_with_the_key_in_its_document() {
        let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let other = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let metadata = ClientMetadata::new()
            .grant_type("client_credentials")
            .token_endpoint_auth_method("private_key_jwt")
            .jwk(key.public_jwk());
        let document = ClientIdMetadataDocument::new(ID, metadata).unwrap();
        assert!(document.client_authentication().is_err());
        let error = document.private_key_jwt(other).unwrap_err();
        assert!(error.to_string().contains("does not contain"), "{error}");
        let client = document.private_key_jwt(key).unwrap();
        assert_eq!(client.client_id(), ID);
        let recorder = Recorder::good();
        let request = TokenRequest::client_credentials();
        recorder.endpoint(client).oneshot(request).await.unwrap();
    }

    #[test]
    fn a_document_that_breaks_the_rules_is_refused() {
        for (client_id, metadata, why) in [
            ("http://client.example.org/oauth.json", metadata(), "https"),
            ("https://client.example.org", metadata(), "has no path"),
            (ID, ClientMetadata::new(), "no redirect URI"),
            (
                ID,
                metadata().token_endpoint_auth_method("client_secret_basic"),
                "a document cannot contain a secret",
            ),
            (
                ID,
                metadata().jwk(json!({ "kty": "EC", "d": "SECRET" })),
                "a private key",
            ),
        ] {
            let error = ClientIdMetadataDocument::new(client_id, metadata).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(why), "{shown}");
            assert!(!shown.contains("SECRET"), "{shown}");
        }
    }
}
