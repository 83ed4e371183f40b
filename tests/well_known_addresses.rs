//! The well-known addresses of an issuer: which are asked, which document is taken, and which error is reported.

mod support;

use std::{
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::{Either, FutureExt};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep};
use tower::{Service, ServiceExt, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, DpopKey, NotSent, RevocationEndpoint, RevocationRequest,
    TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, jwt::SigningAlgorithm,
    test_util::ManualClock,
};

use self::support::{Answer, GOOD, answer, form};

const ISSUER: &str = "https://as.test/tenant";
const OAUTH: &str = "/.well-known/oauth-authorization-server/tenant";
const OPENID: &str = "/tenant/.well-known/openid-configuration";
const OPENID_INSERTED: &str = "/.well-known/openid-configuration/tenant";
const ADDRESSES: [&str; 3] = [OAUTH, OPENID, OPENID_INSERTED];

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn basic() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

/// What a server does with a request for one address.
#[derive(Clone)]
enum Does {
    Answers(u16, String),
    /// Answers after this time.
    Slowly(Duration, Box<Does>),
    Fails(&'static str),
    CannotConnect,
}

fn status(status: u16) -> Does {
    Does::Answers(status, String::new())
}

fn serves(document: &Value) -> Does {
    Does::Answers(200, document.to_string())
}

fn never() -> Does {
    Does::Slowly(1000 * HOUR, Box::new(status(404)))
}

fn document(issuer: &str) -> Value {
    json!({ "issuer": issuer, "token_endpoint": "https://as.test/token", "revocation_endpoint": "https://as.test/revoke" })
}

/// A good document that says where it was found.
fn good(mark: &str) -> Does {
    let mut document = document(ISSUER);
    document["token_endpoint"] = json!(format!("https://as.test/token/{mark}"));
    serves(&document)
}

fn without_token_endpoint() -> Value {
    json!({ "issuer": ISSUER, "revocation_endpoint": "https://as.test/revoke" })
}

type Script = dyn Fn(&Uri) -> Does + Send + Sync;

/// A server that answers `GET` by its script, and `POST` with a token.
#[derive(Clone)]
struct Server {
    script: Arc<Mutex<Arc<Script>>>,
    seen: Arc<Mutex<Vec<Request<()>>>>,
}

impl Server {
    fn new(script: impl Fn(&Uri) -> Does + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(Mutex::new(Arc::new(script))),
            seen: Arc::default(),
        }
    }

    fn change(&self, script: impl Fn(&Uri) -> Does + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// Answers the three addresses, in this order.
    fn at_addresses(does: [Does; 3]) -> Self {
        Self::new(addresses(does))
    }

    fn take(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.iter().map(|r| r.uri().to_string()).collect()
    }

    fn take_paths(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.iter().map(|r| r.uri().path().to_owned()).collect()
    }

    fn tokens(&self) -> TokenEndpoint<Self> {
        TokenEndpoint::discover(self.clone(), ISSUER, basic())
    }

    fn revocation(&self) -> RevocationEndpoint<Self> {
        TokenEndpoint::discover(self.clone(), ISSUER, basic()).revocation()
    }
}

fn addresses(does: [Does; 3]) -> impl Fn(&Uri) -> Does + Send + Sync + 'static {
    move |uri| {
        let index = ADDRESSES.iter().position(|path| *path == uri.path());
        does[index.unwrap_or_else(|| panic!("{uri} was requested"))].clone()
    }
}

impl Service<Request<Full<Bytes>>> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Either<
        Ready<Answer>,
        futures_util::future::Then<
            Sleep,
            Ready<Answer>,
            Box<dyn FnOnce(()) -> Ready<Answer> + Send>,
        >,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let does = match parts.method {
            Method::GET => (self.script.lock().unwrap().clone())(&parts.uri),
            _ => Does::Answers(200, GOOD.to_owned()),
        };
        self.seen
            .lock()
            .unwrap()
            .push(Request::from_parts(parts, ()));
        match does {
            Does::Slowly(time, does) => {
                Either::Right(sleep(time).then(Box::new(move |()| ready(at_once(*does)))))
            }
            does => Either::Left(ready(at_once(does))),
        }
    }
}

