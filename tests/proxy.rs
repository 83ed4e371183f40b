//! `HttpsClient` and the proxies that the environment names.
//!
//! A test cannot change its environment, because others run at the same time. So each request is sent by a process of its own: by the
//! test `process_that_sends_one_request` of this file, which does nothing without its variables.

mod support;

use std::{
    env,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tower_oauth2_client::{HttpsClient, NotSent};

use self::support::{GOOD, chain, network::Network, unreachable_uri};

const PASSWORD: &str = "sesame";
/// `user:sesame`
const BASE64: &str = "dXNlcjpzZXNhbWU=";
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn process_that_sends_one_request() {
    let Ok(uri) = env::var("TEST_URI") else {
        return;
    };
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(std::io::stdout)
        .init();
    let mut builder = HttpsClient::builder().connect_timeout(Duration::from_secs(2));
    if let Ok(pem) = env::var("TEST_ROOTS") {
        builder = builder.root_certificates_pem(pem).unwrap();
    }
    if env::var("TEST_DIRECT").is_ok() {
        builder = builder.proxy_from_env(false);
    }
    println!("{builder:?}");
    let client: HttpsClient = builder.build().unwrap();
    for _ in 0..2 {
        let request = Request::get(&uri).body(Full::<Bytes>::default()).unwrap();
        match client.clone().oneshot(request).await {
            Ok(response) => {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, GOOD);
                println!("RESULT good");
            }
            Err(error) => {
                println!("{error:?}");
                let proof = error.is::<NotSent>();
                println!("RESULT {}, proof: {proof}", chain(&*error));
            }
        }
    }
}

/// Sends two requests from a process with these variables, and returns their results, which must be equal.
async fn send(uri: &str, roots: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "process_that_sends_one_request", "--nocapture"])
        .env("TEST_URI", uri)
        .env("TEST_ROOTS", roots)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(variables.iter().copied());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("the process ends").unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(" TRACE "), "{text}");
    for secret in [PASSWORD, BASE64] {
        assert!(!text.contains(secret), "{text}");
    }
    let results: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("RESULT "))
        .collect();
    assert_eq!(results.len(), 2, "{text}");
    assert_eq!(results[0], results[1]);
    results[0].to_owned()
}

/// A proxy on loopback that connects each tunnel to loopback, whatever its host is.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// `status` is the one with which it responds to a `CONNECT`.
    async fn start(status: u16) -> Self {
        Self::start_with(status, None).await
    }

    async fn start_with(status: u16, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = heads.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, tls) = (seen.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(stream).await.unwrap(), status, seen).await,
                        None => serve(stream, status, seen).await,
                    }
                });
            }
        });
        Self {
            port,
            heads,
            accepting,
        }
    }

    fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The head of each request, in lower case.
    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<S>(mut stream: S, status: u16, seen: Arc<Mutex<Vec<String>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    seen.lock().unwrap().push(head.clone());
    let Some(target) = head.strip_prefix("connect ") else {
        let length = GOOD.len();
        let response = format!(
            "HTTP/1.1 200 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{GOOD}"
        );
        stream.write_all(response.as_bytes()).await.unwrap();
        return;
    };
    let response = format!("HTTP/1.1 {status} X\r\n\r\n");
    stream.write_all(response.as_bytes()).await.unwrap();
    if status == 200 {
        let target = target.split_whitespace().next().unwrap();
        let port: u16 = target.rsplit_once(':').unwrap().1.parse().unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut server).await;
    }
}

#[tokio::test]
async fn https_request_goes_through_a_tunnel() {
    for network in [Network::http1().await, Network::http2().await] {
        let port = network.port();
        let uri = format!("https://as.example:{port}/");
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let proxy = Proxy::start(200).await;
            let result = send(&uri, network.certificate_pem(), &[(name, &proxy.uri())]).await;
            assert_eq!(result, "good", "{name}");
            let expected =
                format!("connect as.example:{port} http/1.1\r\nhost: as.example:{port}\r\n\r\n");
            assert_eq!(proxy.heads(), [expected]);
        }
    }
}

#[tokio::test]
async fn proxy_gets_the_credentials_in_its_uri() {
    let network = Network::http2().await;
    let proxy = Proxy::start(200).await;
    let uri = format!("https://as.example:{}/", network.port());
    let proxy_uri = proxy.uri().replace("//", &format!("//user:{PASSWORD}@"));
    let variables = [("HTTPS_PROXY", &*proxy_uri)];
    let result = send(&uri, network.certificate_pem(), &variables).await;
    assert_eq!(result, "good");
    let expected = format!("proxy-authorization: basic {}", BASE64.to_lowercase());
    assert!(proxy.heads()[0].contains(&expected), "{:?}", proxy.heads());

    let variables = [("HTTP_PROXY", &*proxy_uri)];
    let result = send(
        "http://api.example/hello?q",
        network.certificate_pem(),
        &variables,
    )
    .await;
    assert_eq!(result, "good");
    for head in &proxy.heads()[1..] {
        assert!(
            head.starts_with("get http://api.example/hello?q http/1.1"),
            "{head}"
        );
        assert!(head.contains(&expected), "{head}");
    }
}

