//! Client certificates: which are refused, how they rotate, and how rotation affects connections and tokens.

mod support;

use std::{
    error::Error,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, date_time_ymd,
};
use rustls::{ClientConfig, client::Resumption};
use tokio::task::JoinSet;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, ClientCertificate, HttpsClient,
    InvalidClientCertificate, NotSent, TokenCache, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest, add_access_token::CloneBody, test_util::Failure,
};

use self::support::mutual_tls::{Ca, Files, MutualTlsServer, Options, Pair, TEST_TIMEOUT};

const TLS12: Versions = &[&rustls::version::TLS12];
const TLS13: Versions = &[&rustls::version::TLS13];

type Versions = &'static [&'static rustls::SupportedProtocolVersion];

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text += &format!(": {error}");
        next = error.source();
    }
    text
}

fn client(ca: &Ca, certificate: &ClientCertificate) -> HttpsClient {
    let builder = HttpsClient::builder().root_certificates_pem(ca.pem());
    let builder = builder.unwrap().client_certificate(certificate.clone());
    builder.build().unwrap()
}

fn endpoint(server: &MutualTlsServer, http: &HttpsClient) -> TokenEndpoint<HttpsClient> {
    let client = ClientAuthentication::tls_client_auth("client");
    TokenEndpoint::new(http.clone(), server.uri("/token"), client)
}

async fn send<S>(client: &S, uri: Uri) -> Result<(StatusCode, String), BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>> + Clone,
    S::Error: Into<BoxError>,
{
    let request = Request::get(uri).body(Full::default()).unwrap();
    let response = tokio::time::timeout(TEST_TIMEOUT, client.clone().oneshot(request)).await;
    let response = response.expect("timed out").map_err(Into::into)?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec())?))
}

/// Returns the thumbprint of the client certificate that the server sees.
async fn who_am_i(client: &HttpsClient, server: &MutualTlsServer) -> String {
    send(client, server.uri("/")).await.unwrap().1
}

fn refused(certificate: &str, key: &str) -> InvalidClientCertificate {
    ClientCertificate::from_pem(certificate, key).unwrap_err()
}

async fn wait_for(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(TEST_TIMEOUT, waiting).await;
    waited.expect("timed out");
}

// Refused certificates.

