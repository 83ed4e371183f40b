//! Rotation of credentials while a cache uses them.
#![cfg(feature = "test-util")]
#![allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; tests measure tokio's clock"
)]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use tower::{Service, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, ErrorCode, TokenCache, TokenEndpoint, TokenRequest,
    TokenSource,
    test_util::{AuthorizationServer, ManualClock},
};

/// Returns a provider that returns the secrets in order and then repeats the last one.
fn provider(secrets: &'static [&'static str]) -> (Credential, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = reads.clone();
    let credential = Credential::from_fn(move || {
        let index = count.fetch_add(1, Relaxed);
        let secret = secrets[index.min(secrets.len() - 1)];
        async move { Ok::<_, BoxError>(secret.to_owned()) }
    });
    (credential, reads)
}

fn source(server: &AuthorizationServer, client: ClientAuthentication) -> TokenSource {
    let endpoint: TokenEndpoint<_> =
        TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    TokenCache::new(endpoint).source(TokenRequest::client_credentials())
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_is_read_again_and_the_fetch_succeeds_at_once() {
    for method in [
        ClientAuthentication::client_secret_basic,
        ClientAuthentication::client_secret_basic_raw,
        ClientAuthentication::client_secret_post,
    ] {
        let server = AuthorizationServer::builder()
            .client("client", "new")
            .build();
        // Read for the first request, after the refusal, and for the second request.
        let (secret, reads) = provider(&["old", "new"]);
        let before = tokio::time::Instant::now();
        source(&server, method("client", secret))
            .token()
            .await
            .unwrap();
        assert_eq!(server.token_requests(), 2);
        assert_eq!(reads.load(Relaxed), 3);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_that_was_not_rotated_is_sent_once() {
    let server = AuthorizationServer::new();
    let (secret, reads) = provider(&["wrong"]);
    let client = ClientAuthentication::client_secret_basic("client", secret);
    let error = source(&server, client).token().await.unwrap_err();
    assert_eq!(
        *error.error_response().unwrap().code(),
        ErrorCode::INVALID_CLIENT
    );
    assert_eq!(server.token_requests(), 1);
    assert_eq!(reads.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_retried_only_once_if_the_rotated_secret_is_wrong_too() {
    let server = AuthorizationServer::new();
    let (secret, _) = provider(&["wrong", "wrong too", "and this", "and this too"]);
    let client = ClientAuthentication::client_secret_basic("client", secret);
    source(&server, client).token().await.unwrap_err();
    assert_eq!(server.token_requests(), 2);
}

type Form = HashMap<String, String>;
type Answer = (u16, String);

type Decide = Box<dyn FnMut(&Form) -> Answer + Send>;

/// A token endpoint that counts the requests.
struct Server {
    answer: Arc<Mutex<Decide>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn new(answer: impl FnMut(&Form) -> Answer + Send + 'static) -> Self {
        Self {
            answer: Arc::new(Mutex::new(Box::new(answer))),
            requests: Arc::default(),
        }
    }

    /// Refuses everything except requests that contain the text `good`.
    fn wanting_good(status: u16, body: &'static str) -> Self {
        Self::new(
            move |form| match form.values().any(|value| value == "good") {
                true => token(),
                false => (status, body.to_owned()),
            },
        )
    }

    fn set(&self, answer: impl FnMut(&Form) -> Answer + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn take_requests(&self) -> usize {
        self.requests.swap(0, Relaxed)
    }

    fn http(
        &self,
    ) -> impl Service<
        Request<Full<Bytes>>,
        Response = Response<Full<Bytes>>,
        Error = BoxError,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let (answer, requests) = (self.answer.clone(), self.requests.clone());
        service_fn(move |request: Request<Full<Bytes>>| {
            let (answer, requests) = (answer.clone(), requests.clone());
            async move {
                requests.fetch_add(1, Relaxed);
                let authorization = request.headers().get(AUTHORIZATION).cloned();
                let body = request.into_body().collect().await?.to_bytes();
                let mut form: Form = url::form_urlencoded::parse(&body).into_owned().collect();
                if let Some(value) = authorization {
                    form.insert("authorization".into(), value.to_str()?.to_owned());
                }
                let (status, body) = (answer.lock().unwrap())(&form);
                Ok(Response::builder().status(status).body(Full::from(body))?)
            }
        })
    }

    fn cache(&self, client: ClientAuthentication, clock: &ManualClock) -> TokenCache {
        let uri = "https://as.test/token";
        let endpoint = TokenEndpoint::new(self.http(), uri, client);
        TokenCache::builder(endpoint).clock(clock.clock()).build()
    }
}

fn token() -> Answer {
    let body = r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#;
    (200, body.to_owned())
}

/// Final refusals of servers and of gateways in front of them.
const REFUSALS: [(u16, &str); 14] = [
    (401, r#"{"error":"invalid_client"}"#),
    (400, r#"{"error":"invalid_client"}"#),
    (401, r#"{"error":"access_denied"}"#),
    (403, r#"{"error":"access_denied"}"#),
    (400, r#"{"error":"unauthorized_client"}"#),
    (400, r#"{"error":"invalid_grant"}"#),
    (400, r#"{"error":"invalid_request"}"#),
    (200, r#"{"error":"incorrect_client_credentials"}"#),
    (401, r#"{"errorCode":"invalid_client"}"#),
    (401, r#"{"error":{"code":401,"message":"Unauthorized"}}"#),
    (401, "<html>Unauthorized</html>"),
    (403, ""),
    (400, "bad request"),
    (407, ""),
];

/// Makes the authentication of the client, and the request, with the credential in one of its places.
type Place = fn(Credential) -> (ClientAuthentication, TokenRequest);

const PLACES: [(&str, Place); 7] = [
    ("client_secret", |text| {
        let client = ClientAuthentication::client_secret_post("client", text);
        (client, TokenRequest::client_credentials())
    }),
    ("client_assertion", |text| {
        let client = ClientAuthentication::client_assertion("client", text);
        (client, TokenRequest::client_credentials())
    }),
    ("saml2 client_assertion", |text| {
        let client = ClientAuthentication::saml2_client_assertion("client", text);
        (client, TokenRequest::client_credentials())
    }),
    ("assertion", |text| {
        (public(), TokenRequest::jwt_bearer(text))
    }),
    ("subject_token", |text| {
        (public(), TokenRequest::token_exchange(text, "urn:x"))
    }),
    ("password", |text| {
        (public(), TokenRequest::password("user", text))
    }),
    ("another parameter", |text| {
        let request = TokenRequest::client_credentials().parameter("api_key", text);
        (public(), request)
    }),
];

fn public() -> ClientAuthentication {
    ClientAuthentication::none("client")
}

#[tokio::test(start_paused = true)]
async fn every_credential_that_was_rotated_is_obtained_again_after_every_final_refusal() {
    for (name, place) in PLACES {
        for (status, body) in REFUSALS {
            let server = Server::wanting_good(status, body);
            let (credential, _) = provider(&["old", "good"]);
            let (client, request) = place(credential);
            let source = server.cache(client, &ManualClock::new()).source(request);
            let before = tokio::time::Instant::now();
            let result = source.token().await;
            assert!(result.is_ok(), "{name} {status} {body}: {result:?}");
            assert_eq!(server.take_requests(), 2);
            assert_eq!(before.elapsed(), Duration::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_did_not_change_is_sent_once() {
    for (name, place) in PLACES {
        for (status, body) in REFUSALS {
            let server = Server::wanting_good(status, body);
            let (credential, reads) = provider(&["old"]);
            let (client, request) = place(credential);
            let source = server.cache(client, &ManualClock::new()).source(request);
            source.token().await.unwrap_err();
            assert_eq!(server.take_requests(), 1, "{name} {status} {body}");
            assert_eq!(reads.load(Relaxed), 2);
        }
    }
}

/// A function that signs an assertion returns another text each time. That is no rotation.
#[tokio::test(start_paused = true)]
async fn a_text_that_is_made_for_each_attempt_is_sent_once() {
    for (name, place) in PLACES {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let credential = Credential::from_fn(move || {
            let n = count.fetch_add(1, Relaxed);
            async move { Ok::<_, BoxError>(format!("eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiI{n}In0.c2ln{n}")) }
        });
        let server = Server::wanting_good(401, r#"{"error":"invalid_client"}"#);
        let (client, request) = place(credential);
        let source = server.cache(client, &ManualClock::new()).source(request);
        source.token().await.unwrap_err();
        assert_eq!(server.take_requests(), 1, "{name}");
        assert!(made.load(Relaxed) <= 3);
    }
}

/// The assertion differs in each attempt, but the secret that signs it does not.
#[tokio::test(start_paused = true)]
async fn an_assertion_that_this_crate_signs_is_no_change() {
    use tower_oauth2_client::jwt::{SigningAlgorithm, SigningKey};

    let key = || SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    let secret = "a secret that is long enough for HS256";
    let (same, _) = provider(&["a secret that is long enough for HS256"]);
    let (rotated, _) = provider(&[
        "a secret that is long enough for HS256",
        "another secret that is long enough for HS256",
    ]);
    let hs256 =
        |secret| ClientAuthentication::client_secret_jwt("client", secret, SigningAlgorithm::HS256);
    for (client, expected) in [
        (ClientAuthentication::private_key_jwt("client", key()), 1),
        (hs256(Credential::from(secret)), 1),
        (hs256(same), 1),
        (hs256(rotated), 2),
    ] {
        let server = Server::wanting_good(401, r#"{"error":"invalid_client"}"#);
        let cache = server.cache(client, &ManualClock::new());
        let source = cache.source(TokenRequest::client_credentials());
        source.token().await.unwrap_err();
        assert_eq!(server.take_requests(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_does_not_cause_a_second_reading() {
    for (status, body) in [
        (503, r#"{"error":"invalid_client"}"#),
        (429, ""),
        (500, ""),
        (400, r#"{"error":"temporarily_unavailable"}"#),
    ] {
        let server = Server::wanting_good(status, body);
        let (secret, reads) = provider(&["old"]);
        let client = ClientAuthentication::client_secret_post("client", secret);
        let cache = server.cache(client, &ManualClock::new());
        let source = cache.source(TokenRequest::client_credentials());
        source.token().await.unwrap_err();
        assert_eq!(reads.load(Relaxed), server.take_requests());
    }
}

/// The two reasons for another attempt do not exclude each other.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_transient_failure_is_followed_by_a_second_reading() {
    let mut requests = 0;
    let server = Server::new(move |form| {
        requests += 1;
        match (requests, form["client_secret"].as_str()) {
            (1, _) => (503, String::new()),
            (_, "good") => token(),
            _ => (401, String::new()),
        }
    });
    let (secret, _) = provider(&["old", "old", "good"]);
    let client = ClientAuthentication::client_secret_post("client", secret);
    let cache = server.cache(client, &ManualClock::new());
    let source = cache.source(TokenRequest::client_credentials());
    source.token().await.unwrap();
    assert_eq!(server.take_requests(), 3);
}

/// A vault that returns another wrong secret each time.
fn always_another() -> Credential {
    let n = AtomicUsize::new(0);
    Credential::from_fn(move || {
        let n = n.fetch_add(1, Relaxed);
        async move { Ok::<_, BoxError>(format!("wrong {n}")) }
    })
}

#[tokio::test(start_paused = true)]
async fn after_two_readings_without_success_wrong_secrets_are_sent_once_for_a_while() {
    let server = Server::wanting_good(401, r#"{"error":"invalid_client"}"#);
    let client = ClientAuthentication::client_secret_post("client", always_another());
    let clock = ManualClock::new();
    let cache = server.cache(client, &clock);
    let mut requests = Vec::new();
    // Sources of other scopes use the same account.
    for n in 0..6 {
        let request = TokenRequest::client_credentials().scope(format!("api{n}"));
        cache.source(request).token().await.unwrap_err();
        requests.push(server.take_requests());
    }
    assert_eq!(requests, [2, 2, 1, 1, 1, 1]);

    // After a pause, there is one more.
    clock.advance(Duration::from_secs(61));
    for expected in [2, 1, 1] {
        let request = TokenRequest::client_credentials().scope(format!("later {expected}"));
        cache
            .source(request.parameter("n", expected.to_string()))
            .token()
            .await
            .unwrap_err();
        clock.advance(Duration::from_secs(10));
        assert_eq!(server.take_requests(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_helps_ends_the_count() {
    let server = Server::wanting_good(401, "");
    let text = Arc::new(Mutex::new(Vec::new()));
    let read = text.clone();
    let secret = Credential::from_fn(move || {
        let next: Option<&str> = read.lock().unwrap().pop();
        async move { Ok::<_, BoxError>(next.unwrap_or("good")) }
    });
    let client = ClientAuthentication::client_secret_post("client", secret);
    let clock = ManualClock::new();
    let source = server
        .cache(client, &clock)
        .source(TokenRequest::client_credentials());
    for _ in 0..10 {
        text.lock().unwrap().push("old");
        source.token().await.unwrap();
        assert_eq!(server.take_requests(), 2);
        clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_is_sent_again_only_if_the_refusal_concerns_the_client() {
    for (status, body, expected) in [
        (401, r#"{"error":"invalid_client"}"#, 2),
        (401, "", 2),
        (401, r#"{"error":"access_denied"}"#, 2),
        (200, r#"{"error":"incorrect_client_credentials"}"#, 2),
        (400, r#"{"error":"invalid_grant"}"#, 1),
        (400, r#"{"error":"invalid_request"}"#, 1),
        (401, r#"{"error":"invalid_code"}"#, 1),
        (403, r#"{"error":"access_denied"}"#, 1),
        (400, "", 1),
    ] {
        for request in [
            TokenRequest::authorization_code("c", "https://app.test/"),
            TokenRequest::device_code("d"),
            TokenRequest::ciba("i"),
        ] {
            let server = Server::wanting_good(status, body);
            let (secret, _) = provider(&["old", "good"]);
            let client = ClientAuthentication::client_secret_post("client", secret);
            let source = server.cache(client, &ManualClock::new()).source(request);
            assert_eq!(
                source.token().await.is_ok(),
                expected == 2,
                "{status} {body}"
            );
            assert_eq!(server.take_requests(), expected, "{status} {body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_is_sent_again_with_a_rotated_secret_unless_it_is_dead() {
    for (status, body) in REFUSALS {
        let server = Server::wanting_good(status, body);
        let (secret, _) = provider(&["old", "good"]);
        let client = ClientAuthentication::client_secret_post("client", secret);
        let cache = server.cache(client, &ManualClock::new());
        let source = cache.source(TokenRequest::refresh_token("r"));
        let is_dead = body.contains("invalid_grant");
        assert_eq!(source.token().await.is_err(), is_dead, "{status} {body}");
        assert_eq!(server.take_requests(), if is_dead { 1 } else { 2 });
    }
}

/// A file is replaced between two readings, and read with what tools leave around a secret.
#[tokio::test]
async fn a_file_that_was_replaced_is_read_again() {
    let path = std::env::temp_dir().join(format!("rotated-{}", std::process::id()));
    for (old, new) in [
        ("old", "good"),
        ("old\n", "\u{feff}good\r\n"),
        ("  old", "\t good\n\n"),
    ] {
        std::fs::write(&path, old).unwrap();
        let replaced = path.clone();
        let server = Server::wanting_good(401, "");
        server.set(move |form| match form["client_secret"].as_str() {
            "good" => token(),
            _ => {
                std::fs::write(&replaced, new).unwrap();
                (401, String::new())
            }
        });
        let client = ClientAuthentication::client_secret_post("client", Credential::file(&path));
        let cache = server.cache(client, &ManualClock::new());
        let source = cache.source(TokenRequest::client_credentials());
        source.token().await.unwrap();
        assert_eq!(server.take_requests(), 2);

        // A change of what is around the secret is none.
        server.set(move |_| (401, String::new()));
        cache.invalidate_all();
        let extra = format!("\n{new}\n");
        std::fs::write(&path, extra).unwrap();
        source.token().await.unwrap_err();
        assert_eq!(server.take_requests(), 1);
    }
    std::fs::remove_file(&path).unwrap();
}
