//! An authorization server that fails in every way, and an API that knows which tokens are valid.

use std::{
    collections::HashMap,
    io,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::stream;
use http::{Request, Response, header::AUTHORIZATION};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneSyncService;
use tower_oauth2_client::{BoxError, NotSent};

use super::cache_support::{Body, Http, millis, now, refusal};

pub(crate) type Tenant = u16;

pub(crate) const TENANT: &str = "x-tenant";
/// Numbers the calls.
pub(crate) const CALL: &str = "x-call";
/// Long enough for two attempts.
pub(crate) const FETCH_TIMEOUT: Duration = millis(800);

const LIFETIMES: std::ops::Range<u64> = 200..1_800;
/// How long a thread of a busy machine may take to send a request after it got the token. The leeway comes on top.
const TOLERANCE: Duration = millis(100);
/// A token that expires at once goes to the callers that waited for it, after the latency of the server.
const TOLERANCE_AT_ONCE: Duration = millis(250);

/// The faults of the authorization server; three of ten token requests meet one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    NotSent,
    ConnectionReset,
    Status500,
    Status503RetryAfter,
    Status429,
    TornBody,
    EmptyBody,
    HtmlPage,
    InvalidJson,
    TooSlow,
    Panic,
    ExpiresAtOnce,
}

const FAULTS: [Fault; 12] = [
    Fault::NotSent,
    Fault::ConnectionReset,
    Fault::Status500,
    Fault::Status503RetryAfter,
    Fault::Status429,
    Fault::TornBody,
    Fault::EmptyBody,
    Fault::HtmlPage,
    Fault::InvalidJson,
    Fault::TooSlow,
    Fault::Panic,
    Fault::ExpiresAtOnce,
];

/// What the authorization server knows about a token.
struct Issued {
    tenant: Tenant,
    expires: Instant,
    expires_at_once: bool,
    is_revoked: bool,
}

/// What both servers know.
struct Truth {
    rng: Rng,
    tokens: HashMap<String, Issued>,
    /// The tokens of each call.
    calls: HashMap<usize, Vec<String>>,
    violations: Vec<String>,
    latest: Duration,
}

#[derive(Default)]
struct Counts {
    token_requests: AtomicUsize,
    faults: [AtomicUsize; FAULTS.len()],
    requests: AtomicUsize,
    refused: AtomicUsize,
    resent: AtomicUsize,
    revoked: AtomicUsize,
}

#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

struct Inner {
    truth: Mutex<Truth>,
    has_recovered: AtomicBool,
    counts: Counts,
}

