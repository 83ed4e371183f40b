//! Waiting for the decision of a user: when the token endpoint is polled, and how that ends. With a cache and without.
#![cfg(feature = "test-util")]

mod cache_support;
mod support;

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full};
use tokio::{
    runtime,
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_oauth2_client::{
    BackchannelAuthenticationEndpoint, BackchannelAuthenticationRequest, BoxError,
    ClientAuthentication, DeviceAuthorizationEndpoint, DeviceAuthorizationRequest, ErrorCode,
    ErrorResponse, TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenPolling,
    TokenRequest, test_util::ManualClock,
};

use self::{
    cache_support::{at_once, now, secs},
    support::{Recorder, answer},
};

/// What the token endpoint does with a request.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Token,
    Error(&'static str),
    /// An error code, and `Retry-After`.
    RetryAfter(&'static str, u64),
    Answer(u16, &'static str),
    Drop,
    Hang,
}

const PENDING: Reply = Reply::Error("authorization_pending");
const SLOW_DOWN: Reply = Reply::Error("slow_down");

/// A token endpoint that records when it was asked. The last reply is repeated.
#[derive(Clone)]
struct Server {
    begun: Instant,
    replies: Arc<Vec<Reply>>,
    latency: Duration,
    sent: Arc<Mutex<Vec<(Duration, Form)>>>,
}

type Form = HashMap<String, String>;

impl Server {
    fn new(replies: &[Reply]) -> Self {
        Self {
            begun: now(),
            replies: Arc::new(replies.to_vec()),
            latency: Duration::ZERO,
            sent: Arc::default(),
        }
    }

    fn with_latency(replies: &[Reply], latency: Duration) -> Self {
        Self {
            latency,
            ..Self::new(replies)
        }
    }

    /// Returns the time of each request since the server was created, in whole seconds.
    fn times(&self) -> Vec<u64> {
        let sent = self.sent.lock().unwrap();
        sent.iter().map(|(time, _)| time.as_secs()).collect()
    }

    fn elapsed(&self) -> u64 {
        (now() - self.begun).as_secs()
    }

    fn endpoint(
        &self,
    ) -> TokenEndpoint<
        impl Service<
            Request<Full<Bytes>>,
            Response = Response<Full<Bytes>>,
            Error = BoxError,
            Future: Send,
        > + Clone
        + Send
        + 'static,
    > {
        let server = self.clone();
        let http = service_fn(move |request| server.clone().answer(request));
        let client = ClientAuthentication::client_secret_basic("client", "secret");
        TokenEndpoint::new(http, "https://as.example/token", client)
    }

    async fn answer(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        let body = request.into_body().collect().await?.to_bytes();
        let form = url::form_urlencoded::parse(&body).into_owned().collect();
        let number = {
            let mut sent = self.sent.lock().unwrap();
            sent.push((now() - self.begun, form));
            sent.len() - 1
        };
        sleep(self.latency).await;
        let last = self.replies.len() - 1;
        let mut response = Response::builder();
        let body = match self.replies[number.min(last)] {
            Reply::Token => {
                r#"{"access_token":"t","expires_in":100,"refresh_token":"r"}"#.to_owned()
            }
            Reply::Error(code) => {
                response = response.status(400);
                format!(r#"{{"error":"{code}"}}"#)
            }
            Reply::RetryAfter(code, seconds) => {
                response = response.status(400).header(RETRY_AFTER, seconds);
                format!(r#"{{"error":"{code}"}}"#)
            }
            Reply::Answer(status, body) => {
                response = response.status(status);
                body.to_owned()
            }
            Reply::Drop => return Err("dropped".into()),
            Reply::Hang => pending().await,
        };
        Ok(response.body(Full::from(body))?)
    }
}

/// A device login or a CIBA request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flow {
    Device,
    Ciba,
}

/// With a cache or without.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Alone,
    Cached,
}

const ALL: [(Flow, Way); 4] = [
    (Flow::Device, Way::Alone),
    (Flow::Device, Way::Cached),
    (Flow::Ciba, Way::Alone),
    (Flow::Ciba, Way::Cached),
];

impl Flow {
    /// Returns the request for the token from a response with these members.
    async fn begin(self, times: &str) -> TokenRequest {
        let client = ClientAuthentication::client_secret_basic("client", "secret");
        let body = format!(
            r#"{{"device_code":"dc","user_code":"uc","verification_uri":"https://as.example/d","auth_req_id":"id",{times}}}"#
        );
        let http = Recorder::new(move |_| answer(200, body.clone()));
        match self {
            Self::Device => {
                DeviceAuthorizationEndpoint::new(http, "https://as.example/device", client)
                    .oneshot(DeviceAuthorizationRequest::new())
                    .await
                    .unwrap()
                    .token_request()
            }
            Self::Ciba => BackchannelAuthenticationEndpoint::new(
                http,
                "https://as.example/bc-authorize",
                client,
            )
            .oneshot(BackchannelAuthenticationRequest::login_hint("alice"))
            .await
            .unwrap()
            .token_request(),
        }
    }
}

impl Way {
    async fn wait(self, server: &Server, request: TokenRequest) -> Result<(), TokenError> {
        match self {
            Self::Alone => {
                let polling = TokenPolling::new(server.endpoint(), request);
                polling.await.map(drop)
            }
            Self::Cached => {
                let source = TokenCache::new(server.endpoint()).source(request);
                source.wait_for_user().await
            }
        }
    }
}

/// Waits for the user in every way, and checks when the server was asked, and the end.
async fn check(
    times: &str,
    replies: &[Reply],
    expected_times: &[u64],
    expected: Result<(), (TokenErrorKind, Option<ErrorCode>)>,
    ends_at: u64,
) {
    for (flow, way) in ALL {
        let request = flow.begin(times).await;
        let server = Server::new(replies);
        let result = way.wait(&server, request).await;
        let case = format!("{flow:?} {way:?} {times} {replies:?}");
        let found = result.map_err(|error| {
            let code = error.error_response().map(ErrorResponse::code);
            (error.kind(), code.cloned())
        });
        assert_eq!(found, expected, "{case}");
        assert_eq!(server.times(), expected_times, "{case}");
        assert_eq!(server.elapsed(), ends_at, "{case}");
    }
}

const USUAL: &str = r#""interval":5,"expires_in":600"#;

mod pace {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_server_is_asked_once_an_interval() {
        for (times, expected) in [
            (USUAL, [5, 10, 15]),
            (r#""interval":"7","expires_in":600"#, [7, 14, 21]),
            (r#""expires_in":600"#, [5, 10, 15]),
            (r#""interval":0,"expires_in":600"#, [5, 10, 15]),
            (r#""interval":-3,"expires_in":600"#, [5, 10, 15]),
            (r#""interval":5000,"expires_in":600"#, [5, 10, 15]),
            (r#""interval":1,"expires_in":600"#, [1, 2, 3]),
            (r#""interval":0.1,"expires_in":600"#, [1, 2, 3]),
            (r#""interval":100,"expires_in":600"#, [100, 200, 300]),
            (r#""interval":5"#, [5, 10, 15]),
        ] {
            let replies = [PENDING, PENDING, Reply::Token];
            check(times, &replies, &expected, Ok(()), expected[2]).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_slow_down_adds_five_seconds_for_good() {
        let replies = [SLOW_DOWN, PENDING, SLOW_DOWN, PENDING, Reply::Token];
        check(USUAL, &replies, &[5, 15, 25, 40, 55], Ok(()), 55).await;
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_obeyed_up_to_five_minutes() {
        for (reply, second) in [
            (Reply::RetryAfter("authorization_pending", 20), 25),
            (Reply::RetryAfter("authorization_pending", 3), 10),
            (Reply::RetryAfter("slow_down", 3), 15),
            (Reply::RetryAfter("slow_down", 60), 65),
            (Reply::RetryAfter("temporarily_unavailable", 100), 105),
            (Reply::RetryAfter("temporarily_unavailable", 3600), 305),
        ] {
            check(USUAL, &[reply, Reply::Token], &[5, second], Ok(()), second).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn transient_failures_neither_end_nor_hurry_the_polls() {
        for reply in [
            Reply::Answer(503, ""),
            Reply::Answer(500, ""),
            Reply::Answer(502, "<html>"),
            Reply::Answer(429, ""),
            Reply::Answer(429, r#"{"error":"rate_limited"}"#),
            Reply::Answer(200, ""),
            Reply::Answer(200, "<html>a page of a gateway"),
            Reply::Answer(200, r#"{"access_token":"cut o"#),
            Reply::Answer(400, r#"{"error":"server_error"}"#),
        ] {
            let replies = [PENDING, reply, reply, PENDING, Reply::Token];
            check(USUAL, &replies, &[5, 10, 15, 20, 25], Ok(()), 25).await;
        }
    }

    /// RFC 8628 §3.5.
    #[tokio::test(start_paused = true)]
    async fn each_connection_error_doubles_the_pause_until_the_server_answers() {
        let lost = Reply::Drop;
        let replies = [
            lost,
            lost,
            lost,
            lost,
            lost,
            PENDING,
            lost,
            PENDING,
            Reply::Token,
        ];
        let times = [5, 15, 35, 75, 135, 195, 200, 210, 215];
        check(USUAL, &replies, &times, Ok(()), 215).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_respond_is_asked_again_after_its_limit() {
        let replies = [Reply::Hang, Reply::Hang, Reply::Token];
        check(USUAL, &replies, &[5, 45, 95], Ok(()), 95).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_between_response_and_wait_counts() {
        for (passed, first) in [(0, 5), (3, 2), (5, 0), (60, 0)] {
            for (flow, way) in ALL {
                let request = flow.begin(USUAL).await;
                sleep(secs(passed)).await;
                let server = Server::new(&[PENDING, Reply::Token]);
                way.wait(&server, request).await.unwrap();
                assert_eq!(server.times(), [first, first + 5], "{flow:?} {way:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_begins_with_the_response() {
        for (flow, way) in ALL {
            let request = flow.begin(USUAL).await;
            let server = Server::with_latency(&[PENDING, PENDING, Reply::Token], secs(4));
            way.wait(&server, request).await.unwrap();
            assert_eq!(server.times(), [5, 14, 23], "{flow:?} {way:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_made_by_hand_is_polled_at_once_and_then_by_its_interval() {
        for way in [Way::Alone, Way::Cached] {
            let server = Server::new(&[PENDING, PENDING, Reply::Token]);
            let request = TokenRequest::device_code("dc").polling_interval(secs(7));
            way.wait(&server, request).await.unwrap();
            assert_eq!(server.times(), [0, 7, 14], "{way:?}");
        }
    }
}

mod end {
    use super::*;

    const ENDED: TokenErrorKind = TokenErrorKind::SignInRequired;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_the_last_answer() {
        for (reply, kind, code) in [
            ("access_denied", ENDED, ErrorCode::ACCESS_DENIED),
            ("expired_token", ENDED, ErrorCode::EXPIRED_TOKEN),
            ("invalid_grant", ENDED, ErrorCode::INVALID_GRANT),
            (
                "authorization_declined",
                ENDED,
                "authorization_declined".into(),
            ),
            (
                "invalid_client",
                TokenErrorKind::ErrorResponse,
                ErrorCode::INVALID_CLIENT,
            ),
        ] {
            let replies = [PENDING, Reply::Error(reply), Reply::Token];
            let expected = Err((kind, Some(code)));
            check(USUAL, &replies, &[5, 10], expected, 10).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_stays_is_the_last_answer() {
        for (reply, kind) in [
            (
                Reply::Answer(404, "not found"),
                TokenErrorKind::UnexpectedStatus,
            ),
            (Reply::Answer(401, ""), TokenErrorKind::UnexpectedStatus),
            (Reply::Answer(200, "{}"), TokenErrorKind::InvalidResponse),
            (
                Reply::Answer(200, r#"{"access_token":7}"#),
                TokenErrorKind::InvalidResponse,
            ),
        ] {
            let replies = [PENDING, reply, Reply::Token];
            check(USUAL, &replies, &[5, 10], Err((kind, None)), 10).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_codes_have_expired() {
        let expired = || Err((ENDED, Some(ErrorCode::EXPIRED_TOKEN)));
        for (times, replies, asked, ends_at) in [
            (r#""expires_in":12"#, &[PENDING][..], &[5, 10][..], 12),
            (r#""expires_in":10"#, &[PENDING], &[5], 10),
            (r#""expires_in":3"#, &[PENDING], &[], 3),
            (r#""expires_in":30"#, &[SLOW_DOWN], &[5, 15], 30),
            (r#""expires_in":40"#, &[Reply::Drop], &[5, 15, 35], 40),
            (
                r#""expires_in":40"#,
                &[Reply::RetryAfter("authorization_pending", 100)],
                &[5],
                40,
            ),
            // A server that does not say it.
            (r#""interval":600"#, &[PENDING], &[600, 1200], 1800),
            // A request that is under way is awaited.
            (r#""expires_in":20"#, &[Reply::Hang], &[5], 35),
        ] {
            check(times, replies, asked, expired(), ends_at).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_of_the_expiry_shows_the_last_failure() {
        for (flow, way) in ALL {
            let request = flow.begin(r#""expires_in":20"#).await;
            let server = Server::new(&[Reply::Drop]);
            let error = way.wait(&server, request).await.unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains("the time to decide has ended"), "{text}");
            assert!(text.contains("dropped"), "{text}");
            assert!(!error.is_transient());
            assert!(error.grant_type().is_some(), "{flow:?} {way:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_result_is_returned_again_and_nothing_more_is_sent() {
        for (reply, is_good) in [(Reply::Token, true), (Reply::Error("access_denied"), false)] {
            let request = Flow::Device.begin(USUAL).await;
            let server = Server::new(&[reply]);
            let mut polling = TokenPolling::new(server.endpoint(), request);
            for _ in 0..3 {
                assert_eq!((&mut polling).await.is_ok(), is_good);
                sleep(secs(100)).await;
            }
            assert_eq!(server.times(), [5]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_response_has_the_refresh_token_and_the_source_goes_on_with_it() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[PENDING, Reply::Token]);
        let response = TokenPolling::new(server.endpoint(), request.clone());
        let response = response.await.unwrap();
        assert_eq!(response.refresh_token().unwrap().expose_secret(), "r");

        let server = Server::new(&[PENDING, Reply::Token]);
        let cache = TokenCache::new(server.endpoint());
        let source = cache.source(request);
        source.wait_for_user().await.unwrap();
        sleep(secs(90)).await;
        source.token().await.unwrap();
        sleep(secs(1)).await;
        let sent = server.sent.lock().unwrap().clone();
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[1].1["device_code"], "dc");
        assert_eq!(sent[2].1["grant_type"], "refresh_token");
        assert_eq!(sent[2].1["refresh_token"], "r");
        assert!(!sent[2].1.contains_key("device_code"));
    }
}

mod resumed {
    use super::*;

    /// Dropped again and again, at every moment, it asks at the same times as a wait that is never dropped.
    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_dropped_again_and_again_asks_no_sooner() {
        let replies = [
            PENDING,
            SLOW_DOWN,
            Reply::Answer(503, ""),
            PENDING,
            Reply::Token,
        ];
        for patience in [50, 700, 1900, 4900, 5100] {
            let patience = Duration::from_millis(patience);
            for flow in [Flow::Device, Flow::Ciba] {
                let request = flow.begin(USUAL).await;
                let server = Server::new(&replies);
                let mut polling = TokenPolling::new(server.endpoint(), request.clone());
                while timeout(patience, &mut polling).await.is_err() {}
                assert_eq!(server.times(), [5, 10, 20, 30, 40], "{flow:?} {patience:?}");

                let request = flow.begin(USUAL).await;
                let server = Server::new(&replies);
                let source = TokenCache::new(server.endpoint()).source(request);
                while timeout(patience, source.wait_for_user()).await.is_err() {}
                // Each new call may be up to a second late.
                let times = server.times();
                assert_eq!(times.len(), 5, "{flow:?} {patience:?}");
                for (pair, interval) in times.windows(2).zip([5, 10, 10, 10]) {
                    let passed = pair[1] - pair[0];
                    let is_due = passed == interval || passed == interval + 1;
                    assert!(is_due, "{flow:?} {patience:?} {times:?}");
                }
            }
        }
    }

    /// Nobody polls for a while, and the next request is then due at once, but only one.
    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_resumed_late_asks_once() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[PENDING]);
        let mut polling = TokenPolling::new(server.endpoint(), request);
        let _ = timeout(secs(6), &mut polling).await;
        sleep(secs(100)).await;
        let _ = timeout(secs(3), &mut polling).await;
        assert_eq!(server.times(), [5, 106]);

        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[PENDING]);
        let source = TokenCache::new(server.endpoint()).source(request);
        let _ = timeout(secs(6), source.wait_for_user()).await;
        sleep(secs(100)).await;
        let _ = timeout(secs(3), source.wait_for_user()).await;
        assert_eq!(server.times(), [5, 106]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_response_to_a_request_under_way_is_not_lost() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::with_latency(&[Reply::Token], secs(3));
        let mut polling = TokenPolling::new(server.endpoint(), request.clone());
        timeout(secs(6), &mut polling).await.unwrap_err();
        assert_eq!(server.times(), [5]);
        sleep(secs(60)).await;
        polling.await.unwrap();
        assert_eq!(server.times(), [5]);

        let server = Server::with_latency(&[Reply::Token], secs(3));
        let request = Flow::Device.begin(USUAL).await;
        let source = TokenCache::new(server.endpoint()).source(request);
        timeout(secs(6), source.wait_for_user()).await.unwrap_err();
        assert!(source.peek().is_none());
        sleep(secs(60)).await;
        assert!(source.peek().is_some());
        at_once(source.wait_for_user()).unwrap();
        assert_eq!(server.times(), [5]);
    }

    /// A body arrives in pieces, and each takes another poll.
    #[tokio::test(start_paused = true)]
    async fn a_response_that_takes_several_polls_is_not_lost_after_a_long_break() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::with_latency(&[Reply::Token], secs(3));
        let asked = server.clone();
        let http = service_fn(move |request| {
            let answer = asked.clone().answer(request);
            async move {
                let response = answer.await?;
                for _ in 0..20 {
                    yield_now().await;
                }
                sleep(secs(2)).await;
                Ok::<_, BoxError>(response)
            }
        });
        let client = ClientAuthentication::client_secret_basic("client", "secret");
        let endpoint = TokenEndpoint::new(http, "https://as.example/token", client);
        let mut polling = TokenPolling::new(endpoint, request);
        timeout(secs(6), &mut polling).await.unwrap_err();
        sleep(secs(60)).await;
        polling.await.unwrap();
        assert_eq!(server.times(), [5]);
    }

    /// Such as an application that looks once for each picture it draws.
    #[tokio::test(start_paused = true)]
    async fn a_caller_who_polls_seldom_does_not_wait_for_a_silent_server_forever() {
        for pause in [1, 2, 3, 7, 11] {
            let request = Flow::Device.begin(USUAL).await;
            let server = Server::new(&[Reply::Hang, Reply::Token]);
            let mut polling = TokenPolling::new(server.endpoint(), request);
            for _ in 0..1000 {
                if (&mut polling).now_or_never().is_some() {
                    break;
                }
                sleep(secs(pause)).await;
            }
            let [first, second] = server.times()[..] else {
                panic!("{pause}: {:?}", server.times())
            };
            assert!(
                (5 + 30..=5 + 60 + 60).contains(&(second - first)),
                "{pause}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_source_over_the_same_codes_asks_no_sooner() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[SLOW_DOWN, Reply::Token]);
        let cache = TokenCache::new(server.endpoint());
        let first = cache.source(request.clone());
        timeout(secs(6), first.wait_for_user()).await.unwrap_err();
        drop(first);
        cache.source(request).wait_for_user().await.unwrap();
        assert_eq!(server.times(), [5, 15]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_does_not_hurry_the_polls() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[PENDING, SLOW_DOWN, Reply::Token]);
        let clock = ManualClock::new();
        let cache = TokenCache::builder(server.endpoint())
            .clock(clock.clone())
            .build();
        let source = cache.source(request);
        for step in 0..30 {
            timeout(secs(1), source.wait_for_user()).await.ok();
            source.token().await.ok();
            match step % 2 {
                0 => clock.suspend(secs(3600)),
                _ => clock.set_wall_back(secs(7200)),
            }
        }
        assert!(source.peek().is_some());
        let times = server.times();
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] >= 5) && times[2] - times[1] >= 10,
            "{times:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn several_waits_over_one_source_share_the_polls() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[PENDING, PENDING, Reply::Token]);
        let source = TokenCache::new(server.endpoint()).source(request);
        let (a, b) = tokio::join!(source.wait_for_user(), source.wait_for_user());
        a.unwrap();
        b.unwrap();
        assert_eq!(server.times(), [5, 10, 15]);
    }
}

mod details {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_can_be_shown() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[PENDING, SLOW_DOWN, Reply::Token]);
        let mut polling = TokenPolling::new(server.endpoint(), request);
        assert!(polling.last_error().is_none());
        assert_eq!(polling.interval(), secs(5));
        let _ = timeout(secs(6), &mut polling).await;
        let code = |polling: &TokenPolling| {
            let error = polling.last_error().unwrap();
            error.error_response().unwrap().code().clone()
        };
        assert_eq!(code(&polling), ErrorCode::AUTHORIZATION_PENDING);
        let _ = timeout(secs(5), &mut polling).await;
        assert_eq!(code(&polling), ErrorCode::SLOW_DOWN);
        assert_eq!(polling.interval(), secs(10));
        polling.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_a_request_can_be_set() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[Reply::Hang, Reply::Token]);
        let polling = TokenPolling::new(server.endpoint(), request);
        polling.request_timeout(secs(2)).await.unwrap();
        assert_eq!(server.times(), [5, 17]);
    }

    #[tokio::test(start_paused = true)]
    async fn layers_around_the_endpoint_are_used() {
        for way in [Way::Alone, Way::Cached] {
            let request = Flow::Device.begin(USUAL).await;
            let server = Server::new(&[Reply::Hang, PENDING, Reply::Token]);
            let stack = ServiceBuilder::new()
                .buffer(1)
                .timeout(secs(1))
                .service(server.endpoint());
            match way {
                Way::Alone => {
                    TokenPolling::new(stack, request).await.unwrap();
                }
                Way::Cached => {
                    let source = TokenCache::new(stack).source(request);
                    source.wait_for_user().await.unwrap();
                }
            }
            assert_eq!(server.times(), [5, 16, 21], "{way:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_sources_get_their_token_or_their_error_at_once() {
        for (reply, is_good) in [
            (Reply::Token, true),
            (Reply::Answer(503, ""), false),
            (Reply::Error("invalid_client"), false),
        ] {
            let server = Server::new(&[reply]);
            let cache = TokenCache::new(server.endpoint());
            let source = cache.source(TokenRequest::client_credentials());
            let result = timeout(secs(2), source.wait_for_user()).await.unwrap();
            assert_eq!(result.is_ok(), is_good, "{reply:?}");
        }
    }

    /// The codes have expired long ago, but the user has approved.
    #[tokio::test(start_paused = true)]
    async fn a_source_that_has_a_refresh_token_does_not_wait_for_the_user_again() {
        let request = Flow::Device.begin(r#""expires_in":60"#).await;
        let server = Server::new(&[Reply::Token, Reply::Answer(503, "")]);
        let source = TokenCache::new(server.endpoint()).source(request);
        source.wait_for_user().await.unwrap();
        sleep(secs(1000)).await;
        let error = source.wait_for_user().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
        assert!(error.is_transient());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_the_wait() {
        let request = Flow::Device.begin(USUAL).await;
        let server = Server::new(&[PENDING]);
        let cache = TokenCache::new(server.endpoint());
        let source = cache.source(request);
        let waiting = tokio::spawn(async move { source.wait_for_user().await });
        sleep(secs(7)).await;
        cache.shutdown().await;
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ShutDown);
        assert_eq!(server.elapsed(), 7);
    }

    #[test]
    fn without_timers_there_is_an_error_and_nothing_is_sent() {
        let runtime = |has_timers: bool| {
            let mut builder = runtime::Builder::new_current_thread();
            if has_timers {
                builder.enable_time();
            }
            builder.build().unwrap()
        };
        let (server, request) = runtime(true).block_on(async {
            let request = Flow::Device.begin(USUAL).await;
            (Server::new(&[Reply::Token]), request)
        });
        for way in [Way::Alone, Way::Cached] {
            let result = runtime(false).block_on(way.wait(&server, request.clone()));
            assert_eq!(result.unwrap_err().kind(), TokenErrorKind::NoRuntime);
        }
        assert_eq!(server.times(), [0; 0]);
    }

    #[test]
    fn the_future_can_be_sent_and_moved() {
        fn check<T: Send + Unpin>() {}
        check::<TokenPolling>();
    }

    #[tokio::test(start_paused = true)]
    async fn debug_shows_no_code() {
        let request = TokenRequest::device_code("SENTINEL");
        let server = Server::new(&[PENDING, Reply::Token]);
        let mut polling = TokenPolling::new(server.endpoint(), request);
        let _ = timeout(secs(1), &mut polling).await;
        let text = format!("{polling:?} {polling:#?}");
        assert!(text.contains("authorization_pending"), "{text}");
        assert!(!text.contains("SENTINEL"), "{text}");
    }
}