#[test]
fn an_invalid_certificate_or_key_is_an_error_with_its_reason() {
    const CUT: &str = "a section has no end; the file may be only partly written";
    let ca = Ca::new("ca");
    let (good, other) = (ca.issue("client"), ca.issue("client"));
    let expired = ca.issue_with("client", |params| {
        params.not_after = date_time_ymd(2001, 2, 3)
    });
    let early = ca.issue_with("client", |params| {
        params.not_before = date_time_ymd(2999, 4, 5)
    });
    let half = |pem: &str| pem[..pem.len() / 2].to_owned();
    let not_base64 = |pem: &str| pem.replace("\nMI", "\n*I");
    let without_dashes = |pem: &str| pem.replace("-----END", "END");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted_pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: \
        AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let no_x509 = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";

    let [no_certificate, key_missing] = [
        ("certificate", "`CERTIFICATE`"),
        ("private key", "`PRIVATE KEY`"),
    ]
    .map(|(what, section)| format!("no {what} found: add a PEM section {section}"));
    let cases: &[(&str, &str, &str)] = &[
        ("", &good.key, &no_certificate),
        ("no PEM at all", &good.key, &no_certificate),
        (&good.key, &good.key, &no_certificate),
        (
            &half(&good.certificate),
            &good.key,
            &format!("the PEM of the certificate is malformed: {CUT}"),
        ),
        (
            &not_base64(&good.certificate),
            &good.key,
            "the PEM of the certificate is malformed: a section is not base64",
        ),
        (
            &without_dashes(&good.certificate),
            &good.key,
            &format!("the PEM of the certificate is malformed: {CUT}"),
        ),
        (
            "-----BEGIN CERTIFICATE\nMIIB\n",
            &good.key,
            "the PEM of the certificate is malformed: the first line of a section is malformed",
        ),
        (no_x509, &good.key, "the certificate is not X.509: "),
        (
            &expired.certificate,
            &expired.key,
            "the certificate expired on Sat, 03 Feb 2001 00:00:00 GMT",
        ),
        (
            &early.certificate,
            &early.key,
            "the certificate is not valid before Fri, 05 Apr 2999 00:00:00 GMT",
        ),
        (&good.certificate, "", &key_missing),
        (&good.certificate, &good.certificate, &key_missing),
        (
            &good.certificate,
            &half(&good.key),
            &format!("the PEM of the private key is malformed: {CUT}"),
        ),
        (
            &good.certificate,
            &not_base64(&good.key),
            "the PEM of the private key is malformed: a section is not base64",
        ),
        (
            &good.certificate,
            &without_dashes(&good.key),
            &format!("the PEM of the private key is malformed: {CUT}"),
        ),
        (
            &good.certificate,
            encrypted,
            "the private key is encrypted: decrypt it first",
        ),
        (
            &good.certificate,
            encrypted_pkcs1,
            "the private key is encrypted: decrypt it first",
        ),
        (
            &good.certificate,
            no_key,
            "the private key cannot be used: ",
        ),
        (
            &good.certificate,
            &other.key,
            "the private key does not belong to the certificate",
        ),
        (
            &(ca.pem() + &good.certificate),
            &good.key,
            "the private key does not belong to the certificate",
        ),
    ];
    for (certificate, key, expected) in cases {
        let error = refused(certificate, key);
        let message = error.to_string();
        assert!(
            message.starts_with(expected),
            "expected {expected:?}, got {message:?}"
        );
        for line in good
            .key
            .lines()
            .chain(other.key.lines())
            .filter(|line| !line.starts_with('-'))
        {
            for text in [format!("{error:?}"), format!("{error:#?}"), chain(&error)] {
                assert!(!text.contains(line), "{text}");
            }
        }
    }
    good.client_certificate();
}

/// What happens to a PEM on its way through editors, YAML, shells and environment variables.
fn reshaped(pem: &str) -> Vec<String> {
    let lines: Vec<_> = pem.lines().collect();
    vec![
        format!("\u{feff}{pem}"),
        lines.join("\r\n"),
        lines.join("\r"),
        format!("    {}", lines.join("\n    ")),
        lines.join(" \t\n\n"),
        lines.join("\\n"),
        format!("\"{}\\r\\n\"", lines.join("\\r\\n")),
        lines.join(" "),
        format!("Bag Attributes\n    localKeyID: 01\n{pem}and what follows"),
    ]
}

#[test]
fn a_pem_is_read_whatever_became_of_its_lines() {
    let ca = Ca::new("ca");
    let pair = ca.issue("client");
    let expected = pair.client_certificate();
    let chain = pair.certificate.clone() + &ca.pem();
    let keys = reshaped(&pair.key);
    for (chain, key) in reshaped(&chain).iter().zip(&keys) {
        for (chain, key) in [(chain, key), (&pair.certificate, key), (chain, &pair.key)] {
            let read = ClientCertificate::from_pem(chain, key);
            let read = read.unwrap_or_else(|error| panic!("{error}: {chain:?}"));
            assert_eq!(read.thumbprint(), expected.thumbprint());
        }
    }
    for roots in reshaped(&ca.pem()) {
        let builder = HttpsClient::builder().root_certificates_pem(&roots);
        let _ = builder.unwrap_or_else(|error| panic!("{error}: {roots:?}"));
    }
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; this test reads the time of day"
)]
fn a_certificate_of_the_last_minute_is_taken_even_if_the_clock_of_the_ca_is_ahead() {
    let ca = Ca::new("ca");
    let issued =
        |from: SystemTime| ca.issue_with("client", |params| params.not_before = from.into());
    let now = SystemTime::now();
    let seconds = Duration::from_secs;
    for from in [now - seconds(59), now, now + seconds(5), now + seconds(50)] {
        issued(from).client_certificate();
    }
    let late = issued(now + seconds(120));
    let error = refused(&late.certificate, &late.key).to_string();
    assert!(
        error.starts_with("the certificate is not valid before"),
        "{error}"
    );
    assert!(
        error.ends_with("check the clock of this machine"),
        "{error}"
    );
}

