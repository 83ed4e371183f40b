//! The token cache: callers that join, are dropped and start again, over an endpoint that answers, panics or hangs.

use std::{
    future::{Future, pending, poll_fn},
    panic::resume_unwind,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use shuttle::current::{me, remove_label_for_task, set_label_for_task};
use tokio::{
    spawn,
    task::{JoinHandle, yield_now},
};
use tower::{Service, service_fn};

use crate::{
    AccessToken, BoxError, TokenCache, TokenError, TokenErrorKind, TokenRequest, TokenResponse,
    TokenSource, TokenType, base::clock, model, pause, polled_at_random,
};

/// What the endpoint does with the nth request, counted from 1.
type Answer = fn(usize) -> What;

enum What {
    Token,
    Panic,
    Hang,
}

#[derive(Clone)]
struct Endpoint {
    answer: Answer,
    requests: Arc<AtomicUsize>,
}

impl Endpoint {
    fn new(answer: Answer) -> Self {
        Self {
            answer,
            requests: Arc::default(),
        }
    }

    /// The text of each token is the number of its request.
    fn cache(&self) -> TokenCache {
        let this = self.clone();
        TokenCache::new(service_fn(move |_: TokenRequest| {
            remove_label_for_task::<Caller>(me());
            let number = this.requests.fetch_add(1, SeqCst) + 1;
            let what = (this.answer)(number);
            async move {
                pause().await;
                match what {
                    What::Token => {}
                    What::Panic => resume_unwind(Box::new("told to")),
                    What::Hang => pending().await,
                }
                let token =
                    AccessToken::new(number.to_string(), TokenType::BEARER).expect("a token");
                let response = TokenResponse::builder(token).expires_in(Duration::from_secs(3600));
                Ok::<_, BoxError>(response.build())
            }
        }))
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

/// A task with this label waits for a fetch. So do tasks that it spawns, until they call the endpoint.
#[derive(Clone, Debug)]
struct Caller;

fn source(tokens: &TokenCache) -> TokenSource {
    tokens.source(TokenRequest::client_credentials())
}

fn number(token: &AccessToken) -> usize {
    token.expose_secret().parse().expect("a number")
}

async fn token(source: TokenSource) -> Result<usize, TokenError> {
    source.token().await.map(|token| number(&token))
}

pub fn callers_share_one_fetch_whoever_of_them_is_dropped() {
    model(|| async {
        let endpoint = Endpoint::new(|_| What::Token);
        let source = source(&endpoint.cache());
        let aborted = spawn(token(source.clone()));
        let dropped = spawn(polled_at_random(token(source.clone())));
        let callers = [0; 3].map(|_| spawn(token(source.clone())));
        aborted.abort();
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap(), 1);
        }
        let _ = dropped.await;
        assert_eq!(endpoint.requests(), 1);
    });
}

pub fn a_panic_of_the_endpoint_reaches_every_caller_and_the_cache_recovers() {
    model(|| async {
        let endpoint = Endpoint::new(|number| {
            if number == 1 {
                What::Panic
            } else {
                What::Token
            }
        });
        let source = source(&endpoint.cache());
        let dropped = spawn(polled_at_random(token(source.clone())));
        let callers = [0; 2].map(|_| spawn(token(source.clone())));
        for caller in callers {
            assert!(caller.await.unwrap().is_err());
        }
        let _ = dropped.await;
        assert_eq!(endpoint.requests(), 1);
        clock::advance(Duration::from_secs(3600));
        assert_eq!(token(source).await.unwrap(), 2);
    });
}

pub fn a_waiter_starts_an_overdue_fetch_again() {
    model(|| async {
        let endpoint = Endpoint::new(|number| if number == 1 { What::Hang } else { What::Token });
        let source = source(&endpoint.cache());
        let waiting = Arc::new(AtomicUsize::new(0));
        let callers = [0; 2].map(|_| {
            let (source, waiting) = (source.clone(), waiting.clone());
            spawn(async move {
                set_label_for_task(me(), Caller);
                let mut token = pin!(token(source));
                let mut is_waiting = false;
                poll_fn(move |cx| {
                    let polled = token.as_mut().poll(cx);
                    if polled.is_pending() && !is_waiting {
                        is_waiting = true;
                        waiting.fetch_add(1, SeqCst);
                    }
                    polled
                })
                .await
            })
        });
        // Joins the first fetch or starts the second. Its own patience does not end.
        let patient = spawn(token(source.clone()));
        while waiting.load(SeqCst) < 2 || endpoint.requests() < 1 {
            yield_now().await;
        }
        clock::advance(Duration::from_secs(3600));
        tokio::time::trigger_timeouts(|labels| labels.get::<Caller>().is_some());
        tokio::time::clear_triggers();
        for caller in callers.into_iter().chain([patient]) {
            assert_eq!(caller.await.unwrap().unwrap(), 2);
        }
        assert_eq!(endpoint.requests(), 2);
    });
}

/// Spawns a caller whose timers end with [`look`].
fn spawn_observer(source: &TokenSource) -> JoinHandle<Result<usize, TokenError>> {
    let source = source.clone();
    spawn(async move {
        set_label_for_task(me(), Caller);
        token(source).await
    })
}

/// Lets every observer look whether the fetch that it waits for is polled.
fn look() {
    clock::advance(Duration::from_millis(500));
    tokio::time::trigger_timeouts(|labels| labels.get::<Caller>().is_some());
    tokio::time::clear_triggers();
}

/// The scheduler keeps the first fetch from running, or interrupts it anywhere.
pub fn waiters_take_over_a_fetch_that_nobody_drives() {
    model(|| async {
        let endpoint = Endpoint::new(|_| What::Token);
        let source = source(&endpoint.cache());
        let observers = [0; 2].map(|_| spawn_observer(&source));
        let dropped = spawn(polled_at_random(token(source.clone())));
        // Never looks, and has to be woken when somebody else takes over.
        let patient = spawn(token(source.clone()));
        for _ in 0..3 {
            pause().await;
            look();
        }
        for caller in observers.into_iter().chain([patient]) {
            assert!(caller.await.unwrap().unwrap() <= 2);
        }
        let _ = dropped.await;
        // Two looks take over once, and a third does nothing yet.
        assert!(endpoint.requests() <= 2);
    });
}

pub fn a_refresh_token_is_sent_once_whoever_takes_over() {
    model(|| async {
        let sent = Arc::new(AtomicUsize::new(0));
        let endpoint = refreshing(&sent);
        let source = TokenCache::new(endpoint).source(TokenRequest::refresh_token("rt-0"));
        let observers = [0; 2].map(|_| spawn_observer(&source));
        let patient = spawn(token(source.clone()));
        for _ in 0..6 {
            pause().await;
            look();
        }
        for caller in observers.into_iter().chain([patient]) {
            assert_eq!(caller.await.unwrap().unwrap(), 1);
        }
        assert_eq!(sent.load(SeqCst), 1);
    });
}

pub fn a_shutdown_waits_for_every_refresh_token_that_was_sent() {
    model(|| async {
        let (sent, stored) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let storing = stored.clone();
        let tokens = TokenCache::builder(refreshing(&sent))
            .on_refresh_token(move |_, _| {
                let storing = storing.clone();
                async move {
                    pause().await;
                    storing.fetch_add(1, SeqCst);
                }
            })
            .build();
        let source = tokens.source(TokenRequest::refresh_token("rt-0"));
        let observer = spawn_observer(&source);
        let patient = spawn(token(source.clone()));
        let other = spawn({
            let tokens = tokens.clone();
            async move { tokens.shutdown().await }
        });
        pause().await;
        look();
        look();
        tokens.shutdown().await;
        let sent_before = sent.load(SeqCst);
        assert_eq!(sent_before, stored.load(SeqCst));
        for caller in [observer, patient] {
            match caller.await.unwrap() {
                Ok(number) => assert_eq!(number, 1),
                Err(error) => assert_eq!(error.kind(), TokenErrorKind::ShutDown),
            }
        }
        other.await.unwrap();
        assert_eq!(sent.load(SeqCst), sent_before);
    });
}

/// An endpoint that counts how often `rt-0` is sent.
fn refreshing(
    sent: &Arc<AtomicUsize>,
) -> impl Service<TokenRequest, Response = TokenResponse, Error = BoxError, Future: Send>
+ Clone
+ Send
+ 'static {
    let sent = sent.clone();
    service_fn(move |request: TokenRequest| {
        remove_label_for_task::<Caller>(me());
        let is_first = request == TokenRequest::refresh_token("rt-0");
        let number = match is_first {
            true => sent.fetch_add(1, SeqCst) + 1,
            false => 2,
        };
        async move {
            pause().await;
            let token = AccessToken::new(number.to_string(), TokenType::BEARER).expect("a token");
            let response = TokenResponse::builder(token).expires_in(Duration::from_secs(3600));
            Ok(response.refresh_token("rt-1").build())
        }
    })
}

