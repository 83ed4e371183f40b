//! Runs the steps of a scenario against a server, a clock and a cache.

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
    outcome::{CallResult, Differences, name_of, text},
    server::Server,
};

/// A call that takes longer counts as hanging.
const HANGING: Duration = secs(100_000);

/// The name of the only request.
const ONLY: &str = "";

pub(crate) struct Harness {
    start: Instant,
    server: Server,
    clock: ManualClock,
    requests: HashMap<String, TokenRequest>,
    cache: Option<TokenCache>,
    sources: HashMap<String, TokenSource>,
    calls: HashMap<String, JoinHandle<CallResult>>,
    changes: Option<TokenChanges>,
    stored: Arc<Mutex<Vec<String>>>,
    secret: Arc<Mutex<Option<String>>>,
}

/// Counts that a step must leave unchanged unless it expects otherwise.
#[derive(Clone, PartialEq)]
struct Counts {
    fetches: usize,
    cancelled: usize,
    stored: Vec<String>,
}

impl Harness {
    pub(crate) fn new(given: &Given) -> Self {
        let server = Server::default();
        let clock = ManualClock::new();
        let stored = Arc::<Mutex<Vec<_>>>::default();
        let secret = Arc::new(Mutex::new(given.secret.clone()));
        let client = match given.secret {
            Some(_) => ClientAuthentication::client_secret_post("client", secret_provider(&secret)),
            None => ClientAuthentication::client_secret_basic("client", "secret"),
        };
        let endpoint = TokenEndpoint::new(server.http(), "https://as.test/token", client);
        let builder = match given.endpoint_timeout {
            Some(limit) => builder(Timeout::new(endpoint, limit.0), given),
            None => builder(endpoint, given),
        };
        let builder = match given.callback_takes {
            Some(time) => {
                let stored = stored.clone();
                builder.on_refresh_token(move |_, token| {
                    let stored = stored.clone();
                    async move {
                        tokio::time::sleep(time.0).await;
                        stored
                            .lock()
                            .unwrap()
                            .push(token.expose_secret().to_owned());
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
            stored,
            secret,
        }
    }

    pub(crate) fn time(&self) -> String {
        format!("at {} s", (now() - self.start).as_secs_f64())
    }

    /// Runs a step. The error lists what was not as expected.
    pub(crate) async fn run(&mut self, step: &Step) -> Result<(), String> {
        let start = match (step.at, step.after) {
            (Some(at), None) => self.start + at.0,
            (None, Some(after)) => now() + after.0,
            (None, None) => now(),
            (Some(_), Some(_)) => panic!("a step has either `at` or `after`"),
        };
        assert!(
            start >= now(),
            "`at` is in the past: {:?}",
            start - self.start
        );
        let mut before = self.counts();
        sleep_until(start).await;
        self.server.push(&step.server);
        let result = self.act(step).await;
        settle().await;

        let mut differences = Differences::default();
        let expect = &step.expect;
        assert_eq!(result.is_some(), expect.is_outcome(), "{:?}", step.action);
        if let Some(result) = result {
            differences.add_result(&result, expect);
        }
        before.fetches = expect.fetches.unwrap_or(before.fetches);
        before.cancelled = expect.cancelled.unwrap_or(before.cancelled);
        before.stored = expect.stored.clone().unwrap_or(before.stored);
        let after = self.counts();
        differences.add("fetches", before.fetches, after.fetches);
        differences.add("cancelled", before.cancelled, after.cancelled);
        differences.add("stored", before.stored.join(", "), after.stored.join(", "));
        self.add_sent(&mut differences, expect);
        self.add_status(&mut differences, step);
        let unexpected = self.server.with_script(|script| script.unexpected);
        differences.add("requests without an answer in the script", 0, unexpected);
        differences.0.is_empty().then_some(()).ok_or(differences.0)
    }

    /// Fails if answers of the server were not used.
    pub(crate) fn finish(&self) -> Result<(), String> {
        match self.server.unused() {
            0 => Ok(()),
            unused => Err(format!("{unused} answers of the server were not used")),
        }
    }

    fn counts(&self) -> Counts {
        let stored = self.stored.lock().unwrap().clone();
        self.server.with_script(|script| Counts {
            fetches: script.requests.len(),
            cancelled: script.cancelled,
            stored,
        })
    }

    async fn act(&mut self, step: &Step) -> Option<CallResult> {
        let of = step.of.as_deref().unwrap_or(ONLY);
        match step.action {
            Action::Nothing => None,
            Action::Token | Action::Renew | Action::WarmUp => {
                let result = call_all(step.action, self.source(of), step.callers.unwrap_or(1));
                let Some(call) = step.call.clone() else {
                    return Some(result.await);
                };
                self.calls.insert(call, tokio::spawn(result));
                None
            }
            Action::Join => {
                let call = self.calls.remove(step.call.as_ref()?);
                Some(call.expect("no call of this name").await.unwrap())
            }
            Action::DropCallers => {
                let source = self.source(of);
                for _ in 0..step.callers.unwrap_or(1) {
                    let mut call = tokio_test::task::spawn(source.token());
                    assert!(call.poll().is_pending());
                }
                None
            }
            Action::Peek => Some(CallResult::at_once(Ok(self.source(of).peek()))),
            Action::KeepWarm => {
                self.source(of).keep_warm().unwrap();
                None
            }
            Action::Subscribe => {
                self.changes = Some(self.source(of).subscribe());
                None
            }
            Action::Changed => {
                let changes = self.changes.as_mut().expect("no subscription");
                let changed = tokio_test::task::spawn(changes.changed()).poll();
                Some(CallResult::at_once(match changed {
                    std::task::Poll::Ready(changed) => changed,
                    std::task::Poll::Pending => Ok(None),
                }))
            }
            Action::Invalidate => {
                let token = step.token.as_deref().expect("`token` is missing");
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
            Action::Discard => {
                self.source(of).discard();
                None
            }
            Action::RotateSecret => {
                self.secret.lock().unwrap().clone_from(&step.secret);
                None
            }
            Action::Suspend => {
                self.clock.suspend(step.seconds?.0);
                None
            }
            Action::SetWallClockBack => {
                self.clock.set_wall_back(step.seconds?.0);
                None
            }
            Action::Advance => {
                self.clock.advance(step.seconds?.0);
                None
            }
            Action::DropSource => {
                self.sources.remove(of).expect("no source");
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
        self.cache.as_ref().expect("the handles were dropped")
    }

    /// Returns the source of a request. It is created on first use and kept.
    fn source(&mut self, of: &str) -> TokenSource {
        if !self.sources.contains_key(of) {
            let request = self.requests.get(of).expect("no request of this name");
            let source = self.cache().source(request.clone());
            self.sources.insert(of.to_owned(), source);
        }
        self.sources[of].clone()
    }

    fn add_sent(&self, differences: &mut Differences, expect: &Expect) {
        let sent = self
            .server
            .with_script(|script| script.requests.last().cloned());
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

fn secret_provider(secret: &Arc<Mutex<Option<String>>>) -> Credential {
    let secret = secret.clone();
    Credential::from_fn(move || {
        let secret = secret.lock().unwrap().clone();
        async { secret.ok_or("the vault is sealed") }
    })
}

fn builder<S>(endpoint: S, given: &Given) -> TokenCacheBuilder
where
    S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let exact = || RefreshWindow::new().first(0.5..=0.5).later(0.5..=0.5);
    let window = given.refresh_window.as_ref();
    let mut builder = TokenCache::builder(endpoint)
        .refresh_window(window.map_or_else(exact, |window| window.to_refresh_window()));
    if let Some(lifetime) = given.default_lifetime {
        builder = builder.default_lifetime(lifetime.0);
    }
    if let Some(lifetime) = given.max_lifetime {
        builder = builder.max_lifetime(lifetime.0);
    }
    if let Some(limit) = given.fetch_timeout {
        builder = builder.fetch_timeout(limit.0);
    }
    if let Some(entries) = given.max_entries {
        builder = builder.max_entries(entries);
    }
    builder
}

/// Runs a call from several callers at once: the first on this task, each other on its own.
fn call_all(
    action: Action,
    source: TokenSource,
    callers: usize,
) -> impl Future<Output = CallResult> + Send + use<> {
    let call = move || {
        let source = source.clone();
        async move {
            let started = now();
            let call = async {
                match action {
                    Action::Renew => source.renew().await.map(Some),
                    Action::WarmUp => source.warm_up().await.map(|()| source.peek()),
                    _ => source.token().await.map(Some),
                }
            };
            let outcome = timeout(HANGING, call).await.expect("the call hangs");
            CallResult {
                outcome,
                started,
                ended: now(),
                other: None,
            }
        }
    };
    async move {
        let calls: Vec<_> = (1..callers).map(|_| tokio::spawn(call())).collect();
        let mut result = call().await;
        for other in calls {
            let other = other.await.unwrap();
            if text(&other.outcome) != text(&result.outcome) || other.ended != result.ended {
                result.other = Some(Box::new(other));
            }
        }
        result
    }
}
