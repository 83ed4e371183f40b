//! `HttpsClient` on a network that falls silent: how soon requests use another connection, and that nothing else changes.
//!
//! The times here are short, because they are set. The defaults are in the docs of `HttpsClient`. A healthy response takes much less time than
//! each limit, also on a busy machine.
#![allow(clippy::disallowed_methods, reason = "these tests measure time")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;
use tower_oauth2_client::{
    BoxError, ClientAuthentication, HttpsClient, HttpsClientBuilder, NoAccessToken, TokenEndpoint,
    TokenError, TokenErrorKind, TokenRequest, TokenResponse,
};

use self::support::{chain, network::Network};

const PATIENCE: Duration = Duration::from_secs(30);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A client without any limit. Each test turns one on.
fn unlimited(network: &Network) -> HttpsClientBuilder {
    network
        .client()
        .max_silence(None)
        .token_http2_keep_alive_interval(None)
        .token_response_head_timeout(None)
}

/// Sends an API request, and returns the number of the connection that it used.
async fn call(client: &HttpsClient, network: &Network, path: &str) -> Result<usize, BoxError> {
    let calling = timeout(PATIENCE, call_without_limit(client, network, path));
    calling.await.expect("a result")
}

async fn call_without_limit(
    client: &HttpsClient,
    network: &Network,
    path: &str,
) -> Result<usize, BoxError> {
    let request = Request::get(network.uri(path)).body(Full::<Bytes>::default());
    let response = client.clone().oneshot(request.unwrap()).await?;
    let connection = response.headers()["connection-number"].to_str().unwrap();
    let connection = connection.parse().unwrap();
    response.into_body().collect().await?;
    Ok(connection)
}

/// The same, with the time limit of a caller.
async fn call_within(client: &HttpsClient, network: &Network, limit: Duration) -> Option<usize> {
    let called = timeout(limit, call(client, network, "/")).await.ok()?;
    Some(called.unwrap())
}

