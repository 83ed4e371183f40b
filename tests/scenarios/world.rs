//! What a scenario happens in: a server, clocks, a cache, and those who call it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tower::{Service, timeout::Timeout};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, Credential, RefreshWindow, TokenCache,
    TokenEndpoint, TokenRequest, TokenResponse, TokenSource, TokenType,
    test_util::ManualClock,
    token_cache::{TokenCacheBuilder, TokenChanges},
};

use crate::{
    cache_support::{now, secs, settle},
    format::{Action, Expect, Given, Request, Step},
    outcome::{Called, Differences, name_of, text},
    server::Server,
};

/// Whoever waits for longer waits for ever.
const EVER: Duration = secs(100_000);

/// The name of the only request.
const ONLY: &str = "";

pub(crate) struct World {
    start: Instant,
    server: Server,
    clock: ManualClock,
    requests: HashMap<String, TokenRequest>,
    cache: Option<TokenCache>,
    sources: HashMap<String, TokenSource>,
    calls: HashMap<String, JoinHandle<Called>>,
    changes: Option<TokenChanges>,
    told: Arc<Mutex<Vec<String>>>,
    secret: Arc<Mutex<Option<String>>>,
}

/// What a step must not change unless it says so.
#[derive(Clone, PartialEq)]
struct Counts {
    fetches: usize,
    cancelled: usize,
    told: Vec<String>,
}

impl World {
    pub(crate) fn new(given: &Given) -> Self {
        let server = Server::default();
        let clock = ManualClock::new();
        let told = Arc::<Mutex<Vec<_>>>::default();
        let secret = Arc::new(Mutex::new(given.secret.clone()));
        let client = match given.secret {
            Some(_) => ClientAuthentication::client_secret_post("client", provider(&secret)),
            None => ClientAuthentication::client_secret_basic("client", "secret"),
        };
        let uri = "https://as.test/token".parse().unwrap();
        let endpoint = TokenEndpoint::new(server.http(), uri, client);
        let builder = match given.endpoint_timeout {
            Some(limit) => builder(Timeout::new(endpoint, limit.0), given),
            None => builder(endpoint, given),
        };
        let builder = match given.owner_takes {
            Some(time) => {
                let told = told.clone();
                builder.on_refresh_token(move |_, token| {
                    let told = told.clone();
                    async move {
                        tokio::time::sleep(time.0).await;
                        told.lock().unwrap().push(token.expose_secret().to_owned());
                    }
                })
            }
            None => builder,
        };
        let mut requests: HashMap<_, _> = given
            .requests
            .iter()
            .map(|(name, request)| (name.clone(), request.to_token_request()))
            .collect();
        if requests.is_empty() {
            let usual = || TokenRequest::client_credentials().scope("api1");
            let only = given.request.as_ref().map(Request::to_token_request);
            requests.insert(ONLY.to_owned(), only.unwrap_or_else(usual));
        }
        Self {
            start: now(),
            server,
            cache: Some(builder.clock(clock.clock()).build()),
            clock,
            requests,
            sources: HashMap::new(),
            calls: HashMap::new(),
            changes: None,
            told,
            secret,
        }
    }

    pub(crate) fn time(&self) -> String {
        format!("at {} s", (now() - self.start).as_secs_f64())
    }

    /// Runs a step, and says in what it went otherwise than expected.
    pub(crate) async fn run(&mut self, step: &Step) -> Result<(), String> {
        let start = match (step.at, step.after) {
            (Some(at), None) => self.start + at.0,
            (None, Some(after)) => now() + after.0,
            (None, None) => now(),
            (Some(_), Some(_)) => panic!("a step is either `at` or `after`"),
        };
        assert!(start >= now(), "{:?} is over", start - self.start);
        let mut before = self.counts();
        sleep_until(start).await;
        self.server.push(&step.server);
        let called = self.act(step).await;
        settle().await;

        let mut differences = Differences::default();
        let expect = &step.expect;
        assert_eq!(called.is_some(), expect.is_outcome(), "{:?}", step.action);
        if let Some(called) = called {
            differences.add_call(&called, expect);
        }
        before.fetches = expect.fetches.unwrap_or(before.fetches);
        before.cancelled = expect.cancelled.unwrap_or(before.cancelled);
        before.told = expect.told.clone().unwrap_or(before.told);
        let after = self.counts();
        differences.add("fetches", before.fetches, after.fetches);
        differences.add("cancelled", before.cancelled, after.cancelled);
        differences.add("told", before.told.join(", "), after.told.join(", "));
        self.add_sent(&mut differences, expect);
        self.add_status(&mut differences, step);
        let unexpected = self.server.look(|script| script.unexpected);
        differences.add("fetches that the server had no answer for", 0, unexpected);
        differences.0.is_empty().then_some(()).ok_or(differences.0)
    }

    /// Says what is wrong once all steps are done.
    pub(crate) fn end(&self) -> Result<(), String> {
        match self.server.unused() {
            0 => Ok(()),
            unused => Err(format!("{unused} answers of the server were not fetched")),
        }
    }

    fn counts(&self) -> Counts {
        let told = self.told.lock().unwrap().clone();
        self.server.look(|script| Counts {
            fetches: script.requests.len(),
            cancelled: script.cancelled,
            told,
        })
    }