#[tokio::test]
async fn proxy_can_be_connected_over_tls() {
    let network = Network::http2().await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let proxy = Proxy::start_with(200, Some(TlsAcceptor::from(Arc::new(tls)))).await;
    let proxy_uri = format!("https://localhost:{}", proxy.port);
    let uri = format!("https://as.example:{}/", network.port());
    let roots = [network.certificate_pem(), &made.cert.pem()].concat();
    let result = send(&uri, &roots, &[("HTTPS_PROXY", &proxy_uri)]).await;
    assert_eq!(result, "good");
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn loopback_uses_the_proxy_for_https_unless_it_is_excluded() {
    let network = Network::http2().await;
    let proxy = Proxy::start(200).await;
    let proxy_uri = proxy.uri();
    let uri = network.uri("/").to_string();
    for (excluded, tunnels) in [("localhost,127.0.0.1", 0), ("other.example", 1)] {
        let variables = [("HTTPS_PROXY", &*proxy_uri), ("NO_PROXY", excluded)];
        let result = send(&uri, network.certificate_pem(), &variables).await;
        assert_eq!(result, "good");
        assert_eq!(proxy.heads().len(), tunnels, "{excluded}");
    }
}

/// The name does not exist, so a direct connection fails.
#[tokio::test]
async fn excluded_hosts_are_connected_directly_and_so_are_all_if_told_so() {
    let network = Network::http2().await;
    let proxy = Proxy::start(200).await;
    let uri = format!("https://as.example:{}/", network.port());
    for variable in [
        ("NO_PROXY", "other, .example"),
        ("no_proxy", "*"),
        ("TEST_DIRECT", "1"),
    ] {
        let variables = [("HTTPS_PROXY", &*proxy.uri()), variable];
        let result = send(&uri, network.certificate_pem(), &variables).await;
        let expected = format!(
            "the request was not sent: failed to connect to as.example:{}: ",
            network.port()
        );
        assert!(result.starts_with(&expected), "{result}");
        assert!(result.ends_with(", proof: true"), "{result}");
        assert!(proxy.heads().is_empty());
    }
}

#[tokio::test]
async fn error_names_the_proxy_that_opens_no_tunnel() {
    let network = Network::http2().await;
    let port = network.port();
    for (status, why) in [
        (403, "it responded with status 403"),
        (
            407,
            "it responded with status 407: set a valid user name and password in the proxy's URI",
        ),
    ] {
        let proxy = Proxy::start(status).await;
        let uri = format!("https://as.example:{port}/");
        let proxy_uri = proxy.uri().replace("//", &format!("//user:{PASSWORD}@"));
        let variables = [("HTTPS_PROXY", &*proxy_uri)];
        let result = send(&uri, network.certificate_pem(), &variables).await;
        let expected = format!(
            "the request was not sent: failed to connect to as.example:{port}: client error (Connect): \
             the proxy 127.0.0.1:{} opened no tunnel: {why}, proof: true",
            proxy.port
        );
        assert_eq!(result, expected);
    }
}

#[tokio::test]
async fn error_names_the_proxy_that_cannot_be_reached() {
    let network = Network::http2().await;
    let address = unreachable_uri().await.authority().unwrap().to_string();
    let proxy = format!("http://user:{PASSWORD}@{address}");
    let uri = "https://as.example/";
    let result = send(uri, network.certificate_pem(), &[("HTTPS_PROXY", &proxy)]).await;
    let expected = format!(
        "the request was not sent: failed to connect to as.example:443: client error (Connect): \
         failed to connect to the proxy {address}: "
    );
    assert!(result.starts_with(&expected), "{result}");
    assert!(result.ends_with(", proof: true"), "{result}");
}

#[tokio::test]
async fn proxy_that_cannot_be_used_is_not_passed_by() {
    let network = Network::http2().await;
    let uri = "https://as.example/";
    let proxy = format!("socks5://user:{PASSWORD}@127.0.0.1:1");
    let result = send(uri, network.certificate_pem(), &[("ALL_PROXY", &proxy)]).await;
    let expected = "the request was not sent: failed to connect to as.example:443: client error (Connect): \
         the proxy in the environment variable ALL_PROXY cannot be used: SOCKS proxies are not supported, proof: true";
    assert_eq!(result, expected);
}

#[tokio::test]
async fn time_to_connect_covers_the_tunnel() {
    let network = Network::http2().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let uri = "https://as.example/";
    let result = send(uri, network.certificate_pem(), &[("HTTPS_PROXY", &proxy)]).await;
    let expected = "the request was not sent: failed to connect to as.example:443: client error (Connect): \
         no connection within 2s, proof: true";
    assert_eq!(result, expected);
}
