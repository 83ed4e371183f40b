//! `HttpsClient` below tonic, at a server that closes connections which are pinged too often.
//!
//! Two tests take minutes, and run only with the variable `SLOW`: `SLOW=1 tests/run grpcio`.
#![allow(clippy::disallowed_methods, reason = "these tests measure time")]

use std::time::{Duration, Instant};

use http::Uri;
use tokio::time::{sleep, timeout};
use tower_oauth2_client::{HttpsClient, HttpsClientBuilder, RootCertificates};

use super::*;

const SILENT: &str = "/interop.Echo/Silent";
const SILENCE: u64 = 190;

fn builder() -> HttpsClientBuilder {
    let roots = RootCertificates::from_file(setting("GRPCIO_CA")).unwrap();
    HttpsClient::builder().root_certificates(roots)
}

/// The stack of an application, with the origin of the server.
fn over(api: &Api, http: HttpsClient<Body>) -> Boxed {
    let origin: Uri = setting("GRPCIO_TLS").parse().unwrap();
    let layer = AddAccessTokenLayer::new(api.source.clone()).origin(&origin);
    let stack = ServiceBuilder::new()
        .map_err(Status::from_error)
        .layer(layer.unwrap())
        .map_request(move |mut request: http::Request<Body>| {
            let mut parts = origin.clone().into_parts();
            parts.path_and_query = request.uri().path_and_query().cloned();
            *request.uri_mut() = Uri::from_parts(parts).unwrap();
            request
        })
        .map_response(|response: http::Response<_>| response.map(Body::new))
        .service(http);
    BoxCloneSyncService::new(stack)
}

/// Waits for the message of a silent stream.
async fn wait(api: &Api, service: Boxed, has_head: bool) -> Result<Bytes, Status> {
    let mut request = api.request(Bytes::from(SILENCE.to_string()));
    if has_head {
        let metadata = request.metadata_mut();
        metadata.insert("head", "now".parse().unwrap());
    }
    let mut client = ready(service).await;
    let response = client.server_streaming(request, path(SILENT), BytesCodec);
    let mut messages = response.await?.into_inner();
    Ok(messages.message().await?.unwrap())
}

fn is_slow() -> bool {
    let is_slow = std::env::var_os("SLOW").is_some();
    if !is_slow {
        println!("skipped: set SLOW=1 to run it");
    }
    is_slow
}

#[tokio::test]
async fn calls_work_over_https_client() {
    let api = Api::start().await;
    let service = over(&api, builder().build().unwrap());
    api.unary(service.clone()).await.unwrap();
    let answers = api.server_stream(service.clone()).await.unwrap();
    assert_eq!(answers, ["0", "1", "2"]);
    let (sender, mut answers) = api.bidirectional(service).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "first");
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn silent_stream_survives_with_the_default_settings() {
    if !is_slow() {
        return;
    }
    let api = Api::start().await;
    let undisturbed = over(&api, builder().build().unwrap());
    // Another call takes this stream's connection out of the pool.
    let disturbed = over(&api, builder().build().unwrap());
    let disturb = async {
        for _ in 0..3 {
            sleep(Duration::from_secs(30)).await;
            api.unary(disturbed.clone()).await.unwrap();
        }
    };
    let begun = Instant::now();
    let (with_head, without_head, others, ()) = tokio::join!(
        wait(&api, undisturbed.clone(), true),
        wait(&api, undisturbed.clone(), false),
        wait(&api, disturbed.clone(), false),
        disturb,
    );
    for message in [with_head, without_head, others] {
        assert_eq!(message.unwrap(), "done");
    }
    assert!(begun.elapsed() >= Duration::from_secs(SILENCE));
}

/// This is why API requests are not pinged by default.
#[tokio::test]
async fn pings_end_a_silent_stream() {
    if !is_slow() {
        return;
    }
    let api = Api::start().await;
    let http = builder().http2_keep_alive_interval(Duration::from_secs(10));
    let service = over(&api, http.build().unwrap());
    let begun = Instant::now();
    let waiting = timeout(Duration::from_secs(120), wait(&api, service, true)).await;
    let status = waiting.expect("the server ends it").unwrap_err();
    println!("after {:?}: {status:?}", begun.elapsed());
    assert_eq!(status.message(), "Too many pings");
}
