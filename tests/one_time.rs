//! Sources over one-time credentials: how many a cache keeps, and that none is sent twice after its entry is gone.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{
    runtime,
    time::{advance, sleep},
};
use tokio_test::{assert_pending, task};
use tower::{Service, service_fn};
use tower_oauth2_client::{
    BoxError, Credential, NotSent, TokenCache, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest, TokenSource, test_util::ManualClock, token_cache::TokenCacheBuilder,
};

use self::cache_support::{at_once, client, current_thread, request, secs, settle};

type Form = HashMap<String, String>;

/// What the server does with a request.
#[derive(Clone)]
enum Reply {
    /// A token, and perhaps a refresh token.
    Token(Option<String>),
    Error(&'static str),
    /// A status and a body.
    Answer(u16, &'static str),
    Unavailable,
    NotSent,
    Drop,
    Hang,
}

type Decide = dyn Fn(&Form) -> Reply + Send + Sync;

/// A token endpoint that records the credential of each request.
#[derive(Clone)]
struct Server {
    decide: Arc<Mutex<Arc<Decide>>>,
    sent: Arc<Mutex<Vec<String>>>,
    latency: Arc<AtomicUsize>,
}

impl Server {
    fn new(decide: impl Fn(&Form) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            decide: Arc::new(Mutex::new(Arc::new(decide))),
            sent: Arc::default(),
            latency: Arc::default(),
        }
    }

    /// Creates a server that replaces each refresh token `r1` with `r1'`, and so on.
    fn rotating() -> Self {
        Self::new(|form| Reply::Token(Some(format!("{}'", credential(form)))))
    }

    fn set(&self, decide: impl Fn(&Form) -> Reply + Send + Sync + 'static) {
        *self.decide.lock().unwrap() = Arc::new(decide);
    }

    /// Returns the credentials that were sent since the last call.
    fn take_sent(&self) -> Vec<String> {
        std::mem::take(&mut self.sent.lock().unwrap())
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
        let server = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| server.clone().answer(request))
    }