#[test]
fn an_error_names_the_file() {
    let ca = Ca::new("ca");
    let (good, other) = (ca.issue("client"), ca.issue("client"));
    let files = Files::new("an_error_names_the_file", &good);
    let load = || ClientCertificate::from_files(&files.certificate, &files.key).unwrap_err();
    let starts_with_file = |error: &InvalidClientCertificate, file: &std::path::Path| {
        error
            .to_string()
            .starts_with(&format!("{}: ", file.display()))
    };

    fs::write(&files.key, "").unwrap();
    let error = load();
    assert!(starts_with_file(&error, &files.key), "{error}");

    fs::write(&files.key, &other.key).unwrap();
    let error = load();
    assert!(starts_with_file(&error, &files.certificate), "{error}");

    fs::write(&files.certificate, "").unwrap();
    let error = load();
    assert!(starts_with_file(&error, &files.certificate), "{error}");

    fs::remove_file(&files.key).unwrap();
    let error = load();
    assert!(starts_with_file(&error, &files.key), "{error}");
    assert!(
        chain(&error).contains("cannot be read: No such file"),
        "{}",
        chain(&error)
    );
}

#[test]
fn a_certificate_and_its_key_may_be_one_file() {
    let pair = Ca::new("ca").issue("client");
    for both in [
        pair.certificate.clone() + &pair.key,
        pair.key.clone() + &pair.certificate,
    ] {
        let certificate = ClientCertificate::from_pem(&both, &both).unwrap();
        assert_eq!(certificate.thumbprint(), pair.thumbprint());
    }
}

#[test]
fn debug_does_not_print_the_key() {
    let ca = Ca::new("ca");
    let pair = ca.issue_with("client", |params| {
        params.not_after = date_time_ymd(2999, 4, 5)
    });
    let certificate = pair.client_certificate();
    let thumbprint = certificate.thumbprint();
    let shown = format!("{certificate:?}");
    let expected = format!(
        "ClientCertificate {{ thumbprint: {thumbprint:?}, expires_at: Fri, 05 Apr 2999 00:00:00 GMT, .. }}"
    );
    assert_eq!(shown, expected);
    let builder = HttpsClient::builder().client_certificate(certificate.clone());
    let shown = [
        shown,
        format!("{builder:#?}"),
        format!("{:?}", client(&ca, &certificate)),
    ]
    .concat();
    for line in pair.key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
    let expires_at = httpdate::parse_http_date("Fri, 05 Apr 2999 00:00:00 GMT").unwrap();
    assert_eq!(certificate.expires_at(), expires_at);
}

