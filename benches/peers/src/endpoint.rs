//! The token endpoint of all peers: in process for peers that accept a custom transport, otherwise on loopback.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, time::sleep};

use crate::BoxError;

pub const URI: &str = "https://as.example/connect/token";
pub const CLIENT_ID: &str = "orders-service";
pub const CLIENT_SECRET: &str = "7Fjfp0ZBr1KtDRbnfVdmIw/+=";
pub const SCOPE: &str = "orders:read";

/// A token endpoint. Clones share the request counter.
#[derive(Clone, Debug)]
pub struct Endpoint {
    takes: Duration,
    answer: Answer,
    requests: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
enum Answer {
    Token(Bytes),
    InvalidClient,
}

impl Endpoint {
    /// Creates an endpoint that returns this token, valid for one hour.
    pub fn new(token: &str, takes: Duration) -> Self {
        let body = format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600,"scope":"{SCOPE}"}}"#
        );
        Self {
            takes,
            answer: Answer::Token(body.into()),
            requests: Arc::default(),
        }
    }

    /// Creates an endpoint that answers every request with `invalid_client`.
    pub fn refusing(takes: Duration) -> Self {
        Self {
            takes,
            answer: Answer::InvalidClient,
            requests: Arc::default(),
        }
    }

    /// Returns the number of requests received.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub async fn answer(&self) -> (StatusCode, Bytes) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
        match &self.answer {
            Answer::Token(body) => (StatusCode::OK, body.clone()),
            Answer::InvalidClient => (
                StatusCode::UNAUTHORIZED,
                Bytes::from_static(br#"{"error":"invalid_client","error_description":"unknown"}"#),
            ),
        }
    }

    pub async fn response(&self) -> Response<Full<Bytes>> {
        let (status, body) = self.answer().await;
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    /// Listens on loopback until the runtime ends.
    pub async fn listen(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let endpoint = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let endpoint = endpoint.clone();
                let service = service_fn(move |request| serve(endpoint.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(address)
    }
}

async fn serve(
    endpoint: Endpoint,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _ = request.into_body().collect().await;
    Ok(endpoint.response().await)
}

/// Parses the token from a response, as hand-written code does.
pub fn parse(status: StatusCode, body: &[u8]) -> Result<(String, Duration), BoxError> {
    #[derive(serde::Deserialize)]
    struct Token {
        access_token: String,
        expires_in: u64,
    }
    if !status.is_success() {
        return Err(format!("the token endpoint answered with status {status}").into());
    }
    let token: Token = serde_json::from_slice(body)?;
    Ok((token.access_token, Duration::from_secs(token.expires_in)))
}
