//! Helpers that the test files share: a recording service, a form decoder, a scripted loopback server.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses only some of it"
)]

mod https;
mod log;
pub mod mutual_tls;
pub mod network;

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tower::{ServiceExt, util::MapErr};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, NotSent, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest,
};
use tower_service::Service;

pub use self::{https::HttpsServer, log::Log};

pub const URI: &str = "https://as.example/token";
pub const GOOD: &str = r#"{"access_token":"T","token_type":"Bearer","expires_in":3600}"#;

pub type Answer = Result<Response<Full<Bytes>>, BoxError>;

pub fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Ok(Response::builder()
        .status(status)
        .body(Full::new(body.into()))
        .unwrap())
}

/// An HTTP service that records its requests and answers from a script.
///
/// The script is a function of the number of the request, which starts at 0.
#[derive(Clone)]
pub struct Recorder {
    sent: Arc<Mutex<Vec<Request<Bytes>>>>,
    calls: Arc<AtomicUsize>,
    script: Arc<dyn Fn(usize) -> Answer + Send + Sync>,
}

impl Recorder {
    pub fn good() -> Self {
        Self::new(|_| answer(200, GOOD))
    }

    pub fn new(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self {
            sent: Arc::default(),
            calls: Arc::default(),
            script: Arc::new(script),
        }
    }

    /// Returns how often the service was called, whether or not the returned future was polled.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Takes the requests that were recorded since the last call.
    pub fn take(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }

    /// Returns copies of the requests that were recorded since the last call of [`take`](Self::take).
    pub fn peek(&self) -> Vec<Request<Bytes>> {
        self.sent.lock().unwrap().clone()
    }

    pub fn take_one(&self) -> Request<Bytes> {
        let mut sent = self.take();
        assert_eq!(sent.len(), 1, "expected exactly one request");
        sent.remove(0)
    }

    /// Checks that nothing was sent because the request is invalid, and returns the message of its error.
    pub fn check_unsent(&self, error: &TokenError) -> String {
        assert_eq!(error.kind(), TokenErrorKind::Request);
        assert!(!error.may_have_been_processed() && !error.is_transient());
        assert_eq!(self.calls(), 0);
        error.to_string()
    }

    pub fn endpoint(&self, client: ClientAuthentication) -> TokenEndpoint<Self> {
        TokenEndpoint::new(self.clone(), URI, client)
    }
}

impl Service<Request<Full<Bytes>>> for Recorder {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            this.sent
                .lock()
                .unwrap()
                .push(Request::from_parts(parts, body));
            (this.script)(number)
        })
    }
}

/// Returns the HTTP request of a client that requests a token for itself.
pub async fn sent_by(client: ClientAuthentication) -> Request<Bytes> {
    let recorder = Recorder::good();
    let request = TokenRequest::client_credentials();
    let answered = recorder.endpoint(client).oneshot(request).await;
    answered.expect("a good request");
    recorder.take_one()
}

/// Decodes the pairs of a form body, in order.
pub fn form(body: &[u8]) -> Vec<(String, String)> {
    let body = std::str::from_utf8(body).unwrap();
    assert!(body.is_ascii(), "a form body must be ASCII");
    body.split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').expect("a pair without an equals sign");
            (form_decode(name), form_decode(value))
        })
        .collect()
}

/// Decodes one name or value of a form body.
pub fn form_decode(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = bytes.next().expect("a percent sign needs two digits");
                    char::from(digit).to_digit(16).expect("not a hex digit")
                };
                u8::try_from(digit() * 16 + digit()).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(decoded).unwrap()
}

pub fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Returns the decoded credentials of the `Basic` authorization header.
pub fn basic(headers: &HeaderMap) -> String {
    let value: &HeaderValue = &headers[AUTHORIZATION];
    let base64 = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
    String::from_utf8(BASE64_STANDARD.decode(base64).unwrap()).unwrap()
}

/// How a [`Loopback`] answers one request.
#[derive(Clone)]
pub struct Script {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone)]
pub enum Then {
    /// Closes the connection cleanly.
    Close,
    /// Resets the connection when notified.
    ResetOn(Arc<Notify>),
    /// Keeps the connection open without writing anything more.
    Stall,
}

impl Script {
    pub fn new(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self {
            bytes: bytes.into(),
            then,
        }
    }

    /// Creates a complete response. Each line in `headers` ends with CRLF.
    pub fn answer(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        );
        Self::new(answer, Then::Close)
    }

    pub fn good() -> Self {
        Self::answer(200, "content-type: application/json\r\n", GOOD)
    }
}

/// A server on loopback that reads whole requests and answers from a script.
///
/// The script is a function of the number of the request, which starts at 0.
pub struct Loopback {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    connections: AtomicUsize,
    requests: Mutex<Vec<Vec<u8>>>,
    script: Box<dyn Fn(usize) -> Script + Send + Sync>,
}

impl Loopback {
    pub async fn start(script: impl Fn(usize) -> Script + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            connections: AtomicUsize::new(0),
            requests: Mutex::default(),
            script: Box::new(script),
        });
        let serving = state.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Self {
            address,
            state,
            accepting,
        }
    }

    /// Returns the URI with the given host name (such as `localhost`), so that two servers can have different hosts.
    pub fn uri_at(&self, host: &str) -> Uri {
        let port = self.address.port();
        format!("http://{host}:{port}/token").parse().unwrap()
    }

    pub fn uri(&self) -> Uri {
        self.uri_at("127.0.0.1")
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Returns every request so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.state.requests.lock().unwrap();
        requests
            .iter()
            .map(|request| String::from_utf8(request.clone()).unwrap())
            .collect()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let Some(request) = read_request(&mut stream).await else {
        return;
    };
    let script = {
        let mut requests = state.requests.lock().unwrap();
        requests.push(request);
        (state.script)(requests.len() - 1)
    };
    // A client that has read enough may hang up early.
    let _ = stream.write_all(&script.bytes).await;
    match script.then {
        Then::Close => {
            let _ = stream.shutdown().await;
        }
        Then::ResetOn(signal) => {
            signal.notified().await;
            #[allow(deprecated, reason = "its successor is not in tokio 1.38")]
            stream.set_linger(Some(Duration::ZERO)).unwrap();
        }
        Then::Stall => std::future::pending().await,
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if head.contains("transfer-encoding: chunked") {
            if request.ends_with(b"0\r\n\r\n") {
                return Some(request);
            }
        } else if request.len() >= end + 4 + length {
            return Some(request);
        }
    }
}

pub type HyperClient = Client<HttpConnector, Full<Bytes>>;

pub fn hyper_client() -> HyperClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Returns a hyper client whose connect errors are marked as [`NotSent`].
pub fn hyper_client_with_proof() -> MapErr<HyperClient, fn(legacy::Error) -> BoxError> {
    hyper_client().map_err(|error| match error.is_connect() {
        true => NotSent::new(error).into(),
        false => error.into(),
    })
}

/// Returns a client that follows redirects as reqwest does by default, and ignores proxies from the environment.
pub fn reqwest_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The error and its sources.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = sources.map(ToString::to_string).collect();
    texts.join(": ")
}

/// Returns a loopback URI where nobody listens.
pub async fn unreachable_uri() -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    format!("http://{address}/token").parse().unwrap()
}