#[test]
fn invalid_root_certificates_are_refused() {
    let pair = Ca::new("ca").issue("client");
    for (pem, expected) in [
        ("", "add a PEM section `CERTIFICATE`"),
        (&*pair.key, "add a PEM section `CERTIFICATE`"),
        (&pair.certificate[..100], "the PEM is malformed"),
        (
            &*pair.certificate.replace("\nMI", "\n*I"),
            "the PEM is malformed",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "invalid peer certificate: BadEncoding",
        ),
    ] {
        let error = HttpsClient::builder()
            .root_certificates_pem(pem)
            .unwrap_err();
        let expected = format!("the root certificates cannot be used: {expected}");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn every_kind_of_key_is_accepted() {
    let ca = Ca::new("ca");
    let server = MutualTlsServer::start(&ca).await;
    for kind in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ECDSA_P521_SHA512,
        &PKCS_ED25519,
        &PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(kind).unwrap();
        let certificate = ca.issue_for(&key).client_certificate();
        let used = who_am_i(&client(&ca, &certificate), &server).await;
        assert_eq!(used, certificate.thumbprint());
    }
}

// Replacing a certificate.

#[test]
fn a_partly_written_pair_keeps_the_old_one_in_use() {
    let ca = Ca::new("ca");
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let files = Files::new("a_half_written_pair", &old);
    let certificate = files.load();
    let clone = certificate.clone();
    assert!(!certificate.reload().unwrap());

    fs::write(&files.certificate, &new.certificate[..200]).unwrap();
    certificate.reload().unwrap_err();
    fs::write(&files.certificate, &new.certificate).unwrap();
    certificate.reload().unwrap_err();
    fs::write(&files.key, &new.key[..100]).unwrap();
    certificate.reload().unwrap_err();
    fs::remove_file(&files.key).unwrap();
    certificate.reload().unwrap_err();
    assert_eq!(clone.thumbprint(), old.thumbprint());
    assert_eq!(clone.generation(), 0);

    fs::write(&files.key, &new.key).unwrap();
    assert!(certificate.reload().unwrap());
    assert!(!certificate.reload().unwrap());
    assert_eq!(clone.thumbprint(), new.thumbprint());
    assert_eq!(clone.generation(), 1);
}

#[test]
fn an_expired_certificate_does_not_replace_a_valid_one() {
    let ca = Ca::new("ca");
    let certificate = ca.issue("client").client_certificate();
    let expired = ca.issue_with("client", |params| {
        params.not_after = date_time_ymd(2001, 2, 3)
    });
    let before = certificate.thumbprint();
    certificate
        .replace(expired.certificate, expired.key)
        .unwrap_err();
    assert_eq!(certificate.thumbprint(), before);
}

#[test]
fn a_certificate_from_pem_can_be_replaced_by_pem() {
    let ca = Ca::new("ca");
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let certificate = old.client_certificate();
    assert!(!certificate.reload().unwrap());
    assert!(!certificate.replace(&old.certificate, &old.key).unwrap());
    assert!(certificate.replace(&new.certificate, &new.key).unwrap());
    assert_eq!(certificate.thumbprint(), new.thumbprint());
}

// Connections after a rotation.

#[tokio::test]
async fn a_request_after_a_rotation_uses_a_connection_with_the_new_certificate() {
    for versions in [TLS12, TLS13] {
        for protocols in [&["h2"][..], &["http/1.1"]] {
            let ca = Ca::new("ca");
            let options = Options {
                versions,
                protocols,
            };
            let server = MutualTlsServer::start_with(&ca, &ca, options).await;
            let (old, new) = (ca.issue("client"), ca.issue("client"));
            let certificate = old.client_certificate();
            let http = client(&ca, &certificate);
            let clone = http.clone();

            assert_eq!(who_am_i(&http, &server).await, old.thumbprint());
            assert_eq!(who_am_i(&clone, &server).await, old.thumbprint());
            certificate.replace(&new.certificate, &new.key).unwrap();

            assert_eq!(who_am_i(&http, &server).await, new.thumbprint());
            assert_eq!(who_am_i(&clone, &server).await, new.thumbprint());
            server.wait_until_closed(0).await;
            let seen = server.seen().into_iter();
            let seen: Vec<_> = seen.map(|seen| (seen.connection, seen.resumed)).collect();
            assert_eq!(seen, [(0, false), (0, false), (1, false), (1, false)]);
        }
    }
}

/// A new certificate in the resolver alone is not enough: the connection pool and TLS sessions keep the old identity.
#[tokio::test]
async fn another_http_client_needs_a_new_pool_and_no_session_resumption() {
    for (resumption, is_old) in [
        (Resumption::default(), true),
        (Resumption::disabled(), false),
    ] {
        let ca = Ca::new("ca");
        let server = MutualTlsServer::start(&ca).await;
        let (old, new) = (ca.issue("client"), ca.issue("client"));
        let certificate = old.client_certificate();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(ca.roots())
            .with_client_cert_resolver(Arc::new(certificate.clone()));
        tls.resumption = resumption;
        let build = || {
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_only()
                .enable_all_versions()
                .build();
            Client::builder(TokioExecutor::new()).build(connector)
        };
        let http = build();
        let ask = async |http| send(http, server.uri("/")).await.unwrap().1;
        assert_eq!(ask(&http).await, old.thumbprint());
        certificate.replace(&new.certificate, &new.key).unwrap();
        assert_eq!(ask(&http).await, old.thumbprint());
        let expected = if is_old { &old } else { &new };
        assert_eq!(ask(&build()).await, expected.thumbprint());
        assert_eq!(server.seen().last().unwrap().resumed, is_old);
    }
}

#[tokio::test]
async fn a_running_request_completes_on_its_connection() {
    let ca = Ca::new("ca");
    let server = MutualTlsServer::start(&ca).await;
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let certificate = old.client_certificate();
    let http = client(&ca, &certificate);
    server
        .authorization
        .fail_next(Failure::delay(Duration::from_millis(200)));
    let fetch = tokio::spawn(endpoint(&server, &http).oneshot(TokenRequest::client_credentials()));
    wait_for(|| server.authorization.token_requests() == 1).await;

    certificate.replace(&new.certificate, &new.key).unwrap();
    assert_eq!(who_am_i(&http, &server).await, new.thumbprint());
    assert!(!fetch.is_finished());
    let response = fetch.await.unwrap().unwrap();
    let token = response.access_token().expose_secret();
    assert_eq!(server.bound_to(token), Some(old.thumbprint()));
    server.wait_until_closed(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_loses_no_request() {
    const CALLERS: usize = 8;
    const ROTATIONS: usize = 10;
    let ca = Ca::new("ca");
    let server = Arc::new(MutualTlsServer::start(&ca).await);
    let pairs: Vec<Pair> = (0..=ROTATIONS).map(|_| ca.issue("client")).collect();
    let order: Arc<Vec<String>> = Arc::new(pairs.iter().map(Pair::thumbprint).collect());
    let certificate = pairs[0].client_certificate();
    let http = client(&ca, &certificate);
    let is_done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (http, server, certificate) = (http.clone(), server.clone(), certificate.clone());
        let (order, is_done, answered) = (order.clone(), is_done.clone(), answered.clone());
        callers.spawn(async move {
            while !is_done.load(Ordering::Relaxed) {
                let generation = certificate.generation() as usize;
                let used = who_am_i(&http, &server).await;
                let used = order.iter().position(|thumbprint| *thumbprint == used);
                assert!(used.unwrap() >= generation, "{used:?} after {generation}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for pair in &pairs[1..] {
        let enough = answered.load(Ordering::Relaxed) + 5 * CALLERS;
        wait_for(|| answered.load(Ordering::Relaxed) >= enough || callers.len() < CALLERS).await;
        assert!(certificate.replace(&pair.certificate, &pair.key).unwrap());
    }
    is_done.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(who_am_i(&http, &server).await, order[ROTATIONS]);
}

// Tokens after a rotation.

#[tokio::test]
async fn bound_tokens_can_be_dropped_after_a_rotation() {
    let ca = Ca::new("ca");
    let server = MutualTlsServer::start(&ca).await;
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let files = Files::new("a_bound_token", &old);
    let certificate = files.load();
    let http = client(&ca, &certificate);
    let tokens = TokenCache::new(endpoint(&server, &http));
    let source = tokens.source(TokenRequest::client_credentials());
    let api = AddAccessTokenLayer::new(source.clone());
    let api = api.origin(server.uri("/")).unwrap();
    let api = ServiceBuilder::new().layer(api).service(http);

    assert_eq!(send(&api, server.uri("/hello")).await.unwrap().1, "hello");
    assert_eq!(send(&api, server.uri("/hello")).await.unwrap().1, "hello");
    assert_eq!(server.authorization.token_requests(), 1);

    files.write(&new);
    if certificate.reload().unwrap() {
        tokens.invalidate_all();
    }
    assert_eq!(send(&api, server.uri("/hello")).await.unwrap().1, "hello");
    assert_eq!(server.authorization.token_requests(), 2);
    let token = source.peek().unwrap();
    assert_eq!(
        server.bound_to(token.expose_secret()),
        Some(new.thumbprint())
    );
    let seen = server.seen_at("/hello");
    let used: Vec<_> = seen.iter().map(|seen| seen.thumbprint.clone()).collect();
    assert_eq!(used, [old.thumbprint(), old.thumbprint(), new.thumbprint()]);
    assert!(seen.iter().all(|seen| seen.status == StatusCode::OK));
}

#[tokio::test]
async fn a_token_bound_to_the_old_certificate_is_refused_and_replaced() {
    let ca = Ca::new("ca");
    let server = MutualTlsServer::start(&ca).await;
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let certificate = old.client_certificate();
    let http = client(&ca, &certificate);
    let tokens = TokenCache::new(endpoint(&server, &http));
    let layer = AddAccessTokenLayer::new(tokens.source(TokenRequest::client_credentials()));
    let layer = layer.origin(server.uri("/")).unwrap();
    let api = ServiceBuilder::new()
        .layer(layer.resend(CloneBody))
        .service(http);

    assert_eq!(send(&api, server.uri("/hello")).await.unwrap().1, "hello");
    certificate.replace(&new.certificate, &new.key).unwrap();
    for _ in 0..2 {
        assert_eq!(send(&api, server.uri("/hello")).await.unwrap().1, "hello");
    }
    let seen = server.seen_at("/hello");
    let statuses: Vec<_> = seen.iter().map(|seen| seen.status.as_u16()).collect();
    assert_eq!(statuses, [200, 401, 200, 200]);
    assert_eq!(server.authorization.token_requests(), 2);
}

#[tokio::test]
async fn a_running_fetch_over_an_old_connection_is_cancelled() {
    let ca = Ca::new("ca");
    let server = MutualTlsServer::start(&ca).await;
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let certificate = old.client_certificate();
    let http = client(&ca, &certificate);
    let tokens = TokenCache::new(endpoint(&server, &http));
    let source = tokens.source(TokenRequest::client_credentials());

    server.authorization.fail_next(Failure::stall());
    let early = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    wait_for(|| server.authorization.token_requests() == 1).await;
    certificate.replace(&new.certificate, &new.key).unwrap();
    tokens.invalidate_all();

    // Callers of the cancelled fetch wait for the next one.
    let early = tokio::time::timeout(TEST_TIMEOUT, early).await;
    let token = early.expect("timed out").unwrap().unwrap();
    assert_eq!(
        server.bound_to(token.expose_secret()),
        Some(new.thumbprint())
    );
    assert_eq!(source.peek(), Some(token));
    assert_eq!(server.authorization.token_requests(), 2);
}

#[tokio::test]
async fn a_certificate_whose_files_were_replaced_is_read_again_after_a_refusal() {
    let ca = Ca::new("ca");
    let server = MutualTlsServer::start(&ca).await;
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let files = Files::new("refused", &old);
    let certificate = files.load();
    let tokens = TokenCache::new(endpoint(&server, &client(&ca, &certificate)));
    let source = tokens.source(TokenRequest::client_credentials());
    source.token().await.unwrap();

    files.write(&new);
    tokens.invalidate_all();
    server
        .authorization
        .fail_next(Failure::oauth("invalid_client"));
    let token = source.token().await.unwrap();
    let bound_to = server.bound_to(token.expose_secret());
    assert_eq!(bound_to, Some(new.thumbprint()));
    assert_eq!(server.authorization.token_requests(), 3);
    // The owner still learns of the change.
    assert!(certificate.reload().unwrap());
    assert!(!certificate.reload().unwrap());

    // A certificate that did not change is presented once.
    tokens.invalidate_all();
    server
        .authorization
        .fail_next(Failure::oauth("invalid_client"));
    source.token().await.unwrap_err();
    assert_eq!(server.authorization.token_requests(), 4);
}

#[tokio::test]
async fn a_refused_certificate_does_not_delay_its_replacement() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = MutualTlsServer::start(&ca).await;
    let (old, new) = (other.issue("client"), ca.issue("client"));
    let certificate = old.client_certificate();
    let tokens = TokenCache::new(endpoint(&server, &client(&ca, &certificate)));
    let source = tokens.source(TokenRequest::client_credentials());

    for _ in 0..3 {
        let error = source.token().await.unwrap_err();
        assert!(chain(&error).contains("UnknownCA"), "{}", chain(&error));
    }
    certificate.replace(&new.certificate, &new.key).unwrap();
    tokens.invalidate_all();
    let token = source.token().await.unwrap();
    assert_eq!(
        server.bound_to(token.expose_secret()),
        Some(new.thumbprint())
    );
}

// Failed handshakes.

async fn fail(server: &MutualTlsServer, http: &HttpsClient) -> TokenError {
    let fetch = endpoint(server, http).oneshot(TokenRequest::refresh_token("r"));
    let fetched = tokio::time::timeout(TEST_TIMEOUT, fetch).await;
    fetched.expect("timed out").unwrap_err()
}

#[tokio::test]
async fn a_certificate_that_the_server_refuses_is_an_error_that_says_so() {
    for (versions, is_sent) in [
        (TLS12, false),
        // In TLS 1.3 the client may send data before the server has checked the certificate.
        (TLS13, true),
    ] {
        for protocols in [&["h2"][..], &["http/1.1"]] {
            let (ca, other) = (Ca::new("ca"), Ca::new("other"));
            let options = Options {
                versions,
                protocols,
            };
            let server = MutualTlsServer::start_with(&ca, &ca, options).await;
            let unknown = client(&ca, &other.issue("client").client_certificate());
            let none = HttpsClient::builder()
                .root_certificates_pem(ca.pem())
                .unwrap();
            let none = none.build().unwrap();
            for (http, expected) in [(unknown, "UnknownCA"), (none, "CertificateRequired")] {
                let error = fail(&server, &http).await;
                let text = chain(&error);
                assert_eq!(error.kind(), TokenErrorKind::Service, "{text}");
                assert!(text.contains(expected), "{text}");
                assert_eq!(error.may_have_been_processed(), is_sent, "{text}");
            }
            assert_eq!(server.authorization.token_requests(), 0);
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_to_an_untrusted_server() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = MutualTlsServer::start_with(&other, &ca, Options::default()).await;
    let http = client(&ca, &ca.issue("client").client_certificate());
    let error = fail(&server, &http).await;
    assert!(!error.may_have_been_processed());
    assert!(
        chain(&error).contains("invalid peer certificate"),
        "{}",
        chain(&error)
    );
    let error = send(&http, server.uri("/")).await.unwrap_err();
    assert!(error.is::<NotSent>(), "{error}");
}

#[tokio::test]
async fn certificates_of_several_authorities_can_be_trusted() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let certificate = ca.issue("client").client_certificate();
    let http = HttpsClient::builder()
        .root_certificates_pem(other.pem())
        .and_then(|builder| builder.root_certificates_pem(ca.pem()))
        .and_then(|builder| builder.client_certificate(certificate.clone()).build())
        .unwrap();
    for server_ca in [&ca, &other] {
        let server = MutualTlsServer::start_with(server_ca, &ca, Options::default()).await;
        assert_eq!(who_am_i(&http, &server).await, certificate.thumbprint());
    }
}