    async fn answer(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        let body = request.into_body().collect().await?.to_bytes();
        let form: Form = url::form_urlencoded::parse(&body).into_owned().collect();
        self.sent.lock().unwrap().push(credential(&form).to_owned());
        let decide = self.decide.lock().unwrap().clone();
        let reply = decide(&form);
        let latency = self.latency.load(SeqCst);
        if latency > 0 {
            sleep(secs(latency as u64)).await;
        }
        let (status, body) = match reply {
            Reply::Token(None) => (200, r#"{"access_token":"t","expires_in":100}"#.to_owned()),
            Reply::Token(Some(next)) => (
                200,
                format!(r#"{{"access_token":"t","expires_in":100,"refresh_token":"{next}"}}"#),
            ),
            Reply::Error(code) => (400, format!(r#"{{"error":"{code}"}}"#)),
            Reply::Answer(status, body) => (status, body.to_owned()),
            Reply::Unavailable => (503, String::new()),
            Reply::NotSent => return Err(NotSent::new("refused").into()),
            Reply::Drop => return Err("dropped".into()),
            Reply::Hang => std::future::pending().await,
        };
        let response = Response::builder().status(status);
        Ok(response.body(Full::from(body)).unwrap())
    }
}

fn credential(form: &Form) -> &str {
    ["code", "device_code", "auth_req_id", "refresh_token"]
        .iter()
        .find_map(|name| form.get(*name))
        .map_or("none", String::as_str)
}

const MAX: usize = 4;

struct Fixture {
    server: Server,
    clock: ManualClock,
    cache: TokenCache,
    stored: Arc<Mutex<Vec<String>>>,
    others: AtomicUsize,
}

impl Fixture {
    fn new(server: Server) -> Self {
        Self::with(server, |builder| builder)
    }

    fn with(
        server: Server,
        configure: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
    ) -> Self {
        let endpoint = TokenEndpoint::new(server.http(), "https://as.test/token", client());
        let clock = ManualClock::new();
        let stored = Arc::<Mutex<Vec<_>>>::default();
        let store = stored.clone();
        let builder = TokenCache::builder(endpoint)
            .max_entries(MAX)
            .clock(clock.clock())
            .on_refresh_token(move |_, token| {
                store.lock().unwrap().push(token.expose_secret().to_owned());
                async {}
            });
        Self {
            server,
            clock,
            cache: configure(builder).build(),
            stored,
            others: AtomicUsize::new(0),
        }
    }

    fn source(&self, request: TokenRequest) -> TokenSource {
        self.cache.source(request)
    }

    async fn token(&self, request: TokenRequest) -> Result<(), TokenError> {
        self.source(request).token().await.map(drop)
    }

    /// Makes entries for other requests until nothing is left of those that nobody holds.
    fn evict_all(&self) {
        let held: Vec<_> = (0..4 * MAX)
            .map(|_| {
                let other = self.others.fetch_add(1, SeqCst).to_string();
                self.source(request().parameter("other", other))
            })
            .collect();
        let statuses = self.cache.status();
        let is_evicted = |request: &TokenRequest| request.grant_type() == "client_credentials";
        assert!(statuses.iter().all(|status| is_evicted(status.request())));
        drop(held);
    }

    /// Asks for a token, and then again with a new source after the entry is gone. Returns the second result, and what was sent.
    async fn ask_twice(
        &self,
        request: impl Fn() -> TokenRequest,
    ) -> (Result<(), TokenError>, Vec<String>) {
        let _ = self.token(request()).await;
        self.evict_all();
        let again = self.token(request()).await;
        (again, self.server.take_sent())
    }
}

fn code(code: &str) -> TokenRequest {
    TokenRequest::authorization_code(code, "https://app.test/callback")
}

type OverCredential = fn(&str) -> TokenRequest;

/// Requests with a credential that the server exchanges once.
const EXCHANGED: [OverCredential; 4] = [
    code,
    |text| TokenRequest::device_code(text),
    |text| TokenRequest::ciba(text),
    |text| {
        TokenRequest::extension("authorization_code")
            .parameter("code", text)
            .scope("api1")
            .header("x-tenant", "blue")
    },
];

fn over_refresh_token(text: &str) -> TokenRequest {
    TokenRequest::refresh_token(text)
}

#[track_caller]
fn assert_sign_in(result: &Result<(), TokenError>, text: &str) {
    let error = result.as_ref().unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert!(!error.is_transient());
}

mod bound {
    use super::*;

    /// Whatever the server answers, and whatever credential it is.
    #[tokio::test(start_paused = true)]
    async fn sources_that_nobody_holds_are_evicted_like_any_other() {
        let replies = [
            Reply::Token(None),
            Reply::Token(Some("same".into())),
            Reply::Error("invalid_grant"),
            Reply::Error("authorization_pending"),
            Reply::Error("invalid_client"),
            Reply::Unavailable,
            Reply::NotSent,
            Reply::Drop,
        ];
        for reply in replies {
            for over in EXCHANGED
                .into_iter()
                .chain([over_refresh_token as OverCredential])
            {
                let reply = reply.clone();
                let fixture = Fixture::new(Server::new(move |_| reply.clone()));
                for login in 0..50 {
                    let _ = fixture.token(over(&format!("login-{login}"))).await;
                    assert!(fixture.cache.status().len() <= MAX);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sources_over_rotated_refresh_tokens_are_evicted_like_any_other() {
        let fixture = Fixture::new(Server::rotating());
        for login in 0..1000 {
            let login = TokenRequest::refresh_token(format!("r{login}"));
            fixture.token(login).await.unwrap();
            assert!(fixture.cache.status().len() <= MAX);
        }
        assert_eq!(fixture.stored.lock().unwrap().len(), 1000);
    }

    /// No more than a digest remains of a login.
    #[test]
    fn less_than_a_hundred_bytes_remain_of_a_login() {
        const LOGINS: usize = 20_000;
        let runtime = current_thread();
        let fixture = runtime.block_on(async { Fixture::new(Server::rotating()) });
        let login = |n: usize| {
            runtime.block_on(async {
                let logins = [code(&format!("c{n}")), over_refresh_token(&format!("r{n}"))];
                for login in logins {
                    fixture.token(login).await.unwrap();
                }
                let _ = fixture.server.take_sent();
                fixture.stored.lock().unwrap().clear();
                // Lets the task end and free its memory.
                tokio::task::yield_now().await;
            });
        };
        (0..100).for_each(login);
        let growth = measure(|| (100..LOGINS).for_each(login));
        let bytes = growth.bytes_current / i64::try_from(2 * LOGINS).unwrap();
        assert!(bytes < 100, "{bytes} bytes for each login");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_the_credential_remains() {
        let shared = Arc::new(());
        let fixture = Fixture::new(Server::rotating());
        for login in 0..100 {
            let reference = shared.clone();
            let credential = Credential::from_fn(move || {
                let _reference = &reference;
                async move { Ok::<_, BoxError>(format!("r{login}")) }
            });
            fixture
                .token(TokenRequest::refresh_token(credential))
                .await
                .unwrap();
        }
        assert!(Arc::strong_count(&shared) <= 1 + MAX);
        fixture.evict_all();
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// Its response is the only one, so nobody else may get the place of its entry.
    #[tokio::test(start_paused = true)]
    async fn an_entry_stays_until_its_fetch_has_landed_and_its_refresh_token_is_stored() {
        let fixture = Fixture::new(Server::rotating());
        fixture.server.latency.store(5, SeqCst);
        for over in [code, over_refresh_token] {
            assert_pending!(task::spawn(fixture.source(over("one")).token()).poll());
            settle().await;
            for other in 0..10 * MAX {
                drop(fixture.source(request().parameter("other", other.to_string())));
            }
            assert!(at_once(async { fixture.source(over("one")).peek() }).is_none());
            assert_eq!(fixture.stored.lock().unwrap().len(), 0);
            advance(secs(5)).await;
            settle().await;
            assert_eq!(*fixture.stored.lock().unwrap(), ["one'"]);
            assert!(
                fixture.source(over("one")).peek().is_some(),
                "the token is lost"
            );
            assert_eq!(fixture.server.take_sent(), ["one"]);
            fixture.evict_all();
            fixture.stored.lock().unwrap().clear();
        }
    }
}

mod codes {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_used_code_is_not_sent_again_and_the_error_says_so() {
        for next in [None, Some("r1".to_owned())] {
            for over in EXCHANGED {
                let next = next.clone();
                let fixture = Fixture::new(Server::new(move |_| Reply::Token(next.clone())));
                let (again, sent) = fixture.ask_twice(|| over("c0")).await;
                assert_sign_in(&again, "was used before");
                assert_eq!(sent, ["c0"]);
                // Nor by the same source, nor by any later one.
                fixture.evict_all();
                for _ in 0..3 {
                    let source = fixture.source(over("c0"));
                    source.token().await.unwrap_err();
                    advance(secs(60)).await;
                    source.token().await.unwrap_err();
                    source.renew().await.unwrap_err();
                }
                assert!(fixture.server.take_sent().is_empty());
                // Another code is another matter.
                fixture.token(over("c1")).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_that_the_server_may_have_used_is_not_sent_again() {
        for reply in [Reply::Drop, Reply::Hang] {
            let reply = reply.clone();
            let fixture = Fixture::new(Server::new(move |_| reply.clone()));
            let (again, sent) = fixture.ask_twice(|| code("c0")).await;
            assert_sign_in(&again, "was used before");
            assert_eq!(sent, ["c0"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_that_the_server_provably_did_not_use_is_sent_again() {
        for reply in [
            Reply::NotSent,
            Reply::Unavailable,
            Reply::Error("invalid_client"),
        ] {
            let reply = reply.clone();
            let fixture = Fixture::new(Server::new(move |_| reply.clone()));
            fixture.token(code("c0")).await.unwrap_err();
            fixture.evict_all();
            fixture.server.set(|_| Reply::Token(None));
            fixture.server.take_sent();
            fixture.token(code("c0")).await.unwrap();
            assert_eq!(fixture.server.take_sent(), ["c0"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_code_is_not_sent_again() {
        for over in EXCHANGED {
            for code in ["invalid_grant", "expired_token", "access_denied"] {
                let fixture = Fixture::new(Server::new(move |_| Reply::Error(code)));
                let (again, sent) = fixture.ask_twice(|| over("junk")).await;
                assert_sign_in(&again, "no longer accepts");
                assert_eq!(sent, ["junk"]);
            }
        }
    }

    /// Real servers name a wrong code in many ways, or not at all.
    #[tokio::test(start_paused = true)]
    async fn a_code_is_sent_once_whatever_the_final_refusal_says() {
        for (status, body) in [
            (400, r#"{"error":"invalid_request"}"#),
            (400, r#"{"error":"invalid_code"}"#),
            (401, r#"{"error":"invalid_code"}"#),
            (400, r#"{"error":"bad_verification_code"}"#),
            (200, r#"{"error":"bad_verification_code"}"#),
            (400, r#"{"error":"redirect_uri_mismatch"}"#),
            (400, r#"{"error":"invalid_scope"}"#),
            (403, r#"{"error":"access_denied"}"#),
            (403, r#"{"errorCode":"E0000006","errorSummary":"denied"}"#),
            (400, ""),
            (404, "not found"),
            (422, "{}"),
            (200, "{}"),
            (200, "<html>"),
        ] {
            let fixture = Fixture::new(Server::new(move |_| Reply::Answer(status, body)));
            let source = fixture.source(code("c0"));
            for pause in [0, 1, 600, 10_000] {
                fixture.clock.advance(secs(pause));
                assert_sign_in(&source.token().await.map(drop), "sign in again");
            }
            drop(source);
            fixture.evict_all();
            fixture.server.set(|_| Reply::Token(None));
            let again = fixture.token(code("c0")).await.unwrap_err();
            assert_eq!(again.kind(), TokenErrorKind::SignInRequired);
            assert_eq!(fixture.server.take_sent(), ["c0"], "{status} {body}");
        }
    }

    /// The server authenticates the client first, so it has not looked at the code.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_client_does_not_end_a_code() {
        for (status, body) in REFUSALS_OF_THE_CLIENT {
            let fixture = Fixture::new(Server::new(move |_| Reply::Answer(status, body)));
            let source = fixture.source(code("c0"));
            let error = source.token().await.unwrap_err();
            assert_ne!(error.kind(), TokenErrorKind::SignInRequired, "{error}");
            fixture.server.set(|_| Reply::Token(None));
            fixture.clock.advance(secs(60));
            source.token().await.unwrap();
            assert_eq!(fixture.server.take_sent(), ["c0", "c0"]);
        }
    }

    /// The code belongs to a request; another client or another endpoint has codes of its own.
    #[tokio::test(start_paused = true)]
    async fn the_same_text_in_another_request_is_another_code() {
        let fixture = Fixture::new(Server::rotating());
        let elsewhere = || code("c0").token_endpoint("https://other.test/token");
        let tenant = |tenant| code("c0").header("x-tenant", tenant);
        for request in [code("c0"), elsewhere(), tenant("blue"), tenant("red")] {
            fixture.token(request).await.unwrap();
            fixture.evict_all();
        }
        assert_eq!(fixture.server.take_sent().len(), 4);
        for request in [code("c0"), elsewhere(), tenant("blue"), tenant("red")] {
            assert_sign_in(&fixture.token(request).await, "was used before");
        }
    }

    /// The cache compares what the provider returns, not the provider.
    #[tokio::test(start_paused = true)]
    async fn a_used_code_from_a_provider_is_not_sent_again() {
        let fixture = Fixture::new(Server::rotating());
        let provider = Credential::from_fn(|| async { Ok::<_, BoxError>("c0") });
        let over_provider =
            || TokenRequest::authorization_code(provider.clone(), "https://app.test/callback");
        let (again, sent) = fixture.ask_twice(over_provider).await;
        assert_sign_in(&again, "was used before");
        assert_eq!(sent, ["c0"]);
        // Nor if the text is fixed.
        assert_sign_in(&fixture.token(code("c0")).await, "was used before");
        // A new provider may lie at the same address.
        for n in 1..100 {
            let provider =
                Credential::from_fn(move || async move { Ok::<_, BoxError>(format!("c{n}")) });
            let request = TokenRequest::authorization_code(provider, "https://app.test/callback");
            fixture.token(request).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_used_code_is_remembered_for_at_least_twelve_and_at_most_twenty_four_hours() {
        let hours = |hours: u64| secs(hours * 60 * 60);
        for (waits, is_remembered) in [
            (vec![hours(12)], true),
            (vec![hours(6), hours(6) - secs(1)], true),
            (vec![hours(24)], false),
            (vec![hours(1); 25], false),
        ] {
            let fixture = Fixture::new(Server::rotating());
            fixture.token(code("c0")).await.unwrap();
            fixture.evict_all();
            // The wall clock alone does not count.
            fixture.clock.suspend(hours(100));
            for wait in waits {
                fixture.clock.advance(wait);
                let _ = fixture.token(code("another")).await;
                fixture.evict_all();
            }
            assert_eq!(fixture.token(code("c0")).await.is_err(), is_remembered);
        }
    }
}

/// A wrong client secret, as servers name it.
const REFUSALS_OF_THE_CLIENT: [(u16, &str); 9] = [
    (401, r#"{"error":"invalid_client"}"#),
    (400, r#"{"error":"invalid_client"}"#),
    (400, r#"{"error":"unauthorized_client"}"#),
    (401, r#"{"error":"access_denied"}"#),
    (200, r#"{"error":"incorrect_client_credentials"}"#),
    (400, r#"{"error":"bad_client_secret"}"#),
    (401, r#"{"errorCode":"invalid_client","errorSummary":"x"}"#),
    (401, r#"{"message":"Unauthorized"}"#),
    (401, ""),
];

mod refresh_tokens {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_dead_refresh_token_ends_its_source() {
        let others = [
            (400, r#"{"error":"access_denied"}"#),
            (403, r#"{"error":"access_denied"}"#),
            (400, r#"{"error":"invalid_request"}"#),
            (400, r#"{"error":"invalid_scope"}"#),
            (400, r#"{"error":"bad_refresh_token"}"#),
            (200, r#"{"error":"invalid_grant"}"#),
            (400, ""),
            (404, "not found"),
            (200, "<html>"),
            (408, r#"{"error":"invalid_grant"}"#),
            (425, r#"{"error":"invalid_grant"}"#),
            (429, r#"{"error":"invalid_grant"}"#),
            (500, r#"{"error":"invalid_grant"}"#),
            (501, r#"{"error":"invalid_grant"}"#),
            (502, r#"{"error":"invalid_grant"}"#),
            (520, r#"{"error":"invalid_grant"}"#),
        ];
        for (status, body) in REFUSALS_OF_THE_CLIENT.into_iter().chain(others) {
            // A refresh token that was given, and one that came with a response.
            for over in [over_refresh_token as OverCredential, code] {
                let fixture = Fixture::new(Server::rotating());
                let source = fixture.source(over("r"));
                source.token().await.unwrap();
                fixture.clock.advance(secs(100));
                fixture.server.set(move |_| Reply::Answer(status, body));
                let error = source.token().await.unwrap_err();
                assert_ne!(
                    error.kind(),
                    TokenErrorKind::SignInRequired,
                    "{status} {body}"
                );
                fixture.server.take_sent();
                fixture.server.set(|_| Reply::Token(None));
                fixture.clock.advance(secs(300));
                source.token().await.unwrap();
                assert_eq!(fixture.server.take_sent(), ["r'"]);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_the_user_declares_ends_the_source() {
        for (status, body) in [
            (200, r#"{"error":"bad_refresh_token"}"#),
            (400, r#"{"error":"invalid_refresh_token"}"#),
            (
                403,
                r#"{"errorCode":"E0000011","errorSummary":"Invalid token provided"}"#,
            ),
        ] {
            let fixture = Fixture::with(
                Server::new(move |_| Reply::Answer(status, body)),
                |builder| {
                    builder.ends_refresh_token(|error| {
                        let code = error.error_response().map(|error| error.code().as_str());
                        matches!(code, Some("bad_refresh_token" | "invalid_refresh_token"))
                            || error
                                .get("errorCode")
                                .is_some_and(|code| *code == "E0000011")
                    })
                },
            );
            let (again, sent) = fixture.ask_twice(|| over_refresh_token("r")).await;
            assert_sign_in(&again, "sign in again");
            assert_eq!(sent, ["r"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_user_is_not_asked_about_errors_that_are_no_refusal() {
        let replies = [
            Reply::Drop,
            Reply::Hang,
            Reply::NotSent,
            Reply::Unavailable,
            Reply::Answer(500, r#"{"error":"bad_refresh_token"}"#),
            Reply::Answer(429, r#"{"error":"bad_refresh_token"}"#),
        ];
        for reply in replies {
            let fixture = Fixture::with(Server::new(move |_| reply.clone()), |builder| {
                builder.ends_refresh_token(|_| true)
            });
            let error = fixture.token(over_refresh_token("r")).await.unwrap_err();
            assert_ne!(error.kind(), TokenErrorKind::SignInRequired);
            fixture.server.set(|_| Reply::Token(None));
            fixture.clock.advance(secs(60));
            fixture.token(over_refresh_token("r")).await.unwrap();
        }
    }

    /// After an answer that does not tell whether the server has replaced it.
    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_is_sent_once_in_a_fetch_and_again_in_the_next() {
        for reply in [
            Reply::Drop,
            Reply::Hang,
            Reply::Answer(500, ""),
            Reply::Answer(502, "<html>"),
            Reply::Answer(504, ""),
        ] {
            let fixture = Fixture::new(Server::new(move |_| reply.clone()));
            let source = fixture.source(over_refresh_token("r"));
            source.token().await.unwrap_err();
            assert_eq!(fixture.server.take_sent(), ["r"]);
            fixture.server.set(|_| Reply::Token(None));
            fixture.clock.advance(secs(60));
            source.token().await.unwrap();
            assert_eq!(fixture.server.take_sent(), ["r"]);
        }
    }

    /// A store that several processes share, and its refresh token.
    fn store(text: &'static str) -> (Credential, Arc<Mutex<String>>) {
        let store = Arc::new(Mutex::new(text.to_owned()));
        let read = store.clone();
        let credential = Credential::from_fn(move || {
            let text = read.lock().unwrap().clone();
            async move { Ok::<_, BoxError>(text) }
        });
        (credential, store)
    }

    /// Accepts one refresh token at a time and replaces it.
    fn accepting(good: &Arc<Mutex<String>>, refusal: (u16, &'static str)) -> Server {
        let good = good.clone();
        Server::new(move |form| {
            let mut good = good.lock().unwrap();
            if credential(form) != *good {
                return Reply::Answer(refusal.0, refusal.1);
            }
            good.push('\'');
            Reply::Token(Some(good.clone()))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_that_another_process_replaced_is_obtained_again() {
        for refusal in [
            (400, r#"{"error":"invalid_grant"}"#),
            (400, r#"{"error":"invalid_request"}"#),
            (403, r#"{"error":"access_denied"}"#),
            (400, ""),
        ] {
            let good = Arc::new(Mutex::new("a".to_owned()));
            let fixture = Fixture::new(accepting(&good, refusal));
            let (provider, store) = store("a");
            let source = fixture.source(TokenRequest::refresh_token(provider));
            source.token().await.unwrap();
            assert_eq!(fixture.server.take_sent(), ["a"]);
            for other in ["b", "c", "d"] {
                let ours = good.lock().unwrap().clone();
                *good.lock().unwrap() = other.to_owned();
                *store.lock().unwrap() = other.to_owned();
                fixture.clock.advance(secs(100));
                source.token().await.unwrap();
                assert_eq!(fixture.server.take_sent(), [ours.as_str(), other]);
            }
        }
    }

    /// The source goes on with the newer one even if the server fails at that moment.
    #[tokio::test(start_paused = true)]
    async fn a_failure_with_the_newer_refresh_token_does_not_bring_the_old_one_back() {
        let good = Arc::new(Mutex::new("a".to_owned()));
        let fixture = Fixture::new(accepting(&good, (400, r#"{"error":"invalid_grant"}"#)));
        let (provider, store) = store("a");
        let source = fixture.source(TokenRequest::refresh_token(provider));
        source.token().await.unwrap();
        fixture.clock.advance(secs(100));
        *store.lock().unwrap() = "b".to_owned();
        fixture.server.set(|form| match credential(form) {
            "b" => Reply::Drop,
            _ => Reply::Error("invalid_grant"),
        });
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Service);
        fixture.server.set(|_| Reply::Token(None));
        fixture.clock.advance(secs(60));
        source.token().await.unwrap();
        assert_eq!(fixture.server.take_sent(), ["a", "a'", "b", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_recovers_after_a_new_sign_in() {
        let good = Arc::new(Mutex::new("a".to_owned()));
        let fixture = Fixture::new(accepting(&good, (400, r#"{"error":"invalid_grant"}"#)));
        let (provider, store) = store("a");
        let source = fixture.source(TokenRequest::refresh_token(provider));
        source.token().await.unwrap();
        *good.lock().unwrap() = "revoked".to_owned();
        fixture.clock.advance(secs(100));
        let error = source.token().await.map(drop);
        assert_sign_in(&error, "invalid_grant");
        assert_eq!(fixture.server.take_sent(), ["a", "a'"]);
        // Nothing is sent until the user has signed in again, and the error still says why.
        for _ in 0..10 {
            fixture.clock.advance(secs(100));
            assert_sign_in(&source.token().await.map(drop), "invalid_grant");
        }
        assert!(fixture.server.take_sent().is_empty());
        *good.lock().unwrap() = "b".to_owned();
        *store.lock().unwrap() = "b".to_owned();
        fixture.clock.advance(secs(100));
        source.token().await.unwrap();
        fixture.clock.advance(secs(100));
        source.token().await.unwrap();
        assert_eq!(fixture.server.take_sent(), ["b", "b'"]);
    }

    /// A provider that is not told of new refresh tokens returns the first one forever. A server revokes all tokens if that comes again.
    #[tokio::test(start_paused = true)]
    async fn a_provider_that_returns_the_replaced_refresh_token_does_not_bring_it_back() {
        for refusal in [
            (400, r#"{"error":"invalid_grant"}"#),
            (400, r#"{"error":"invalid_request"}"#),
            (401, r#"{"error":"invalid_client"}"#),
        ] {
            let good = Arc::new(Mutex::new("a".to_owned()));
            let fixture = Fixture::new(accepting(&good, refusal));
            let (provider, _) = store("a");
            let source = fixture.source(TokenRequest::refresh_token(provider));
            source.token().await.unwrap();
            fixture.clock.advance(secs(100));
            source.token().await.unwrap();
            assert_eq!(fixture.server.take_sent(), ["a", "a'"]);
            // The cache has forgotten which refresh tokens it has used.
            fixture.clock.advance(secs(3 * 24 * 60 * 60));
            *good.lock().unwrap() = "other".to_owned();
            for _ in 0..5 {
                source.token().await.unwrap_err();
                fixture.clock.advance(secs(100));
            }
            assert!(!fixture.server.take_sent().contains(&"a".to_owned()));
        }
    }

    /// Otherwise a store with one wrong text after another would double the attempts with a wrong client secret.
    #[tokio::test(start_paused = true)]
    async fn after_two_refused_refresh_tokens_the_store_is_read_once_per_fetch() {
        for (status, body) in REFUSALS_OF_THE_CLIENT {
            let fixture = Fixture::new(Server::new(move |_| Reply::Answer(status, body)));
            let reads = Arc::<AtomicUsize>::default();
            let count = reads.clone();
            let provider = Credential::from_fn(move || {
                let read = count.fetch_add(1, SeqCst);
                async move { Ok::<_, BoxError>(format!("r{read}")) }
            });
            let mut sent = Vec::new();
            for n in 0..5 {
                let request =
                    TokenRequest::refresh_token(provider.clone()).scope(format!("api{n}"));
                fixture.token(request).await.unwrap_err();
                sent.push(fixture.server.take_sent().len());
            }
            assert_eq!(sent, [2, 2, 1, 1, 1], "{status} {body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_secret_and_a_replaced_refresh_token_are_both_obtained_again() {
        for (status, body) in REFUSALS_OF_THE_CLIENT {
            let fixture = Fixture::new(Server::rotating());
            let (provider, store) = store("a");
            let source = fixture.source(TokenRequest::refresh_token(provider));
            source.token().await.unwrap();
            *store.lock().unwrap() = "b".to_owned();
            fixture.clock.advance(secs(100));
            fixture.server.set(move |form| match credential(form) {
                "b" => Reply::Token(None),
                _ => Reply::Answer(status, body),
            });
            source.token().await.unwrap();
            assert_eq!(fixture.server.take_sent(), ["a", "a'", "b"]);
        }
    }

    /// The same holds for a source over a code: its provider returns another code after the next sign-in.
    #[tokio::test(start_paused = true)]
    async fn a_source_over_a_code_recovers_once_its_provider_returns_another() {
        for next in [None, Some("r".to_owned())] {
            let answer = next.clone();
            let fixture = Fixture::new(Server::new(move |_| Reply::Token(answer.clone())));
            let (provider, store) = store("c0");
            let request = TokenRequest::authorization_code(provider, "https://app.test/callback");
            let source = fixture.source(request);
            source.token().await.unwrap();
            fixture.server.set(|_| Reply::Error("invalid_grant"));
            fixture.server.take_sent();
            for _ in 0..3 {
                fixture.clock.advance(secs(100));
                let error = source.token().await.map(drop);
                assert_sign_in(&error, "sign in again");
            }
            let expected: Vec<String> = next.into_iter().collect();
            assert_eq!(fixture.server.take_sent(), expected);
            *store.lock().unwrap() = "c1".to_owned();
            fixture.server.set(|_| Reply::Token(None));
            fixture.clock.advance(secs(100));
            source.token().await.unwrap();
            assert_eq!(fixture.server.take_sent(), ["c1"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_refresh_token_is_not_sent_again_and_the_error_names_on_refresh_token() {
        let fixture = Fixture::new(Server::rotating());
        let (again, sent) = fixture.ask_twice(|| over_refresh_token("r")).await;
        assert_sign_in(&again, "on_refresh_token");
        assert_eq!(sent, ["r"]);
        // What the callback was called with works.
        let newest = fixture.stored.lock().unwrap().last().cloned().unwrap();
        fixture
            .token(TokenRequest::refresh_token(newest))
            .await
            .unwrap();
        assert_eq!(fixture.server.take_sent(), ["r'"]);
    }

    /// While the first source is in use, and after it is gone.
    #[tokio::test(start_paused = true)]
    async fn no_refresh_token_of_a_chain_is_sent_again_except_the_newest() {
        for over in [code, over_refresh_token] {
            let fixture = Fixture::new(Server::rotating());
            let source = fixture.source(over("r"));
            for _ in 0..3 {
                source.token().await.unwrap();
                fixture.clock.advance(secs(100));
            }
            let chain = fixture.server.take_sent();
            assert_eq!(chain, ["r", "r'", "r''"]);
            for old in &chain[1..] {
                assert_sign_in(
                    &fixture.token(over_refresh_token(old)).await,
                    "on_refresh_token",
                );
            }
            drop(source);
            fixture.evict_all();
            assert!(fixture.token(over("r")).await.is_err());
            for old in &chain[1..] {
                assert_sign_in(
                    &fixture.token(over_refresh_token(old)).await,
                    "on_refresh_token",
                );
            }
            assert!(fixture.server.take_sent().is_empty());
            fixture.token(over_refresh_token("r'''")).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_that_was_not_replaced_is_sent_again() {
        for next in [None, Some(String::new()), Some("r".to_owned())] {
            let next = next.clone();
            let fixture = Fixture::new(Server::new(move |_| Reply::Token(next.clone())));
            let (again, sent) = fixture.ask_twice(|| over_refresh_token("r")).await;
            again.unwrap();
            assert_eq!(sent, ["r", "r"]);
        }
    }

    /// The server may have replaced it, but there is nothing else to send.
    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_is_sent_again_after_a_failure() {
        for reply in [
            Reply::Drop,
            Reply::Hang,
            Reply::Unavailable,
            Reply::Error("invalid_client"),
        ] {
            let reply = reply.clone();
            let fixture = Fixture::new(Server::new(move |_| reply.clone()));
            fixture.token(over_refresh_token("r")).await.unwrap_err();
            fixture.evict_all();
            fixture.server.set(|_| Reply::Token(None));
            fixture.token(over_refresh_token("r")).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_refresh_token_is_not_sent_again() {
        let fixture = Fixture::new(Server::new(|_| Reply::Error("invalid_grant")));
        let (again, sent) = fixture.ask_twice(|| over_refresh_token("dead")).await;
        assert_sign_in(&again, "sign in again");
        assert_eq!(sent, ["dead"]);
    }

    /// A server may alternate between two refresh tokens.
    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_that_the_server_issues_again_is_sent_again() {
        let server = Server::new(|form| {
            let other = if credential(form) == "a" { "b" } else { "a" };
            Reply::Token(Some(other.to_owned()))
        });
        let fixture = Fixture::new(server);
        for refresh_token in ["a", "b", "a", "b"] {
            fixture
                .token(over_refresh_token(refresh_token))
                .await
                .unwrap();
            fixture.evict_all();
        }
        assert_eq!(fixture.server.take_sent(), ["a", "b", "a", "b"]);
        assert_sign_in(
            &fixture.token(over_refresh_token("b")).await,
            "on_refresh_token",
        );
    }

    /// A provider is asked again, and may return the newest refresh token.
    #[tokio::test(start_paused = true)]
    async fn a_provider_that_returns_the_newest_refresh_token_goes_on_after_the_eviction() {
        let fixture = Fixture::new(Server::rotating());
        let stored = fixture.stored.clone();
        let newest = Credential::from_fn(move || {
            let newest = stored.lock().unwrap().last().cloned();
            async { Ok::<_, BoxError>(newest.unwrap_or_else(|| "r".to_owned())) }
        });
        for _ in 0..4 {
            fixture
                .token(TokenRequest::refresh_token(newest.clone()))
                .await
                .unwrap();
            fixture.evict_all();
        }
        assert_eq!(fixture.server.take_sent(), ["r", "r'", "r''", "r'''"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_returns_a_replaced_refresh_token_recovers_once_it_returns_another() {
        let fixture = Fixture::new(Server::rotating());
        let text = Arc::new(Mutex::new("r"));
        let read = text.clone();
        let provider = Credential::from_fn(move || {
            let text = *read.lock().unwrap();
            async move { Ok::<_, BoxError>(text) }
        });
        let over_provider = || TokenRequest::refresh_token(provider.clone());
        let (again, sent) = fixture.ask_twice(over_provider).await;
        assert_sign_in(&again, "on_refresh_token");
        assert_eq!(sent, ["r"]);
        let source = fixture.source(over_provider());
        *text.lock().unwrap() = "another";
        fixture.clock.advance(secs(60));
        source.token().await.unwrap();
        assert_eq!(fixture.server.take_sent(), ["another"]);
    }
}

mod polling {
    use super::*;

    const POLLED: [OverCredential; 2] = [
        |text| TokenRequest::device_code(text),
        |text| TokenRequest::ciba(text),
    ];

    /// "If the client receives an error response with any other error code, it MUST stop polling" (RFC 8628 §3.5).
    #[tokio::test(start_paused = true)]
    async fn polling_ends_with_any_error_code_that_does_not_concern_the_client() {
        for over in POLLED {
            for code in [
                "access_denied",
                "expired_token",
                "invalid_grant",
                "authorization_declined",
                "bad_verification_code",
                "transaction_failed",
                "incorrect_device_code",
            ] {
                let fixture = Fixture::new(Server::new(|_| Reply::Error("authorization_pending")));
                let source = fixture.source(over("d0"));
                source.token().await.unwrap_err();
                fixture.server.set(move |_| Reply::Error(code));
                advance(secs(5)).await;
                for _ in 0..3 {
                    assert_sign_in(&source.token().await.map(drop), code);
                    advance(secs(1000)).await;
                }
                assert_eq!(fixture.server.take_sent().len(), 2);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn polling_goes_on_after_a_refusal_of_the_client_and_after_answers_without_a_code() {
        let others = [
            (400, ""),
            (404, "not found"),
            (500, r#"{"error":"expired_token"}"#),
            (503, r#"{"error":"access_denied"}"#),
            (400, r#"{"error":"server_error"}"#),
        ];
        for over in POLLED {
            for (status, body) in REFUSALS_OF_THE_CLIENT.into_iter().chain(others) {
                let fixture = Fixture::new(Server::new(move |_| Reply::Answer(status, body)));
                let source = fixture.source(over("d0"));
                source.token().await.unwrap_err();
                assert_eq!(fixture.server.take_sent().len(), 1, "{status} {body}");
                fixture.server.set(|_| Reply::Token(None));
                advance(secs(4)).await;
                source.token().await.unwrap_err();
                advance(secs(60)).await;
                source.token().await.unwrap();
                assert_eq!(fixture.server.take_sent().len(), 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_connection_error_doubles_the_pause_until_the_server_answers() {
        for (reply, has_asked) in [
            (Reply::Drop, true),
            (Reply::NotSent, true),
            (Reply::Drop, false),
            (Reply::NotSent, false),
        ] {
            for over in POLLED {
                let fixture = Fixture::new(Server::new(|_| Reply::Error("authorization_pending")));
                let source = fixture.source(over("d0"));
                if has_asked {
                    source.token().await.unwrap_err();
                    advance(secs(5)).await;
                }
                let failing = reply.clone();
                fixture.server.set(move |_| failing.clone());
                for pause in [10, 20, 40, 60, 60] {
                    fixture.server.take_sent();
                    source.token().await.unwrap_err();
                    assert_eq!(fixture.server.take_sent().len(), 1);
                    advance(secs(pause) - secs(1)).await;
                    source.token().await.unwrap_err();
                    source.renew().await.unwrap_err();
                    assert!(fixture.server.take_sent().is_empty(), "within {pause} s");
                    advance(secs(1)).await;
                }
                fixture
                    .server
                    .set(|_| Reply::Error("authorization_pending"));
                source.token().await.unwrap_err();
                advance(secs(5)).await;
                fixture.server.set(|_| Reply::Token(None));
                source.token().await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pending_device_code_is_polled_again_by_a_new_source_at_the_known_interval() {
        let grants: [OverCredential; 2] = [
            |text| TokenRequest::device_code(text),
            |text| TokenRequest::ciba(text),
        ];
        for over in grants {
            for (code, interval) in [("authorization_pending", 5), ("slow_down", 10)] {
                let fixture = Fixture::new(Server::new(move |_| Reply::Error(code)));
                fixture.token(over("d0")).await.unwrap_err();
                assert_eq!(fixture.server.take_sent(), ["d0"]);
                fixture
                    .server
                    .set(|_| Reply::Error("authorization_pending"));
                for _ in 0..interval {
                    fixture.evict_all();
                    let error = at_once(fixture.token(over("d0"))).unwrap_err();
                    let response = error.error_response().unwrap();
                    assert_eq!(response.code().as_str(), "authorization_pending");
                    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
                    advance(secs(1)).await;
                }
                assert!(fixture.server.take_sent().is_empty());
                fixture.evict_all();
                fixture.token(over("d0")).await.unwrap_err();
                assert_eq!(fixture.server.take_sent(), ["d0"]);

                // The interval has not become shorter.
                advance(secs(interval) - secs(1)).await;
                fixture.token(over("d0")).await.unwrap_err();
                assert!(fixture.server.take_sent().is_empty());
                advance(secs(1)).await;
                fixture.evict_all();
                fixture.server.set(|_| Reply::Token(None));
                fixture.token(over("d0")).await.unwrap();
                assert_eq!(fixture.server.take_sent(), ["d0"]);
            }
        }
    }
}

mod lost_fetches {
    use super::*;

    /// Starts a fetch that hangs, and drops the runtime on which it runs.
    fn lose_a_fetch(fixture: &Fixture, request: TokenRequest) {
        fixture.server.set(|_| Reply::Hang);
        let runtime = current_thread();
        runtime.block_on(async {
            let source = fixture.source(request);
            assert_pending!(task::spawn(source.token()).poll());
            settle().await;
        });
        drop(runtime);
        fixture.server.set(|_| Reply::Token(None));
    }

    fn fixture() -> Fixture {
        current_thread().block_on(async { Fixture::new(Server::rotating()) })
    }

    #[test]
    fn a_lost_fetch_does_not_keep_its_entry() {
        let fixture = fixture();
        for n in 0..10 * MAX {
            lose_a_fetch(&fixture, request().parameter("tenant", n.to_string()));
            lose_a_fetch(&fixture, code(&format!("c{n}")));
            lose_a_fetch(&fixture, over_refresh_token(&format!("r{n}")));
        }
        current_thread().block_on(async {
            fixture.evict_all();
            for n in 0..10 * MAX {
                let tenant = request().parameter("tenant", format!("later-{n}"));
                fixture.token(tenant).await.unwrap();
            }
        });
        assert!(fixture.cache.status().len() <= MAX);
    }

    #[test]
    fn a_code_whose_fetch_was_lost_is_not_sent_again() {
        for is_evicted in [false, true] {
            let fixture = fixture();
            lose_a_fetch(&fixture, code("c0"));
            current_thread().block_on(async {
                if is_evicted {
                    fixture.evict_all();
                }
                assert_sign_in(&fixture.token(code("c0")).await, "was used before");
            });
            assert_eq!(fixture.server.take_sent(), ["c0"]);
        }
    }

    #[test]
    fn a_refresh_token_whose_fetch_was_lost_is_sent_again() {
        for is_evicted in [false, true] {
            let fixture = fixture();
            lose_a_fetch(&fixture, over_refresh_token("r"));
            current_thread().block_on(async {
                if is_evicted {
                    fixture.evict_all();
                }
                fixture.token(over_refresh_token("r")).await.unwrap();
            });
            assert_eq!(fixture.server.take_sent(), ["r", "r"]);
        }
    }
}

/// The owner is told second: the server no longer accepts the old refresh token, whatever becomes of the call of `on_refresh_token`.
#[test]
fn a_new_refresh_token_is_used_even_if_the_runtime_ends_while_its_owner_stores_it() {
    let fixture = Fixture::with(Server::rotating(), |builder| {
        builder.on_refresh_token(|_, _| std::future::pending())
    });
    let source = fixture.source(TokenRequest::refresh_token("r"));
    let enter = || runtime::Builder::new_current_thread().enable_all().build();
    for expected in ["r", "r'"] {
        let runtime = enter().unwrap();
        runtime.block_on(async {
            let mut waiting = task::spawn(source.token());
            assert_pending!(waiting.poll());
            settle().await;
        });
        assert_eq!(fixture.server.take_sent(), [expected]);
    }
}
