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
    runtime::{self, Runtime},
    time::{advance, sleep},
};
use tokio_test::{assert_pending, task};
use tower::{Service, service_fn};
use tower_oauth2_client::{
    BoxError, Credential, NotSent, TokenCache, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest, TokenSource, test_util::ManualClock, token_cache::TokenCacheBuilder,
};

use self::cache_support::{at_once, client, request, secs, settle};

type Form = HashMap<String, String>;

/// What the server does with a request.
#[derive(Clone)]
enum Reply {
    /// A token, and perhaps a refresh token.
    Token(Option<String>),
    Error(&'static str),
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

    /// Asks for a token, and then once more with a new source after the entry is gone. Returns the second result, and what was sent.
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

mod refresh_tokens {
    use super::*;

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

fn current_thread() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
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