/// Waits until the server has received this many requests.
async fn until_requests(network: &Network, requests: usize) {
    let waiting = async {
        while network.requests() < requests {
            sleep(ms(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("a request");
}

async fn fetch(client: &HttpsClient, network: &Network) -> Result<TokenResponse, TokenError> {
    let authentication = ClientAuthentication::client_secret_basic("c", "s");
    let endpoint = TokenEndpoint::new(client.clone(), network.uri("/token"), authentication);
    endpoint.oneshot(TokenRequest::client_credentials()).await
}

fn check_timeout(error: &TokenError, network: &Network, what: &str) {
    let text = chain(error);
    assert_eq!(error.kind(), TokenErrorKind::Timeout, "{text}");
    assert!(error.is_transient(), "{text}");
    assert!(error.may_have_been_processed(), "{text}");
    let what = what.replace("HOST", &format!("localhost:{}", network.port()));
    assert!(text.contains(&what), "{text}, not: {what}");
}

#[tokio::test]
async fn token_request_after_an_unanswered_ping_uses_another_http2_connection() {
    let network = Network::http2().await;
    let client = unlimited(&network)
        .token_http2_keep_alive_interval(ms(500))
        .http2_keep_alive_timeout(ms(1000))
        .build()
        .unwrap();
    fetch(&client, &network).await.unwrap();
    network.fall_silent();

    let fetching = timeout(PATIENCE, fetch(&client, &network));
    let error = fetching.await.expect("a result").unwrap_err();
    check_timeout(
        &error,
        &network,
        "the connection to HOST is dead: it did not answer a ping",
    );
    fetch(&client, &network).await.unwrap();
    assert_eq!(network.connections(), 2);
}

async fn token_request_after_a_late_response_head(network: Network) {
    let client = unlimited(&network)
        .token_response_head_timeout(ms(2000))
        .build()
        .unwrap();
    fetch(&client, &network).await.unwrap();
    network.fall_silent();

    let fetching = timeout(PATIENCE, fetch(&client, &network));
    let error = fetching.await.expect("a result").unwrap_err();
    let expected = "HOST did not start its response within 2s";
    check_timeout(&error, &network, expected);
    fetch(&client, &network).await.unwrap();
    assert_eq!(network.connections(), 2);
}

#[tokio::test]
async fn token_request_after_a_late_response_head_uses_another_http1_connection() {
    token_request_after_a_late_response_head(Network::http1().await).await;
}

#[tokio::test]
async fn token_request_after_a_late_response_head_uses_another_http2_connection() {
    token_request_after_a_late_response_head(Network::http2().await).await;
}

async fn api_request_after_a_late_response_head(network: Network) {
    let client = unlimited(&network)
        .response_head_timeout(ms(2000))
        .build()
        .unwrap();
    assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
    network.fall_silent();

    let error = call(&client, &network, "/").await.unwrap_err();
    let error = error.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(call(&client, &network, "/").await.unwrap(), 2);
}

#[tokio::test]
async fn api_request_after_a_late_response_head_uses_another_http1_connection() {
    api_request_after_a_late_response_head(Network::http1().await).await;
}

#[tokio::test]
async fn api_request_after_a_late_response_head_uses_another_http2_connection() {
    api_request_after_a_late_response_head(Network::http2().await).await;
}

/// Another response came meanwhile, so the path works and only the server is slow.
#[tokio::test]
async fn late_response_head_does_not_end_a_connection_that_serves_others() {
    let network = Network::http2().await;
    let client = unlimited(&network)
        .response_head_timeout(ms(2000))
        .build()
        .unwrap();
    let slow = call(&client, &network, "/?ms=60000");
    let others = async {
        until_requests(&network, 1).await;
        loop {
            assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
            sleep(ms(50)).await;
        }
    };
    tokio::select! {
        slow = slow => drop(slow.unwrap_err()),
        () = others => {}
    }
    assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
}

/// No ping is sent and no request has a limit of its own: the callers give up.
#[tokio::test]
async fn api_requests_leave_a_silent_http2_connection_without_a_ping() {
    let network = Network::http2().await;
    let client = unlimited(&network).max_silence(ms(1500)).build().unwrap();
    assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
    network.fall_silent();

    let begun = Instant::now();
    let mut attempts = 0;
    let connection = loop {
        attempts += 1;
        if let Some(connection) = call_within(&client, &network, ms(1000)).await {
            break connection;
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    assert!(connection > 1);
    assert!(attempts > 2, "{attempts} attempts");
}

/// This is what a request costs that never got a response while the callers do not give up.
#[tokio::test]
async fn requests_that_wait_on_a_silent_connection_do_not_hold_up_new_ones() {
    let network = Network::http2().await;
    let client = unlimited(&network).max_silence(ms(300)).build().unwrap();
    assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
    network.fall_silent();

    let later = async {
        sleep(ms(2000)).await;
        call(&client, &network, "/").await.unwrap()
    };
    tokio::select! {
        _ = call(&client, &network, "/") => panic!("no response is expected"),
        later = later => assert_eq!(later, 2),
    }
}

#[tokio::test]
async fn slow_response_arrives_although_its_connection_was_taken_for_silent() {
    let network = Network::http2().await;
    let client = unlimited(&network).max_silence(ms(500)).build().unwrap();
    let slow = call(&client, &network, "/?ms=4000");
    let quick = async {
        until_requests(&network, 1).await;
        sleep(ms(1000)).await;
        call(&client, &network, "/").await.unwrap()
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!((slow.unwrap(), quick), (1, 2));
}

#[tokio::test]
async fn slow_responses_one_after_another_keep_their_connection() {
    let network = Network::http2().await;
    let client = unlimited(&network).max_silence(ms(50)).build().unwrap();
    for _ in 0..3 {
        assert_eq!(call(&client, &network, "/?ms=300").await.unwrap(), 1);
    }
    // Idle time is no silence either.
    sleep(ms(300)).await;
    assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
}

#[tokio::test]
async fn slow_response_on_a_busy_connection_does_not_end_it() {
    let network = Network::http2().await;
    let client = unlimited(&network).max_silence(ms(1500)).build().unwrap();
    let slow = call(&client, &network, "/?ms=3000");
    let others = async {
        until_requests(&network, 1).await;
        loop {
            assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
            sleep(ms(50)).await;
        }
    };
    tokio::select! {
        slow = slow => assert_eq!(slow.unwrap(), 1),
        () = others => {}
    }
}

/// Nothing but the body of another response is received.
#[tokio::test]
async fn connection_that_receives_a_body_is_not_silent() {
    let network = Network::http2().await;
    let client = unlimited(&network).max_silence(ms(1500)).build().unwrap();
    let slow = call(&client, &network, "/?ms=60000");
    let stream = call(&client, &network, "/stream?ms=60000");
    let later = async {
        until_requests(&network, 2).await;
        sleep(ms(2500)).await;
        call(&client, &network, "/").await.unwrap()
    };
    tokio::select! {
        _ = slow => panic!("no response is expected"),
        _ = stream => panic!("no end is expected"),
        later = later => assert_eq!(later, 1),
    }
}

#[tokio::test]
async fn api_request_fails_by_an_unanswered_ping_if_pings_are_on() {
    let network = Network::http2().await;
    let client = unlimited(&network)
        .http2_keep_alive_interval(ms(500))
        .http2_keep_alive_timeout(ms(1000))
        .build()
        .unwrap();
    assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
    network.fall_silent();

    let error = call(&client, &network, "/").await.unwrap_err();
    let error = error.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(call(&client, &network, "/").await.unwrap(), 2);
}

/// A gRPC server would close the connection after a few of them.
#[tokio::test]
async fn only_connections_for_token_requests_are_pinged_by_default() {
    let network = Network::http2().await;
    let client: HttpsClient = network
        .client()
        .token_http2_keep_alive_interval(ms(50))
        .build()
        .unwrap();
    // Each is sent to a server that does not respond for long.
    let sent_while_waiting = async |request: http::request::Builder| {
        let request = request.uri(network.uri("/?ms=60000"));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let before = network.requests();
        let counting = async {
            until_requests(&network, before + 1).await;
            sleep(ms(300)).await;
            let before = network.bytes_from_clients();
            sleep(ms(500)).await;
            network.bytes_from_clients() - before
        };
        tokio::select! {
            _ = client.clone().oneshot(request) => panic!("no response is expected"),
            sent = counting => sent,
        }
    };
    assert_eq!(sent_while_waiting(Request::get("/")).await, 0);
    let token_request = Request::get("/").extension(NoAccessToken);
    assert_ne!(sent_while_waiting(token_request).await, 0);
}

#[tokio::test]
async fn http1_request_after_a_caller_gave_up_uses_another_connection() {
    let network = Network::http1().await;
    let client = network.client().build().unwrap();
    assert_eq!(call(&client, &network, "/").await.unwrap(), 1);
    network.fall_silent();
    assert_eq!(call_within(&client, &network, ms(300)).await, None);
    assert_eq!(call_within(&client, &network, PATIENCE).await, Some(2));
}

/// The system shows the timer of each socket: 02 is the one of keep-alive. The time to its end is in hundredths of a second.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn tcp_keep_alive_is_on_by_default() {
    for is_on in [true, false] {
        let network = Network::http1().await;
        let client = match is_on {
            true => network.client(),
            false => network.client().tcp_keepalive(None),
        };
        let client = client.build().unwrap();
        call(&client, &network, "/").await.unwrap();
        sleep(ms(300)).await;
        let timers = connected_to(network.port());
        let (timer, time) = timers[0].split_once(':').unwrap();
        let time = u32::from_str_radix(time, 16).unwrap();
        match is_on {
            true => assert!(timer == "02" && (1..=1500).contains(&time), "{timers:?}"),
            false => assert_eq!(timer, "00"),
        }
    }
}

/// The timers of the sockets that are connected to the port.
#[cfg(target_os = "linux")]
fn connected_to(port: u16) -> Vec<String> {
    const ESTABLISHED: &str = "01";
    let remote = format!(":{port:04X}");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    sockets
        .lines()
        .map(fields)
        .filter(|fields: &Vec<String>| fields[2].ends_with(&remote) && fields[3] == ESTABLISHED)
        .map(|fields| fields[5].clone())
        .collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn silent_connection_is_closed_after_its_last_request() {
    let network = Network::http2().await;
    let client = unlimited(&network).max_silence(ms(300)).build().unwrap();
    call(&client, &network, "/").await.unwrap();
    network.fall_silent();
    assert_eq!(call_within(&client, &network, ms(1000)).await, None);
    assert_eq!(call(&client, &network, "/").await.unwrap(), 2);
    let closing = async {
        while connected_to(network.port()).len() > 1 {
            sleep(ms(10)).await;
        }
    };
    timeout(PATIENCE, closing).await.expect("it is closed");
    assert_eq!(call(&client, &network, "/").await.unwrap(), 2);
}

/// The peer accepts no more data, which the system treats like a missing acknowledgement.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn upload_ends_when_tcp_makes_no_progress() {
    let network = Network::http1().await;
    let client = unlimited(&network)
        .tcp_user_timeout(ms(500))
        .build()
        .unwrap();
    call(&client, &network, "/").await.unwrap();
    network.fall_silent();
    let body = Full::from(Bytes::from(vec![0; 32 << 20]));
    let request = Request::post(network.uri("/")).body(body).unwrap();
    let sent = timeout(PATIENCE, client.clone().oneshot(request)).await;
    let error = sent.expect("a result").unwrap_err();
    assert!(chain(&*error).contains("timed out"), "{}", chain(&*error));
}

/// Measures how long a silent network stops callers, with the defaults and without any limit. Takes two minutes:
///
/// `SLOW=1 cargo test --all-features --test silent_network seconds_until -- --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seconds_until_the_next_good_response() {
    if std::env::var_os("SLOW").is_none() {
        return;
    }
    const GIVE_UP: Duration = Duration::from_secs(100);
    let mut rows = tokio::task::JoinSet::new();
    let mut number = 0;
    for protocol in ["h2", "http/1.1"] {
        for is_token_request in [true, false] {
            for callers in [Callers::OneAfterAnother, Callers::EverySecond] {
                for settings in ["default", "all on", "all off"] {
                    number += 1;
                    rows.spawn(async move {
                        let network = Network::start(protocol).await;
                        let builder = match settings {
                            "default" => network.client(),
                            "all on" => network
                                .client()
                                .http2_keep_alive_interval(Duration::from_secs(5))
                                .response_head_timeout(Duration::from_secs(20)),
                            _ => unlimited(&network),
                        };
                        let client = builder.build().unwrap();
                        send(&client, &network, is_token_request).await.unwrap();
                        network.fall_silent();
                        let begun = Instant::now();
                        let recovering = callers.first_response(client, network, is_token_request);
                        let recovered = timeout(GIVE_UP, recovering).await;
                        let recovered = recovered.is_ok().then(|| begun.elapsed().as_secs_f64());
                        let kind = if is_token_request { "token" } else { "API" };
                        let seconds = match recovered {
                            Some(seconds) => format!("{seconds:.1} s"),
                            None => format!("none in {GIVE_UP:?}"),
                        };
                        let callers = format!("{callers:?}");
                        let row =
                            format!("{protocol:<10}{kind:<7}{callers:<17}{settings:<9}{seconds}");
                        (number, row, settings, recovered)
                    });
                }
            }
        }
    }
    let mut rows = rows.join_all().await;
    rows.sort_by_key(|row| row.0);
    for (_, row, settings, seconds) in rows {
        println!("{row}");
        if settings != "all off" {
            assert!(seconds.is_some_and(|seconds| seconds < 25.0), "{row}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Callers {
    /// Each gives up after its limit, and then the next one starts.
    OneAfterAnother,
    /// One starts every second, and none gives up.
    EverySecond,
}

impl Callers {
    async fn first_response(self, client: HttpsClient, network: Network, is_token_request: bool) {
        // The default of a token cache, and a usual limit for an API call.
        let limit = Duration::from_secs(if is_token_request { 30 } else { 10 });
        let network = std::sync::Arc::new(network);
        match self {
            Self::OneAfterAnother => {
                while !matches!(
                    timeout(limit, send(&client, &network, is_token_request)).await,
                    Ok(Ok(_))
                ) {}
            }
            Self::EverySecond => {
                let (good, mut any_good) = tokio::sync::mpsc::channel(100);
                let starting = async {
                    loop {
                        let (client, network, good) =
                            (client.clone(), network.clone(), good.clone());
                        tokio::spawn(async move {
                            if send(&client, &network, is_token_request).await.is_ok() {
                                let _ = good.send(()).await;
                            }
                        });
                        sleep(Duration::from_secs(1)).await;
                    }
                };
                tokio::select! {
                    () = starting => {}
                    _ = any_good.recv() => {}
                }
            }
        }
    }
}

async fn send(
    client: &HttpsClient,
    network: &Network,
    is_token_request: bool,
) -> Result<(), BoxError> {
    match is_token_request {
        true => fetch(client, network).await.map(drop).map_err(Into::into),
        false => call_without_limit(client, network, "/").await.map(drop),
    }
}
