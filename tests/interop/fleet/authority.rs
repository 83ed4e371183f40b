//! An authorization server and an API in this process, for replicas in others.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::{net::TcpListener, time};
use tower::ServiceExt as _;
use tower_oauth2_client::test_util::AuthorizationServer;

use crate::support::http;

/// It has two clients, `client` and `other`, both with the secret `secret`.
pub(super) struct Authority {
    pub(super) server: AuthorizationServer,
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

/// What an authority does with old tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// A new refresh token replaces the last one. If that arrives again, the sign-in ends.
    Usual,
    /// A new access token revokes the last one.
    Revokes,
    /// A refresh token that was replaced is accepted again.
    GracePeriod,
}

struct Shared {
    server: AuthorizationServer,
    habit: Habit,
    /// Another server, which answers instead.
    forward_to: Option<String>,
    loses_next_answer: AtomicBool,
    state: Mutex<Seen>,
}

/// What has been seen so far.
#[derive(Default)]
struct Seen {
    forwarded: usize,
    last_token: Option<String>,
    spent: Vec<String>,
    /// The refresh tokens that replaced others.
    successors: HashMap<String, String>,
    refused: Vec<String>,
}

impl Authority {
    pub(super) async fn start(lifetime: Duration) -> Self {
        Self::with(Habit::Usual, lifetime).await
    }

    pub(super) async fn with(habit: Habit, lifetime: Duration) -> Self {
        Self::start_with(habit, lifetime, None).await
    }

    /// Forwards token requests. Its API accepts everything.
    pub(super) async fn over(token_endpoint: &str) -> Self {
        let forward_to = Some(token_endpoint.to_owned());
        Self::start_with(Habit::Usual, Duration::ZERO, forward_to).await
    }

    async fn start_with(habit: Habit, lifetime: Duration, forward_to: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = AuthorizationServer::builder()
            .issuer(format!("http://{address}"))
            .client("client", "secret")
            .client("other", "secret")
            .access_token_lifetime(lifetime)
            .build();
        let shared = Arc::new(Shared {
            server: server.clone(),
            habit,
            forward_to,
            loses_next_answer: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let router = Router::new()
            .route("/api", get(api))
            .route("/token", post(token))
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            server,
            address,
            shared,
            task,
        }
    }

    pub(super) fn token_endpoint(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// An API that refuses tokens of other clients.
    pub(super) fn api_for(&self, client: &str) -> String {
        format!("http://{}/api?{client}", self.address)
    }

    /// Processes the next token request, but never answers it.
    pub(super) fn lose_next_answer(&self) {
        self.shared.loses_next_answer.store(true, Ordering::SeqCst);
    }

    /// How many token requests have arrived, including those that are not answered yet.
    pub(super) fn requests(&self) -> usize {
        let forwarded = self.shared.lock().forwarded;
        forwarded + self.server.token_requests()
    }

    /// Waits until this many token requests have arrived.
    pub(super) async fn received(&self, requests: usize) {
        while self.requests() < requests {
            time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The refresh tokens that arrived, in order.
    pub(super) fn spent(&self) -> Vec<String> {
        self.shared.lock().spent.clone()
    }

    /// The calls that the API refused, even if they were sent again with another token.
    pub(super) fn refused(&self) -> Vec<String> {
        self.shared.lock().refused.clone()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap()
    }

    /// Refuses a token that is not active, or not the caller's.
    fn refusal(&self, caller: &str, headers: &HeaderMap) -> Option<Response> {
        if let Err(refusal) = self.server.check_bearer(headers) {
            return Some(refusal.map(Body::new));
        }
        let token = headers[AUTHORIZATION].to_str().unwrap();
        let owner = &self.server.introspect(&token["Bearer ".len()..])["client_id"];
        // It may have expired since.
        (owner != caller && !owner.is_null()).then(|| with_status(StatusCode::FORBIDDEN))
    }

    async fn forward(&self, uri: &str, parts: Parts, body: Bytes) -> Response {
        self.lock().forwarded += 1;
        let mut forwarded = http::Request::post(uri).body(Full::new(body)).unwrap();
        for name in ["authorization", "content-type"] {
            if let Some(value) = parts.headers.get(name) {
                let name = http::HeaderName::from_static(name);
                forwarded.headers_mut().insert(name, value.clone());
            }
        }
        http().request(forwarded).await.unwrap().map(Body::new)
    }

    /// Returns the refresh token that the server is asked to accept instead of this one.
    fn note_spent(&self, refresh_token: &str) -> Option<String> {
        let mut seen = self.lock();
        seen.spent.push(refresh_token.to_owned());
        let successor = seen.successors.get(refresh_token)?;
        (self.habit == Habit::GracePeriod).then(|| successor.clone())
    }

    fn note_answer(&self, spent: Option<String>, answer: &Value) {
        let mut seen = self.lock();
        if let (Some(spent), Some(next)) = (spent, answer["refresh_token"].as_str()) {
            seen.successors.insert(spent, next.to_owned());
        }
        if let Some(new) = answer["access_token"].as_str() {
            let last = seen.last_token.replace(new.to_owned());
            drop(seen);
            if let (Some(last), Habit::Revokes) = (last, self.habit) {
                self.server.revoke(&last);
            }
        }
    }
}

fn with_status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn api(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if shared.forward_to.is_some() {
        return Response::new(Body::empty());
    }
    let caller = request.uri().query().unwrap();
    let Some(refusal) = shared.refusal(caller, request.headers()) else {
        return Response::new(Body::empty());
    };
    let token = request.headers().get(AUTHORIZATION);
    let refused = format!("{caller}: {token:?} {}", refusal.status());
    shared.lock().refused.push(refused);
    refusal
}

async fn token(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes();
    if let Some(uri) = &shared.forward_to {
        return shared.forward(uri, parts, body).await;
    }
    let mut fields = form_urlencoded::parse(&body);
    let spent = fields.find(|(name, _)| name == "refresh_token");
    let spent = spent.map(|(_, value)| value.into_owned());
    if let Some(spent) = &spent
        && let Some(successor) = shared.note_spent(spent)
    {
        let form = str::from_utf8(&body).unwrap();
        body = form.replace(spent, &successor).into();
    }
    let request = http::Request::from_parts(parts, Full::new(body));
    let Ok(response) = shared.server.clone().oneshot(request).await else {
        return with_status(StatusCode::BAD_GATEWAY);
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    shared.note_answer(spent, &serde_json::from_slice(&body).unwrap_or_default());
    if shared.loses_next_answer.swap(false, Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    Response::from_parts(parts, Body::from(body))
}
