//! A TLS server behind a network that can fall silent.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Channel, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tower_oauth2_client::{HttpsClient, HttpsClientBuilder};

use super::GOOD;

/// A server at `https://localhost`, whose certificate is also for `as.example`. It responds with a token after the time that the query
/// `ms=` names; at `/stream`, the body takes that time, in pieces. The header `connection-number` counts connections from 1.
pub struct Network {
    port: u16,
    certificate_pem: String,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    connections: AtomicUsize,
    /// Connections up to this number are silent.
    silent: watch::Sender<usize>,
    requests: AtomicUsize,
    bytes_from_clients: AtomicUsize,
}

impl Network {
    pub async fn http1() -> Self {
        Self::start("http/1.1").await
    }

    pub async fn http2() -> Self {
        Self::start("h2").await
    }

    pub async fn start(protocol: &str) -> Self {
        let names = ["localhost", "as.example"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![protocol.into()];

        let shared = Arc::new(Shared {
            connections: AtomicUsize::new(0),
            silent: watch::Sender::new(0),
            requests: AtomicUsize::new(0),
            bytes_from_clients: AtomicUsize::new(0),
        });
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server_port = server.local_addr().unwrap().port();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = front.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        Self {
            port,
            certificate_pem: made.cert.pem(),
            shared: shared.clone(),
            tasks: vec![
                tokio::spawn(serve(server, acceptor, shared.clone())),
                tokio::spawn(forward(front, server_port, shared)),
            ],
        }
    }

    /// A builder for clients that trust the server.
    pub fn client(&self) -> HttpsClientBuilder {
        let builder = HttpsClient::builder();
        builder
            .root_certificates_pem(&self.certificate_pem)
            .unwrap()
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn uri(&self, path: &str) -> Uri {
        let port = self.port;
        format!("https://localhost:{port}{path}").parse().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, nothing is forwarded on the connections of today. They stay open, and the system acknowledges what is sent. New
    /// connections work.
    pub fn fall_silent(&self) {
        self.shared.silent.send_replace(self.connections());
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests the server has received completely.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn bytes_from_clients(&self) -> usize {
        self.shared.bytes_from_clients.load(Ordering::SeqCst)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for number in 1.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| respond(request, number, shared.clone()));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    connection: usize,
    shared: Arc<Shared>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let ms: u64 = query
        .strip_prefix("ms=")
        .map_or(0, |ms| ms.parse().unwrap());
    let is_stream = request.uri().path() == "/stream";
    let _ = request.into_body().collect().await;
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let body = if is_stream {
        let (mut sender, body) = Channel::new(1);
        tokio::spawn(async move {
            for _ in 0..ms / 50 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = sender.send_data(Bytes::from("more")).await;
            }
        });
        body.boxed()
    } else {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Full::from(GOOD).boxed()
    };
    let response = Response::builder().header("connection-number", connection);
    Ok(response.body(body).unwrap())
}

async fn forward(listener: TcpListener, server_port: u16, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let server = TcpStream::connect(("127.0.0.1", server_port))
            .await
            .unwrap();
        let shared = shared.clone();
        connections.spawn(async move {
            let mut silent = shared.silent.subscribe();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let copying = async {
                tokio::join!(
                    copy(from_client, to_server, Some(&shared.bytes_from_clients)),
                    copy(from_server, to_client, None),
                )
            };
            tokio::pin!(copying);
            let is_silent = tokio::select! {
                _ = &mut copying => false,
                _ = silent.wait_for(|last| *last >= number) => true,
            };
            if is_silent {
                // `copying` keeps the sockets open.
                std::future::pending::<()>().await;
            }
        });
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    counter: Option<&AtomicUsize>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(counter) = counter {
            counter.fetch_add(read, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