pub fn a_fetch_that_was_given_up_serves_nobody_who_comes_later() {
    model(|| async {
        let endpoint = Endpoint::new(|_| What::Token);
        let tokens = endpoint.cache();
        let source = source(&tokens);
        let callers = [0; 2].map(|_| spawn(token(source.clone())));
        let dropped = spawn(polled_at_random(token(source.clone())));
        pause().await;

        let sent_before = endpoint.requests();
        tokens.invalidate_all();
        let later = spawn(token(source.clone()));
        assert!(token(source.clone()).await.unwrap() > sent_before);
        assert!(later.await.unwrap().unwrap() > sent_before);
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        let _ = dropped.await;
        // Even when everything has ended.
        assert!(number(&source.peek().unwrap()) > sent_before);
        assert!(endpoint.requests() <= sent_before + 2);
    });
}

pub fn a_fetch_ends_with_the_last_handle() {
    model(|| async {
        let endpoint = Endpoint::new(|_| What::Hang);
        let held = Arc::downgrade(&endpoint.requests);
        let source = source(&endpoint.cache());
        drop(endpoint);
        let callers = [0; 2].map(|_| spawn(token(source.clone())));
        drop(source);
        for caller in callers {
            pause().await;
            caller.abort();
            assert!(caller.await.is_err());
        }
        // The service is dropped with the cache, and the fetch with its task.
        while held.upgrade().is_some() {
            yield_now().await;
        }
    });
}

pub fn whoever_is_told_of_a_new_token_finds_it() {
    model(|| async {
        let endpoint = Endpoint::new(|_| What::Token);
        let source = source(&endpoint.cache());
        let mut changes = source.subscribe();
        let observer = spawn({
            let source = source.clone();
            async move {
                let mut seen = 0;
                while seen < 2 {
                    let told = number(&changes.changed().await.unwrap().unwrap());
                    let found = number(&source.peek().unwrap());
                    assert!(told >= seen && found >= told);
                    seen = found;
                }
            }
        });
        assert_eq!(token(source.clone()).await.unwrap(), 1);
        assert_eq!(number(&source.renew().await.unwrap()), 2);
        observer.await.unwrap();
    });
}