pub(crate) type TokenBody = StreamBody<stream::Iter<std::vec::IntoIter<io::Result<Frame<Bytes>>>>>;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            truth: Mutex::new(Truth {
                rng: Rng::with_seed(!seed),
                tokens: HashMap::new(),
                calls: HashMap::new(),
                violations: Vec::new(),
                latest: Duration::ZERO,
            }),
            has_recovered: AtomicBool::new(false),
            counts: Counts::default(),
        }))
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.truth.lock().unwrap()
    }

    /// Ends all faults, and the refusals of valid tokens.
    pub(crate) fn recover(&self) {
        self.0.has_recovered.store(true, Relaxed);
    }

    fn has_recovered(&self) -> bool {
        self.0.has_recovered.load(Relaxed)
    }

    pub(crate) fn revoke(&self, token: &str) {
        let mut truth = self.truth();
        let issued = truth.tokens.get_mut(token);
        issued.expect("nobody issued this token").is_revoked = true;
        self.0.counts.revoked.fetch_add(1, Relaxed);
    }

    pub(crate) fn authorization_server(
        &self,
    ) -> BoxCloneSyncService<Request<Body>, Response<TokenBody>, BoxError> {
        let world = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move { world.token_response(request).await }
        }))
    }

    async fn token_response(self, request: Request<Body>) -> Result<Response<TokenBody>, BoxError> {
        let arrived = now();
        self.0.counts.token_requests.fetch_add(1, Relaxed);
        let form = request.into_body().collect().await?.to_bytes();
        let mut form = form_urlencoded::parse(&form);
        let tenant = form.find(|(name, _)| name == "tenant").unwrap().1;
        let tenant = tenant.parse().unwrap();

        let (fault, latency, lifetime) = {
            let rng = &mut self.truth().rng;
            let is_faulty = rng.u8(..10) < 3 && !self.has_recovered();
            let fault = is_faulty.then(|| rng.usize(..FAULTS.len()));
            (fault, millis(rng.u64(..40)), millis(rng.u64(LIFETIMES)))
        };
        let fault = fault.map(|fault| {
            self.0.counts.faults[fault].fetch_add(1, Relaxed);
            FAULTS[fault]
        });
        sleep(latency).await;
        let status = |status| Response::builder().status(status);
        let response = match fault {
            Some(Fault::NotSent) => return Err(NotSent::new("no route to the server").into()),
            Some(Fault::ConnectionReset) => return Err(connection_reset().into()),
            Some(Fault::Panic) => resume_unwind(Box::new("as the test demands")),
            Some(Fault::Status500) => status(500).body(whole("")),
            Some(Fault::Status503RetryAfter) => {
                status(503).header("retry-after", 0).body(whole(""))
            }
            Some(Fault::Status429) => status(429).body(whole(r#"{"error":"slow"}"#)),
            Some(Fault::EmptyBody) => status(200).body(whole("")),
            Some(Fault::HtmlPage) => status(200)
                .header("content-type", "text/html")
                .body(whole("<!doctype html><h1>Sign in to the Wi-Fi</h1>")),
            Some(Fault::InvalidJson) => status(200).body(whole(r#"{"access_token":"#)),
            Some(Fault::ExpiresAtOnce) => {
                status(200).body(whole(self.issue(tenant, arrived, Duration::ZERO)))
            }
            Some(Fault::TornBody) => {
                let json = self.issue(tenant, arrived, lifetime);
                let half = Frame::data(Bytes::from(json).slice(..20));
                status(200).body(body(vec![Ok(half), Err(connection_reset())]))
            }
            Some(Fault::TooSlow) => {
                sleep(FETCH_TIMEOUT * 2).await;
                status(200).body(whole(self.issue(tenant, arrived, lifetime)))
            }
            None => status(200).body(whole(self.issue(tenant, arrived, lifetime))),
        };
        Ok(response.unwrap())
    }

    /// Returns the JSON of a new token, whose life began when its request arrived.
    fn issue(&self, tenant: Tenant, arrived: Instant, lifetime: Duration) -> String {
        let mut truth = self.truth();
        let token = format!("tenant-{tenant}-token-{}", truth.tokens.len());
        let issued = Issued {
            tenant,
            expires: arrived + lifetime,
            expires_at_once: lifetime.is_zero(),
            is_revoked: false,
        };
        truth.tokens.insert(token.clone(), issued);
        let expires_in = lifetime.as_secs_f64();
        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{expires_in}}}"#)
    }

    /// Returns an API that refuses revoked and foreign tokens, those that expire at once, and one of twenty others.
    pub(crate) fn api(&self) -> Http {
        let world = self.clone();
        Http::new(tower::service_fn(move |request: Request<Body>| {
            let response = world.api_response(&request);
            let latency = millis(world.truth().rng.u64(..5));
            async move {
                sleep(latency).await;
                Ok(response)
            }
        }))
    }

    fn api_response(&self, request: &Request<Body>) -> Response<Body> {
        let arrived = now();
        self.0.counts.requests.fetch_add(1, Relaxed);
        let (is_resent, is_accepted) = self.truth().check(request, arrived, self.has_recovered());
        if is_resent {
            self.0.counts.resent.fetch_add(1, Relaxed);
        }
        if is_accepted {
            return Response::new(Full::from("hello"));
        }
        self.0.counts.refused.fetch_add(1, Relaxed);
        refusal()
    }

    pub(crate) fn report(&self) -> String {
        let counts = &self.0.counts;
        let (tokens, latest) = {
            let truth = self.truth();
            (truth.tokens.len(), truth.latest)
        };
        let faults: Vec<_> = FAULTS
            .iter()
            .zip(&counts.faults)
            .map(|(fault, count)| format!("{fault:?} {count:?}"))
            .collect();
        format!(
            "{:?} requests to the API, {:?} refused, {:?} resent, {:?} tokens revoked, the latest {latest:?} after the token had expired; \
             {:?} token requests, {tokens} tokens, {} faults: {}",
            counts.requests,
            counts.refused,
            counts.resent,
            counts.revoked,
            counts.token_requests,
            counts.faults.iter().map(|n| n.load(Relaxed)).sum::<usize>(),
            faults.join(", "),
        )
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        let truth = self.truth();
        let violations = &truth.violations;
        let first = &violations[..violations.len().min(5)];
        assert!(
            violations.is_empty(),
            "{} violations: {first:#?}",
            violations.len()
        );
    }

    #[track_caller]
    pub(crate) fn check_faults(&self) {
        let counts = &self.0.counts;
        for (fault, count) in FAULTS.iter().zip(&counts.faults) {
            assert!(count.load(Relaxed) > 0, "{fault:?} never happened");
        }
        assert!(counts.resent.load(Relaxed) > 0 && counts.revoked.load(Relaxed) > 0);
    }
}

impl Truth {
    /// Returns whether the request was resent, and whether it is accepted. Records what must not happen.
    fn check(&mut self, request: &Request<Body>, arrived: Instant, is_calm: bool) -> (bool, bool) {
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let tenant: Tenant = header(TENANT).unwrap().parse().unwrap();
        let id: usize = header(CALL).unwrap().parse().unwrap();
        let authorization = header(AUTHORIZATION.as_str());
        let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
            let violation = format!("call {id} was sent without a token");
            self.violations.push(violation);
            return (false, false);
        };
        let Some(issued) = self.tokens.get(token) else {
            let violation = format!("call {id} was sent with {token}, which nobody issued");
            self.violations.push(violation);
            return (false, false);
        };
        let late = arrived.saturating_duration_since(issued.expires);
        let tolerance = match issued.expires_at_once {
            true => TOLERANCE_AT_ONCE,
            false => {
                self.latest = self.latest.max(late);
                TOLERANCE
            }
        };
        if issued.tenant != tenant {
            let violation = format!("call {id} of tenant {tenant} was sent with {token}");
            self.violations.push(violation);
        }
        if late > tolerance {
            let violation = format!("call {id} was sent {late:?} after {token} had expired");
            self.violations.push(violation);
        }
        // If an expired token were refused, the cache would drop it after one violation.
        let is_valid = issued.tenant == tenant && !issued.expires_at_once && !issued.is_revoked;

        let sent = self.calls.entry(id).or_default();
        let is_resent = !sent.is_empty();
        // The calls of the recovery are repeated.
        if !is_calm && (sent.len() > 1 || sent.iter().any(|sent| sent == token)) {
            let violation = format!("call {id} was sent with {token} after {sent:?}");
            self.violations.push(violation);
        }
        sent.push(token.to_owned());
        let is_accepted = is_valid && (is_calm || self.rng.u8(..100) >= 5);
        (is_resent, is_accepted)
    }
}

fn connection_reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset")
}

fn whole(content: impl Into<Bytes>) -> TokenBody {
    body(vec![Ok(Frame::data(content.into()))])
}

fn body(frames: Vec<io::Result<Frame<Bytes>>>) -> TokenBody {
    StreamBody::new(stream::iter(frames))
}