fn at_once(does: Does) -> Answer {
    match does {
        Does::Answers(status, body) => answer(status, body),
        Does::Slowly(..) => unreachable!("slow only once"),
        Does::Fails(why) => Err(why.into()),
        Does::CannotConnect => Err(NotSent::new("no route to the host").into()),
    }
}

async fn ask(endpoint: &TokenEndpoint<Server>) -> Result<(), TokenError> {
    let request = TokenRequest::client_credentials();
    endpoint.clone().oneshot(request).await.map(drop)
}

async fn revoke(endpoint: &RevocationEndpoint<Server>) -> Result<(), TokenError> {
    endpoint.clone().oneshot(RevocationRequest::new("t")).await
}

/// Everything that is no good document for a token endpoint.
fn no_good_documents() -> Vec<Does> {
    let wrong = |name: &str, value: Value| {
        let mut document = document(ISSUER);
        document[name] = value;
        serves(&document)
    };
    let statuses = [
        204, 301, 302, 307, 400, 401, 403, 404, 405, 406, 408, 410, 415, 418, 421, 425, 429, 451,
        500, 501, 502, 503, 504, 505, 511, 520, 521, 522, 523, 524, 525, 526, 530, 599,
    ];
    let mut all: Vec<_> = statuses.map(status).into();
    all.extend([
        Does::Fails("connection reset by peer"),
        Does::Answers(200, String::new()),
        Does::Answers(200, "<!doctype html><title>Sign in</title>".into()),
        Does::Answers(200, "[]".into()),
        Does::Answers(200, r#"{"issuer":"https://as.test/tenant","token_endpoint":"https://as.te"#.into()),
        Does::Answers(200, r#"{"message":"no Route matched with those values"}"#.into()),
        Does::Answers(200, "x".repeat(2_000_000)),
        wrong("issuer", json!("https://as.test/other")),
        wrong("issuer", json!("https://as.test")),
        wrong("issuer", json!("https://AS.test/tenant")),
        wrong("issuer", json!(1)),
        wrong("token_endpoint", json!(null)),
        wrong("token_endpoint", json!("")),
        wrong("token_endpoint", json!("/token")),
        wrong("token_endpoint", json!("http://as.test/token")),
        wrong("token_endpoint", json!("http://localhost/token")),
        wrong("mtls_endpoint_aliases", json!({ "token_endpoint": "http://as.test/token" })),
        serves(&without_token_endpoint()),
        Does::Answers(
            200,
            r#"{"issuer":"https://as.test/tenant","issuer":"https://as.test/tenant","token_endpoint":"https://as.test/token"}"#.into(),
        ),
    ]);
    all
}

#[tokio::test]
async fn no_failure_at_one_address_hides_a_good_document_at_another() {
    for (case, bad) in no_good_documents().into_iter().enumerate() {
        for (does, expected) in [
            ([bad.clone(), good("openid"), status(404)], "openid"),
            ([bad.clone(), bad.clone(), good("inserted")], "inserted"),
            ([status(404), bad.clone(), good("inserted")], "inserted"),
        ] {
            let server = Server::at_addresses(does);
            let result = ask(&server.tokens()).await;
            assert!(result.is_ok(), "case {case}: {}", result.unwrap_err());
            let paths = server.take_paths();
            assert_eq!(paths.last().unwrap(), &format!("/token/{expected}"));
        }
    }
}

#[tokio::test]
async fn a_good_document_at_the_first_address_costs_one_request() {
    let server = Server::at_addresses(["oauth", "openid", "inserted"].map(good));
    ask(&server.tokens()).await.unwrap();
    assert_eq!(server.take_paths(), [OAUTH, "/token/oauth"]);
}

#[tokio::test]
async fn the_addresses_are_asked_in_order() {
    for (issuer, expected) in [
        (
            "https://as.test",
            &[
                "https://as.test/.well-known/oauth-authorization-server",
                "https://as.test/.well-known/openid-configuration",
            ] as &[&str],
        ),
        (
            "https://as.test/",
            &[
                "https://as.test/.well-known/oauth-authorization-server",
                "https://as.test/.well-known/openid-configuration",
            ],
        ),
        (
            "https://as.test:8443/realms/a%20b/",
            &[
                "https://as.test:8443/.well-known/oauth-authorization-server/realms/a%20b",
                "https://as.test:8443/realms/a%20b/.well-known/openid-configuration",
                "https://as.test:8443/.well-known/openid-configuration/realms/a%20b",
            ],
        ),
    ] {
        let server = Server::new(|_| status(404));
        let endpoint = TokenEndpoint::discover(server.clone(), issuer, basic());
        ask(&endpoint).await.unwrap_err();
        assert_eq!(server.take(), expected, "{issuer}");
    }
}

#[tokio::test]
async fn a_transient_error_is_reported_before_a_final_one() {
    let other_issuer = || serves(&document("https://evil.test"));
    for transient in [
        status(500),
        status(502),
        status(503),
        status(429),
        status(408),
        Does::Fails("reset"),
    ] {
        for final_error in [
            status(404),
            status(403),
            status(302),
            other_issuer(),
            serves(&without_token_endpoint()),
            Does::Answers(200, "<html>".into()),
        ] {
            let (t, f) = (transient.clone(), final_error);
            for does in [
                [t.clone(), f.clone(), f.clone()],
                [f.clone(), t.clone(), f.clone()],
                [f.clone(), f.clone(), t.clone()],
            ] {
                let server = Server::at_addresses(does);
                let error = ask(&server.tokens()).await.unwrap_err();
                assert!(error.is_transient(), "{error}");
                assert!(!error.may_have_been_processed());
                assert_eq!(server.take_paths(), ADDRESSES);
            }
        }
    }
}

#[tokio::test]
async fn the_final_error_that_explains_most_is_reported() {
    let other_issuer = || serves(&document("https://evil.test"));
    for (does, why) in [
        (
            [other_issuer(), status(404), status(404)],
            "another issuer, `https://evil.test`",
        ),
        (
            [status(404), status(404), other_issuer()],
            "another issuer, `https://evil.test`",
        ),
        (
            [status(403), other_issuer(), status(403)],
            "another issuer, `https://evil.test`",
        ),
        (
            [status(404), serves(&without_token_endpoint()), status(404)],
            "no `token_endpoint`",
        ),
        ([status(404), status(302), status(404)], "check the issuer"),
    ] {
        let server = Server::at_addresses(does);
        let error = ask(&server.tokens()).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Every address is on the same host.
#[tokio::test]
async fn a_host_that_cannot_be_reached_is_asked_once() {
    let server = Server::at_addresses([Does::CannotConnect, good("openid"), good("inserted")]);
    let error = ask(&server.tokens()).await.unwrap_err();
    assert!(error.is_transient() && !error.may_have_been_processed());
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert_eq!(server.take_paths(), [OAUTH]);
}

#[allow(clippy::disallowed_methods, reason = "the clock of the test is paused")]
fn paused_now() -> Instant {
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn an_address_that_never_answers_does_not_hide_the_next() {
    for does in [
        [never(), good("openid"), status(404)],
        [never(), never(), good("openid")],
        [status(503), never(), good("openid")],
        [never(), status(503), good("openid")],
    ] {
        let server = Server::at_addresses(does);
        let begun = paused_now();
        ask(&server.tokens()).await.unwrap();
        assert!(begun.elapsed() < MINUTE / 6, "{:?}", begun.elapsed());
        assert_eq!(server.take_paths().last().unwrap(), "/token/openid");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_address_is_still_waited_for_while_the_next_are_asked() {
    let slow = Does::Slowly(MINUTE / 4, Box::new(good("oauth")));
    for others in [status(404), status(503), never()] {
        let server = Server::at_addresses([slow.clone(), others.clone(), others]);
        let begun = paused_now();
        ask(&server.tokens()).await.unwrap();
        assert_eq!(begun.elapsed(), MINUTE / 4);
        assert_eq!(server.take_paths().last().unwrap(), "/token/oauth");
    }
}

#[tokio::test(start_paused = true)]
async fn all_addresses_share_one_time_budget() {
    let slow = |body| Does::Slowly(MINUTE / 3, Box::new(body));
    for does in [
        [never(), never(), never()],
        [status(404), never(), never()],
        [slow(status(404)), slow(status(404)), never()],
        [
            slow(status(404)),
            slow(serves(&without_token_endpoint())),
            never(),
        ],
    ] {
        let server = Server::at_addresses(does);
        let begun = paused_now();
        let error = ask(&server.tokens()).await.unwrap_err();
        assert_eq!(begun.elapsed(), MINUTE / 2);
        assert_eq!(error.kind(), TokenErrorKind::Timeout);
        assert!(error.is_transient() && !error.may_have_been_processed());
        assert_eq!(server.take_paths(), ADDRESSES);
    }
}

/// The task of a renewal runs on the current thread.
async fn let_the_renewal_run() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn held_metadata_stay_while_only_another_address_has_a_document() {
    for bad in no_good_documents() {
        let clock = ManualClock::new();
        let server = Server::at_addresses([good("oauth"), good("openid"), status(404)]);
        let endpoint = server.tokens().metadata_clock(clock.clock());
        ask(&endpoint).await.unwrap();
        server.change(addresses([bad.clone(), good("openid"), status(404)]));
        for _ in 0..5 {
            clock.advance(HOUR);
            ask(&endpoint).await.unwrap();
            let_the_renewal_run().await;
        }
        ask(&endpoint).await.unwrap();
        let paths = server.take_paths();
        let renewals = paths.iter().filter(|path| **path == OAUTH).count();
        assert_eq!(renewals, 6, "{paths:?}");
        assert!(!paths.iter().any(|path| path == OPENID), "{paths:?}");
        assert_eq!(paths.last().unwrap(), "/token/oauth");
    }
}

#[tokio::test]
async fn metadata_are_renewed_at_the_address_where_they_were_found() {
    let clock = ManualClock::new();
    let server = Server::at_addresses([status(404), good("openid"), status(404)]);
    let endpoint = server.tokens().metadata_clock(clock.clock());
    ask(&endpoint).await.unwrap();
    assert_eq!(server.take_paths(), [OAUTH, OPENID, "/token/openid"]);
    server.change(addresses([good("oauth"), good("moved"), status(404)]));
    clock.advance(HOUR);
    ask(&endpoint).await.unwrap();
    let_the_renewal_run().await;
    ask(&endpoint).await.unwrap();
    assert_eq!(
        server.take_paths(),
        ["/token/openid", OPENID, "/token/moved"]
    );
}

/// Otherwise a server that has moved its document would be found again only by a new process.
#[tokio::test]
async fn metadata_that_could_not_be_renewed_for_a_day_are_searched_at_all_addresses() {
    let clock = ManualClock::new();
    let server = Server::at_addresses([good("oauth"), status(404), status(404)]);
    let endpoint = server.tokens().metadata_clock(clock.clock());
    ask(&endpoint).await.unwrap();
    server.change(addresses([status(404), good("openid"), status(404)]));
    clock.advance(25 * HOUR);
    ask(&endpoint).await.unwrap();
    let_the_renewal_run().await;
    ask(&endpoint).await.unwrap();
    assert_eq!(server.take_paths().last().unwrap(), "/token/openid");
}

#[tokio::test]
async fn an_empty_path_and_a_slash_name_the_same_issuer() {
    for (given, named, is_same) in [
        ("https://as.test", "https://as.test", true),
        ("https://as.test", "https://as.test/", true),
        ("https://as.test/", "https://as.test", true),
        ("https://as.test/", "https://as.test/", true),
        ("https://as.test:8443", "https://as.test:8443/", true),
        ("https://[2001:db8::1]", "https://[2001:db8::1]/", true),
        ("http://localhost:1/", "http://localhost:1", true),
        // Nothing else is normalized.
        ("https://as.test", "https://as.test//", false),
        ("https://as.test//", "https://as.test/", false),
        ("https://as.test", "https://AS.test", false),
        ("https://as.test", "HTTPS://as.test", false),
        ("https://as.test", "https://as.test:443", false),
        ("https://as.test:443/", "https://as.test", false),
        ("https://as.test", "https://as.test./", false),
        ("https://as.test", "http://as.test", false),
        ("https://as.test/t", "https://as.test/t/", false),
        ("https://as.test/t/", "https://as.test/t", false),
        ("https://as.test/", "https://as.test/t", false),
        ("https://as.test/a%20b", "https://as.test/a%20b/", false),
        ("https://as.test/%74", "https://as.test/t", false),
        ("https://as.test", "https://as.test/?", false),
        ("https://as.test", "https://as.test#", false),
        ("https://as.test", " https://as.test", false),
    ] {
        let server = Server::new(move |_| serves(&document(named)));
        let endpoint = TokenEndpoint::discover(server, given, basic());
        let result = ask(&endpoint).await;
        assert_eq!(result.is_ok(), is_same, "{given} {named}");
        match result {
            Ok(()) => assert_eq!(endpoint.metadata().await.unwrap().issuer(), named),
            Err(error) => {
                assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
                let shown = format!("another issuer, `{named}`; write the issuer exactly as");
                assert!(error.to_string().contains(&shown), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_uri_and_a_url_name_an_issuer_without_a_path() {
    let texts = ["https://as.test", "https://as.test/"];
    for (given, named) in texts
        .iter()
        .flat_map(|given| texts.map(|named| (*given, named)))
    {
        let (uri, url): (Uri, url::Url) = (given.parse().unwrap(), given.parse().unwrap());
        let server = Server::new(move |_| serves(&document(named)));
        for endpoint in [
            TokenEndpoint::discover(server.clone(), given, basic()),
            TokenEndpoint::discover(server.clone(), uri, basic()),
            TokenEndpoint::discover(server.clone(), url, basic()),
        ] {
            ask(&endpoint).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_issuer_of_the_document_is_the_audience_of_assertions() {
    for (given, named) in [
        ("https://as.test", "https://as.test/"),
        ("https://as.test/", "https://as.test"),
        ("https://as.test", "https://as.test"),
    ] {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let sent = bodies.clone();
        let http = service_fn(move |request: Request<Full<Bytes>>| {
            let sent = sent.clone();
            async move {
                let is_metadata = request.method() == Method::GET;
                let body = request.into_body().collect().await.unwrap().to_bytes();
                match is_metadata {
                    true => answer(200, document(named).to_string()),
                    false => {
                        sent.lock().unwrap().push(body);
                        answer(200, GOOD)
                    }
                }
            }
        });
        let secret = "0".repeat(32);
        let client = ClientAuthentication::client_secret_jwt("c", secret, SigningAlgorithm::HS256);
        let tokens = TokenEndpoint::discover(http, given, client);
        assert_eq!(tokens.issuer(), Some(given));
        let revocation = tokens.revocation();
        tokens
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap();
        revocation
            .oneshot(RevocationRequest::new("t"))
            .await
            .unwrap();
        for body in bodies.lock().unwrap().iter() {
            let mut pairs = form(body).into_iter();
            let (_, jwt) = pairs.find(|(name, _)| name == "client_assertion").unwrap();
            let claims = BASE64_URL_SAFE_NO_PAD
                .decode(jwt.split('.').nth(1).unwrap())
                .unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["aud"], named);
        }
        assert_eq!(bodies.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_revocation_endpoint_needs_no_token_endpoint() {
    for token_endpoint in [
        json!(null),
        json!(1),
        json!(""),
        json!("/token"),
        json!("http://as.test/token"),
        json!("ftp://as.test/token"),
    ] {
        let mut document = without_token_endpoint();
        document["token_endpoint"] = token_endpoint;
        for does in [
            [serves(&document), status(404), status(404)],
            [status(404), status(503), serves(&document)],
        ] {
            let server = Server::at_addresses(does);
            let endpoint = server.revocation();
            for _ in 0..3 {
                revoke(&endpoint).await.unwrap();
            }
            let paths = server.take_paths();
            assert_eq!(paths[..3], ADDRESSES);
            assert_eq!(paths[3..], ["/revoke"; 3], "fetched once");
        }
    }
}

#[tokio::test]
async fn both_endpoints_share_the_document_that_has_a_token_endpoint() {
    for revocation_first in [true, false] {
        let partial = serves(&without_token_endpoint());
        let server = Server::at_addresses([partial, serves(&document(ISSUER)), status(404)]);
        let tokens = server.tokens();
        let revocation = tokens.revocation();
        if revocation_first {
            revoke(&revocation).await.unwrap();
        }
        ask(&tokens).await.unwrap();
        revoke(&revocation).await.unwrap();
        let paths = server.take_paths();
        assert_eq!(paths[..2], [OAUTH, OPENID]);
        assert!(
            !paths[2..].iter().any(|path| ADDRESSES.contains(&&**path)),
            "{paths:?}"
        );
    }
}

#[tokio::test]
async fn a_document_for_revocation_does_not_keep_a_token_endpoint_from_being_found() {
    let partial = || serves(&without_token_endpoint());
    let server = Server::at_addresses([partial(), status(503), status(404)]);
    let tokens = server.tokens();
    let revocation = tokens.revocation();
    revoke(&revocation).await.unwrap();
    let error = ask(&tokens).await.unwrap_err();
    assert!(
        error.is_transient() && error.status().unwrap() == 503,
        "{error}"
    );
    server.change(addresses([partial(), status(404), status(404)]));
    let error = ask(&tokens).await.unwrap_err();
    assert!(
        error.to_string().contains("contains no `token_endpoint`"),
        "{error}"
    );
    revoke(&revocation).await.unwrap();
    server.change(addresses([partial(), good("openid"), status(404)]));
    ask(&tokens).await.unwrap();
    assert_eq!(server.take_paths().last().unwrap(), "/token/openid");
}

/// A renewal has no time budget and asks one address only.
#[tokio::test(start_paused = true)]
async fn a_caller_that_needs_another_document_does_not_wait_for_a_renewal() {
    let clock = ManualClock::new();
    let server =
        Server::at_addresses([serves(&without_token_endpoint()), status(404), status(404)]);
    let tokens = server.tokens().metadata_clock(clock.clone());
    let revocation = tokens.revocation();
    revoke(&revocation).await.unwrap();
    server.take();

    clock.advance(HOUR);
    server.change(addresses([never(), good("openid"), status(404)]));
    revoke(&revocation).await.unwrap();
    let_the_renewal_run().await;
    assert_eq!(server.take_paths(), ["/revoke", OAUTH]);
    ask(&tokens).await.unwrap();
    assert_eq!(server.take_paths(), [OAUTH, OPENID, "/token/openid"]);
}

#[tokio::test]
async fn a_renewal_without_token_endpoint_does_not_replace_a_complete_document() {
    let clock = ManualClock::new();
    let server = Server::at_addresses([good("oauth"), status(404), status(404)]);
    let tokens = server.tokens().metadata_clock(clock.clock());
    let revocation = tokens.revocation();
    ask(&tokens).await.unwrap();
    server.change(addresses([
        serves(&without_token_endpoint()),
        status(404),
        status(404),
    ]));
    for _ in 0..3 {
        clock.advance(HOUR);
        revoke(&revocation).await.unwrap();
        let_the_renewal_run().await;
        ask(&tokens).await.unwrap();
    }
    assert_eq!(server.take_paths().last().unwrap(), "/token/oauth");
}

const INTERNAL: &str = "http://keycloak.auth.svc:8080/realms/shop/.well-known/openid-configuration";

fn with_endpoint(issuer: &str, token_endpoint: &str) -> Value {
    json!({ "issuer": issuer, "token_endpoint": token_endpoint, "revocation_endpoint": token_endpoint })
}

#[tokio::test]
async fn the_document_can_be_elsewhere_than_the_issuer() {
    for (issuer, uri, token_endpoint) in [
        // Keycloak inside a cluster, with and without dynamic backchannel endpoints.
        (
            "https://sso.example/realms/shop",
            INTERNAL,
            "http://keycloak.auth.svc:8080/realms/shop/token",
        ),
        (
            "https://sso.example/realms/shop",
            INTERNAL,
            "https://sso.example/realms/shop/token",
        ),
        // Azure AD B2C.
        (
            "https://t.b2clogin.com/11111111-2222-3333-4444-555555555555/v2.0/",
            "https://t.b2clogin.com/t.onmicrosoft.com/v2.0/.well-known/openid-configuration?p=B2C_1_x",
            "https://t.b2clogin.com/t.onmicrosoft.com/oauth2/v2.0/token?p=b2c_1_x",
        ),
        (
            "https://as.example",
            "https://cdn.example/metadata.json",
            "https://as.example/token",
        ),
        // An empty path still equals a slash.
        (
            "https://as.example/",
            "https://cdn.example/metadata.json",
            "https://as.example/token",
        ),
    ] {
        let named = match issuer {
            "https://as.example/" => "https://as.example",
            issuer => issuer,
        };
        let server = Server::new(move |_| serves(&with_endpoint(named, token_endpoint)));
        let tokens = TokenEndpoint::discover(server.clone(), issuer, basic())
            .metadata_uri(uri)
            .danger_allow_http();
        assert_eq!(tokens.issuer(), Some(issuer));
        ask(&tokens).await.unwrap();
        revoke(&tokens.revocation()).await.unwrap();
        assert_eq!(server.take(), [uri, token_endpoint, token_endpoint]);

        let revocation = TokenEndpoint::discover(server.clone(), issuer, basic())
            .metadata_uri(uri.parse::<Uri>().unwrap())
            .danger_allow_http()
            .revocation();
        revoke(&revocation).await.unwrap();
        assert_eq!(server.take(), [uri, token_endpoint]);
    }
}

#[tokio::test]
async fn only_the_given_address_is_asked_and_it_must_name_the_issuer() {
    for does in [
        status(404),
        status(503),
        serves(&document("https://evil.test")),
        serves(&document("http://keycloak.auth.svc:8080/realms/shop")),
    ] {
        let server = Server::new(move |_| does.clone());
        let endpoint = server.tokens().metadata_uri(INTERNAL).danger_allow_http();
        let error = ask(&endpoint).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the issuer `https://as.test/tenant`"),
            "{error}"
        );
        assert_eq!(server.take(), [INTERNAL]);
    }
}

#[tokio::test]
async fn plain_http_needs_permission_wherever_the_document_is() {
    for (uri, token_endpoint, allow_http, expected) in [
        (INTERNAL, "https://as.test/token", false, false),
        (INTERNAL, "http://keycloak.auth.svc:8080/token", true, true),
        (
            "https://keycloak.auth.svc/d",
            "http://keycloak.auth.svc/token",
            false,
            false,
        ),
        (
            "https://keycloak.auth.svc/d",
            "https://keycloak.auth.svc/token",
            false,
            true,
        ),
        (
            "https://keycloak.auth.svc/d",
            "http://localhost:8080/token",
            false,
            false,
        ),
        (
            "http://localhost:8080/d",
            "http://localhost:8080/token",
            false,
            true,
        ),
        (
            "http://localhost:8080/d",
            "http://as.test/token",
            false,
            false,
        ),
    ] {
        let server = Server::new(move |_| serves(&with_endpoint(ISSUER, token_endpoint)));
        let mut endpoint = server.tokens().metadata_uri(uri);
        if allow_http {
            endpoint = endpoint.danger_allow_http();
        }
        assert_eq!(
            ask(&endpoint).await.is_ok(),
            expected,
            "{uri} {token_endpoint}"
        );
        assert_eq!(server.take().contains(&token_endpoint.to_owned()), expected);
    }
}

#[tokio::test]
async fn an_invalid_address_is_reported_by_the_first_request() {
    for (uri, why) in [
        ("", "the URI of the metadata is empty"),
        ("keycloak/SECRET", "the URI of the metadata is not valid"),
        ("/realms/SECRET", "the URI of the metadata is not absolute"),
        (
            "ftp://keycloak/SECRET",
            "the URI of the metadata is neither https nor http",
        ),
        (
            "http://keycloak/SECRET",
            "the URI of the metadata is plain http",
        ),
        (
            "https://u:SECRET@keycloak/",
            "the URI of the metadata contains a user name",
        ),
    ] {
        let server = Server::new(|_| status(404));
        let endpoint = server.tokens().metadata_uri(uri);
        let error = ask(&endpoint).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        let message = error.to_string();
        assert!(
            message.contains(why) && !message.contains("SECRET"),
            "{message}"
        );
        assert!(server.take().is_empty());
    }
}

#[tokio::test]
async fn an_address_that_is_set_later_concerns_only_that_clone() {
    let server = Server::new(|uri| {
        let host = uri.host().unwrap();
        serves(&with_endpoint(ISSUER, &format!("https://{host}/token")))
    });
    let before = server.tokens();
    ask(&before).await.unwrap();
    let moved = before.clone().metadata_uri("https://other.test/d");
    ask(&moved).await.unwrap();
    ask(&before).await.unwrap();
    ask(&moved.clone()).await.unwrap();
    let hosts: Vec<_> = server
        .take()
        .iter()
        .map(|uri| uri.parse::<Uri>().unwrap().host().unwrap().to_owned())
        .collect();
    let (own, other) = ("as.test", "other.test");
    assert_eq!(hosts, [own, own, other, other, own, other]);
}

#[tokio::test]
async fn an_endpoint_without_an_issuer_ignores_the_settings_of_discovery() {
    let server = Server::new(|_| status(404));
    let endpoint = TokenEndpoint::new(server.clone(), "https://as.test/token", basic())
        .metadata_uri("not a URI")
        .allow_unlisted_methods();
    ask(&endpoint).await.unwrap();
    assert_eq!(server.take(), ["https://as.test/token"]);
}

#[tokio::test]
async fn a_method_that_is_not_listed_is_sent_only_if_allowed() {
    let mut document = document(ISSUER);
    for name in ["token_endpoint_auth", "revocation_endpoint_auth"] {
        document[format!("{name}_methods_supported")] = json!(["private_key_jwt"]);
        document[format!("{name}_signing_alg_values_supported")] = json!(["ES256"]);
    }
    document["dpop_signing_alg_values_supported"] = json!(["RS256"]);
    let server = Server::at_addresses([serves(&document), status(404), status(404)]);
    let hmac =
        ClientAuthentication::client_secret_jwt("c", "0".repeat(64), SigningAlgorithm::HS512);
    let post = ClientAuthentication::client_secret_post("c", "s");
    let jwt = ClientAuthentication::client_assertion("c", "a");
    for (client, dpop, what) in [
        (
            basic(),
            None,
            "client authentication method `client_secret_basic`",
        ),
        (
            post,
            None,
            "client authentication method `client_secret_post`",
        ),
        (
            ClientAuthentication::tls_client_auth("c"),
            None,
            "client authentication method",
        ),
        (
            hmac,
            None,
            "client authentication method `client_secret_jwt`",
        ),
        (
            jwt,
            Some(DpopKey::generate().unwrap()),
            "algorithm of the DPoP proof `ES256`",
        ),
    ] {
        let mut tokens = TokenEndpoint::discover(server.clone(), ISSUER, client.clone());
        let mut revocation = TokenEndpoint::discover(server.clone(), ISSUER, client).revocation();
        if let Some(key) = dpop {
            tokens = tokens.dpop(key.clone()).danger_allow_bearer();
            revocation = revocation.dpop(key);
        }
        for error in [
            ask(&tokens).await.unwrap_err(),
            revoke(&revocation).await.unwrap_err(),
            revoke(&tokens.revocation()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), TokenErrorKind::Request);
            let message = error.to_string();
            assert!(message.contains(what), "{message}");
            let setting = "set `allow_unlisted_methods` on the `TokenEndpoint`";
            assert!(message.contains(setting), "{message}");
        }
        let allowed = tokens.allow_unlisted_methods();
        ask(&allowed).await.unwrap();
        revoke(&allowed.revocation()).await.unwrap();
    }
}

#[tokio::test]
async fn an_unlisted_method_does_not_allow_another_issuer() {
    let server = Server::new(|_| serves(&document("https://evil.test")));
    let error = ask(&server.tokens().allow_unlisted_methods())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
}

#[tokio::test]
async fn a_cache_gets_its_token_although_the_first_address_fails() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    let server = Server::new(move |uri| match uri.path() {
        OAUTH if down.load(Ordering::SeqCst) => status(502),
        OAUTH => good("oauth"),
        _ => good("openid"),
    });
    let source = TokenCache::new(server.tokens()).source(TokenRequest::client_credentials());
    source.token().await.unwrap();
    is_down.store(false, Ordering::SeqCst);
    source.renew().await.unwrap();
    assert_eq!(
        server.take_paths(),
        [OAUTH, OPENID, "/token/openid", "/token/openid"]
    );
}
