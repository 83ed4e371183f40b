//! An authorization server and an API in this process, for replicas in others.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::{get, post},
};
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_oauth2_client::test_util::AuthorizationServer;

use crate::support::http;

pub(super) struct Authority {
    pub(super) server: AuthorizationServer,
    address: std::net::SocketAddr,
    forwarded: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    server: AuthorizationServer,
    /// Another server, which answers instead.
    forward_to: Option<String>,
    forwarded: Arc<AtomicUsize>,
    /// The last token, if a new one revokes it.
    last: Option<Arc<Mutex<Option<String>>>>,
}

impl Authority {
    pub(super) async fn start(lifetime: Duration) -> Self {
        Self::with(lifetime, None, false).await
    }

    /// A new token revokes the last one.
    pub(super) async fn revoking(lifetime: Duration) -> Self {
        Self::with(lifetime, None, true).await
    }

    /// Forwards token requests. Its API accepts everything.
    pub(super) async fn over(token_endpoint: &str) -> Self {
        Self::with(Duration::ZERO, Some(token_endpoint.to_owned()), false).await
    }

    async fn with(lifetime: Duration, forward_to: Option<String>, revokes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = AuthorizationServer::builder()
            .issuer(format!("http://{address}"))
            .access_token_lifetime(lifetime)
            .build();
        let forwarded = Arc::<AtomicUsize>::default();
        let shared = Shared {
            server: server.clone(),
            forward_to,
            forwarded: forwarded.clone(),
            last: revokes.then(Arc::default),
        };
        let router = Router::new()
            .route("/api", get(api))
            .route("/token", post(token))
            .with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            server,
            address,
            forwarded,
            task,
        }
    }

    pub(super) fn token_endpoint(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub(super) fn api(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// How many token requests were forwarded.
    pub(super) fn forwarded(&self) -> usize {
        self.forwarded.load(Ordering::SeqCst)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn api(State(shared): State<Shared>, request: Request) -> Response {
    let refused = shared.server.check_bearer(request.headers());
    match refused {
        Err(refusal) if shared.forward_to.is_none() => {
            let (parts, body) = refusal.into_parts();
            let body: Full<bytes::Bytes> = body;
            Response::from_parts(parts, Body::new(body))
        }
        _ => Response::new(Body::empty()),
    }
}

async fn token(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if let Some(uri) = &shared.forward_to {
        shared.forwarded.fetch_add(1, Ordering::SeqCst);
        let mut forwarded = http::Request::post(uri).body(Full::new(body)).unwrap();
        for name in ["authorization", "content-type"] {
            if let Some(value) = parts.headers.get(name) {
                let name = http::HeaderName::from_static(name);
                forwarded.headers_mut().insert(name, value.clone());
            }
        }
        return http().request(forwarded).await.unwrap().map(Body::new);
    }
    let request = http::Request::from_parts(parts, Full::new(body));
    let response = match shared.server.clone().oneshot(request).await {
        Ok(response) => response,
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            return response;
        }
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if let Some(last) = &shared.last {
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        if let Some(new) = answer["access_token"].as_str() {
            if let Some(old) = last.lock().unwrap().replace(new.to_owned()) {
                shared.server.revoke(&old);
            }
        }
    }
    Response::from_parts(parts, Body::from(body))
}
