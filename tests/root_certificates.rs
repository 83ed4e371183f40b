//! Root certificates of a private CA that are replaced while they are in use.

mod support;

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_oauth2_client::{BoxError, HttpsClient, NotSent, RootCertificates};

use self::support::{
    chain,
    mutual_tls::{Ca, MutualTlsServer},
    network::Network,
};

/// A file in a directory of its own.
struct File(PathBuf);

impl File {
    fn new(test: &str, text: &str) -> Self {
        let name = format!("{test}-{}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        let file = Self(directory.join("ca.pem"));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn client(roots: &RootCertificates) -> HttpsClient {
    let builder = HttpsClient::builder().root_certificates(roots.clone());
    builder.build().unwrap()
}

async fn call(client: &HttpsClient, network: &Network, path: &str) -> Result<(), BoxError> {
    let request = Request::get(network.uri(path)).body(Full::<Bytes>::default());
    let response = client.clone().oneshot(request.unwrap()).await?;
    response.into_body().collect().await?;
    Ok(())
}

async fn is_not_trusted(client: &HttpsClient, network: &Network) {
    let error = call(client, network, "/").await.unwrap_err();
    assert!(error.is::<NotSent>(), "{error}");
    let text = chain(&*error);
    assert!(text.contains("invalid peer certificate"), "{text}");
}

#[tokio::test]
async fn request_after_a_change_uses_a_connection_verified_by_the_new_certificates() {
    for protocol in ["h2", "http/1.1"] {
        let (old, new) = (
            Network::start(protocol).await,
            Network::start(protocol).await,
        );
        let roots = RootCertificates::from_pem(old.certificate_pem()).unwrap();
        let client = client(&roots);
        let clone = client.clone();
        call(&client, &old, "/").await.unwrap();
        is_not_trusted(&client, &new).await;

        assert!(roots.replace(new.certificate_pem()).unwrap());
        call(&client, &new, "/").await.unwrap();
        call(&clone, &new, "/").await.unwrap();
        // Neither its open connection nor its TLS session is used again.
        is_not_trusted(&client, &old).await;
        is_not_trusted(&clone, &old).await;
    }
}

#[tokio::test]
async fn request_in_flight_finishes_on_its_old_connection() {
    let (old, new) = (Network::http2().await, Network::http2().await);
    let roots = RootCertificates::from_pem(old.certificate_pem()).unwrap();
    let client = client(&roots);
    let change = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        roots.replace(new.certificate_pem()).unwrap();
        call(&client, &new, "/").await.unwrap();
    };
    let (slow, ()) = tokio::join!(call(&client, &old, "/?ms=500"), change);
    slow.unwrap();
}

#[tokio::test]
async fn partly_written_file_leaves_the_old_certificates_in_use() {
    let (old, new) = (Network::http2().await, Network::http2().await);
    let file = File::new("partly_written_file", old.certificate_pem());
    let roots = RootCertificates::from_file(&file.0).unwrap();
    let client = client(&roots);
    assert!(!roots.reload().unwrap());

    for broken in [&new.certificate_pem()[..200], ""] {
        file.write(broken);
        let error = roots.reload().unwrap_err().to_string();
        let expected = format!(
            "{}: the root certificates cannot be used: ",
            file.0.display()
        );
        assert!(error.starts_with(&expected), "{error}");
        call(&client, &old, "/").await.unwrap();
    }
    fs::remove_file(&file.0).unwrap();
    roots.reload().unwrap_err();
    assert_eq!(old.connections(), 1);

    file.write(&[old.certificate_pem(), new.certificate_pem()].concat());
    assert!(roots.reload().unwrap());
    assert!(!roots.reload().unwrap());
    call(&client, &old, "/").await.unwrap();
    call(&client, &new, "/").await.unwrap();
}

#[test]
fn file_that_cannot_be_used_is_named_at_construction() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (text, expected) in [
        ("", "add a PEM section `CERTIFICATE`"),
        ("no PEM at all", "add a PEM section `CERTIFICATE`"),
        (&*key, "add a PEM section `CERTIFICATE`"),
        (
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
            "the PEM is malformed",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "invalid peer certificate: BadEncoding",
        ),
    ] {
        let file = File::new("file_that_cannot_be_used", text);
        let error = RootCertificates::from_file(&file.0).unwrap_err();
        let expected = format!(
            "{}: the root certificates cannot be used: {expected}",
            file.0.display()
        );
        assert_eq!(error.to_string(), expected);
    }
    let error = RootCertificates::from_file("/no/such/ca.pem").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    let expected = "/no/such/ca.pem: cannot be read: ";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn certificates_from_pem_have_no_file_to_reload() {
    let ca = Ca::new("ca");
    let roots = RootCertificates::from_pem(ca.pem()).unwrap();
    assert!(!roots.reload().unwrap());
    assert!(!roots.replace(ca.pem()).unwrap());
    assert!(roots.replace(Ca::new("other").pem()).unwrap());
    let expected = "RootCertificates { count: 1, file: None, .. }";
    assert_eq!(format!("{roots:?}"), expected);
}

#[tokio::test]
async fn fixed_and_replaceable_certificates_are_both_trusted() {
    let [fixed, old, new] = [
        Network::http2().await,
        Network::http2().await,
        Network::http2().await,
    ];
    let roots = RootCertificates::from_pem(old.certificate_pem()).unwrap();
    let builder = fixed.client().root_certificates(roots.clone());
    let client = builder.build().unwrap();
    call(&client, &fixed, "/").await.unwrap();
    call(&client, &old, "/").await.unwrap();
    roots.replace(new.certificate_pem()).unwrap();
    call(&client, &fixed, "/").await.unwrap();
    call(&client, &new, "/").await.unwrap();
    is_not_trusted(&client, &old).await;
}

#[tokio::test]
async fn client_and_root_certificates_are_replaced_independently() {
    let (ca, next_ca) = (Ca::new("ca"), Ca::new("next"));
    let server = MutualTlsServer::start(&ca).await;
    let next_server = MutualTlsServer::start_with(&next_ca, &ca, Default::default()).await;
    let (old, new) = (ca.issue("client"), ca.issue("client"));
    let certificate = old.client_certificate();
    let roots = RootCertificates::from_pem(ca.pem()).unwrap();
    let client: HttpsClient = HttpsClient::builder()
        .root_certificates(roots.clone())
        .client_certificate(certificate.clone())
        .build()
        .unwrap();
    let who_am_i = async |server: &MutualTlsServer| {
        let request = Request::get(server.uri("/")).body(Full::<Bytes>::default());
        let response = client.clone().oneshot(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    assert_eq!(who_am_i(&server).await, old.thumbprint());
    roots.replace(next_ca.pem()).unwrap();
    assert_eq!(who_am_i(&next_server).await, old.thumbprint());
    certificate.replace(&new.certificate, &new.key).unwrap();
    assert_eq!(who_am_i(&next_server).await, new.thumbprint());
    roots.replace(ca.pem()).unwrap();
    assert_eq!(who_am_i(&server).await, new.thumbprint());
}