    async fn act(&mut self, step: &Step) -> Option<Called> {
        let of = step.of.as_deref().unwrap_or(ONLY);
        match step.action {
            Action::Look => None,
            Action::Token | Action::Renew | Action::WarmUp => {
                let called = call_all(step.action, self.source(of), step.callers.unwrap_or(1));
                let Some(call) = step.call.clone() else {
                    return Some(called.await);
                };
                self.calls.insert(call, tokio::spawn(called));
                None
            }
            Action::Join => {
                let call = self.calls.remove(step.call.as_ref()?);
                Some(call.expect("a call of this name").await.unwrap())
            }
            Action::Abandon => {
                let source = self.source(of);
                for _ in 0..step.callers.unwrap_or(1) {
                    let mut call = tokio_test::task::spawn(source.token());
                    assert!(call.poll().is_pending());
                }
                None
            }
            Action::Peek => Some(Called::at_once(Ok(self.source(of).peek()))),
            Action::KeepWarm => {
                self.source(of).keep_warm().unwrap();
                None
            }
            Action::Subscribe => {
                self.changes = Some(self.source(of).subscribe());
                None
            }
            Action::Changed => {
                let changes = self.changes.as_mut().expect("a subscription");
                let changed = tokio_test::task::spawn(changes.changed()).poll();
                Some(Called::at_once(Ok(match changed {
                    std::task::Poll::Ready(token) => token,
                    std::task::Poll::Pending => None,
                })))
            }
            Action::Invalidate => {
                let token = step.token.as_deref().expect("which token");
                let token = AccessToken::new(token, TokenType::BEARER).unwrap();
                for _ in 0..step.callers.unwrap_or(1) {
                    self.source(of).invalidate(&token);
                }
                None
            }
            Action::InvalidateAll => {
                self.cache().invalidate_all();
                None
            }
            Action::Rotate => {
                self.secret.lock().unwrap().clone_from(&step.secret);
                None
            }
            Action::Suspend => {
                self.clock.suspend(step.seconds?.0);
                None
            }
            Action::WallBack => {
                self.clock.set_wall_back(step.seconds?.0);
                None
            }
            Action::Advance => {
                self.clock.advance(step.seconds?.0);
                None
            }
            Action::Release => {
                self.sources.remove(of).expect("a source");
                None
            }
            Action::DropHandles => {
                (self.cache, self.changes) = (None, None);
                self.sources.clear();
                None
            }
        }
    }

    fn cache(&self) -> &TokenCache {
        self.cache.as_ref().expect("a handle")
    }

    /// The source of a request, which is kept from its first use on.
    fn source(&mut self, of: &str) -> TokenSource {
        if !self.sources.contains_key(of) {
            let request = self.requests.get(of).expect("a request of this name");
            let source = self.cache().source(request.clone());
            self.sources.insert(of.to_owned(), source);
        }
        self.sources[of].clone()
    }

    fn add_sent(&self, differences: &mut Differences, expect: &Expect) {
        let sent = self.server.look(|script| script.requests.last().cloned());
        for (name, value) in &expect.sent {
            let got = sent.as_ref().and_then(|form| form.get(name)).cloned();
            let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            differences.add(&format!("sent {name}"), text(value.clone()), text(got));
        }
    }

    fn add_status(&self, differences: &mut Differences, step: &Step) {
        let expect = &step.expect;
        if expect.state.is_none() && expect.expires_in.is_none() && expect.last_error.is_none() {
            return;
        }
        let request = &self.requests[step.of.as_deref().unwrap_or(ONLY)];
        let statuses = self.cache().status();
        let Some(status) = statuses.iter().find(|status| status.request() == request) else {
            differences.add("status", "one", "none");
            return;
        };
        if let Some(state) = &expect.state {
            let got = format!("{:?}", status.state()).to_lowercase();
            differences.add("state", state, &got);
        }
        if let Some(expires_in) = expect.expires_in {
            let got = format!("{:?}", status.expires_in());
            differences.add("expires in", format!("{:?}", Some(expires_in.0)), got);
        }
        if let Some(last_error) = &expect.last_error {
            let error = status.last_error().map(name_of);
            differences.add(
                "last error",
                format!("{last_error:?}"),
                format!("{error:?}"),
            );
        }
    }
}

fn provider(secret: &Arc<Mutex<Option<String>>>) -> Credential {
    let secret = secret.clone();
    Credential::from_fn(move || {
        let secret = secret.lock().unwrap().clone();
        async { secret.ok_or("the vault is shut") }
    })
}

fn builder<S>(endpoint: S, given: &Given) -> TokenCacheBuilder
where
    S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let pinned = || RefreshWindow::new().first(0.5..=0.5).later(0.5..=0.5);
    let window = given.refresh_window.as_ref();
    let mut builder = TokenCache::builder(endpoint)
        .refresh_window(window.map_or_else(pinned, |window| window.to_refresh_window()));
    if let Some(lifetime) = given.default_lifetime {
        builder = builder.default_lifetime(lifetime.0);
    }
    if let Some(limit) = given.fetch_timeout {
        builder = builder.fetch_timeout(limit.0);
    }
    if let Some(entries) = given.max_entries {
        builder = builder.max_entries(entries);
    }
    builder
}

/// What so many callers got, each on a task of its own but the first.
fn call_all(
    action: Action,
    source: TokenSource,
    callers: usize,
) -> impl Future<Output = Called> + Send + use<> {
    let call = move || {
        let source = source.clone();
        async move {
            let begun = now();
            let call = async {
                match action {
                    Action::Renew => source.renew().await.map(Some),
                    Action::WarmUp => source.warm_up().await.map(|()| source.peek()),
                    _ => source.token().await.map(Some),
                }
            };
            let outcome = timeout(EVER, call).await.expect("an end of the wait");
            Called {
                outcome,
                begun,
                ended: now(),
                other: None,
            }
        }
    };
    async move {
        let calls: Vec<_> = (1..callers).map(|_| tokio::spawn(call())).collect();
        let mut called = call().await;
        for other in calls {
            let other = other.await.unwrap();
            if text(&other.outcome) != text(&called.outcome) || other.ended != called.ended {
                called.other = Some(Box::new(other));
            }
        }
        called
    }
}
