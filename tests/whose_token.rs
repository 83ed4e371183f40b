//! Errors, events, the status of a cache and `on_refresh_token` say whose token it is, and which host was asked.
#![cfg(feature = "test-util")]

mod support;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, RevocationEndpoint, RevocationRequest, TokenCache,
    TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenResponse, TokenSource,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::Registry,
};

use self::support::{GOOD, Recorder, URI, answer};

const REFUSED: &str = r#"{"error":"invalid_scope"}"#;

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("billing", "secret")
}

fn request() -> TokenRequest {
    TokenRequest::client_credentials()
        .scope("orders")
        .label("tenant blue")
}

/// Label, client, host, grant, scope.
type Whose = [Option<&'static str>; 5];

const ALL: Whose = [
    Some("tenant blue"),
    Some("billing"),
    Some("as.example"),
    Some("client_credentials"),
    Some("orders"),
];

#[track_caller]
fn assert_whose(error: &TokenError, expected: Whose) {
    let found = [
        error.label(),
        error.client_id(),
        error.host(),
        error.grant_type(),
        error.scope(),
    ];
    assert_eq!(found, expected, "{error}");
}

#[tokio::test]
async fn the_error_of_an_endpoint_says_whose_request_failed_and_where() {
    let own = || {
        request()
            .token_endpoint("https://u:p@other.example:8443/token?k=v")
            .client_authentication(ClientAuthentication::none("other"))
    };
    let failing = || Credential::from_fn(|| async { Err::<String, _>(BoxError::from("no")) });
    let [label, _, _, grant, scope] = ALL;
    let of_own = [
        label,
        Some("other"),
        Some("other.example:8443"),
        grant,
        scope,
    ];
    for (request, expected) in [
        (request(), ALL),
        (own(), of_own),
        (request().parameter("", "x"), ALL),
        (request().parameter("a", failing()), ALL),
        (
            TokenRequest::client_credentials(),
            [None, ALL[1], ALL[2], grant, None],
        ),
        (
            TokenRequest::client_credentials().parameter("scope", Credential::fixed("orders")),
            [None, ALL[1], ALL[2], grant, None],
        ),
    ] {
        let endpoint = Recorder::new(|_| answer(400, REFUSED)).endpoint(client());
        let error = endpoint.oneshot(request).await.unwrap_err();
        assert_whose(&error, expected);
    }
    let endpoint: TokenEndpoint<_> = TokenEndpoint::new(Recorder::good(), "not a URI", client());
    let error = endpoint.oneshot(request()).await.unwrap_err();
    assert_whose(&error, [label, ALL[1], None, grant, scope]);
}

#[tokio::test]
async fn a_message_names_the_host_the_client_and_the_label() {
    let endpoint = Recorder::new(|_| answer(400, REFUSED)).endpoint(client());
    let error = endpoint.oneshot(request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token endpoint does not accept the scope; check it: invalid_scope \
         [status 400, host as.example, client billing, label tenant blue]"
    );
    let shown = format!("{error:?}");
    for text in ["as.example", "billing", "tenant blue"] {
        assert!(shown.contains(text), "{shown}");
    }
}

#[tokio::test]
async fn the_error_of_a_revocation_says_the_same() {
    let endpoint: RevocationEndpoint<_> = RevocationEndpoint::new(
        Recorder::new(|_| answer(400, r#"{"error":"invalid_request"}"#)),
        "https://as.example/revoke",
        client(),
    );
    let request = RevocationRequest::new("t").label("tenant blue");
    let error = endpoint.oneshot(request).await.unwrap_err();
    assert_whose(&error, [ALL[0], ALL[1], ALL[2], None, None]);
}

fn metadata(token_endpoint: &str) -> String {
    format!(r#"{{"issuer":"https://issuer.example","token_endpoint":"{token_endpoint}"}}"#)
}

#[tokio::test]
async fn a_discovered_endpoint_may_have_another_host_than_its_issuer() {
    let discover = |recorder: Recorder| -> TokenEndpoint<_> {
        TokenEndpoint::discover(recorder, "https://issuer.example", client())
    };
    let recorder = Recorder::new(|number| match number {
        0 => answer(200, metadata("https://tokens.example/token")),
        _ => answer(400, REFUSED),
    });
    let error = discover(recorder).oneshot(request()).await.unwrap_err();
    assert_eq!(error.host(), Some("tokens.example"));

    // The endpoint is not known yet.
    let error = discover(Recorder::new(|_| answer(404, "")));
    let error = error.oneshot(request()).await.unwrap_err();
    assert_eq!(error.host(), Some("issuer.example"));
    assert_eq!(error.label(), Some("tenant blue"));
}

/// All of them wait for the same document, and get the same failure.
#[tokio::test]
async fn requests_that_share_a_failure_have_errors_of_their_own() {
    let never = Recorder::new(|_| answer(404, ""));
    let endpoint: TokenEndpoint<_> =
        TokenEndpoint::discover(never, "https://issuer.example", client());
    let labels = ["blue", "red", "green"];
    let errors = labels.map(|label| endpoint.clone().oneshot(request().label(label)));
    let errors = futures_util::future::join_all(errors).await;
    for (label, error) in labels.iter().zip(errors) {
        assert_eq!(error.unwrap_err().label(), Some(*label));
    }
}

/// Returns the error of a cache whose endpoint stack fails.
async fn error_of<S>(stack: S) -> (TokenCache, TokenError)
where
    S: tower::Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let cache = TokenCache::new(stack);
    let error = cache.source(request()).token().await.unwrap_err();
    (cache, error)
}

fn silent_endpoint() -> TokenEndpoint<impl tower_oauth2_client::HttpService<Body> + Clone> {
    let silent = service_fn(|_: http::Request<Body>| async {
        std::future::pending::<support::Answer>().await
    });
    TokenEndpoint::new(silent, URI, client())
}

type Body = http_body_util::Full<bytes::Bytes>;

/// The layer that gives up does not know whom it has called. The endpoint has noted it.
#[tokio::test(start_paused = true)]
async fn the_errors_of_layers_and_limits_say_it_too() {
    let layered = ServiceBuilder::new()
        .timeout(Duration::from_secs(5))
        .service(silent_endpoint());
    let (cache, error) = error_of(layered).await;
    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    assert_whose(&error, ALL);
    let status = cache.status().remove(0);
    assert_eq!(status.host(), Some("as.example"));
    assert_eq!(status.client_id(), Some("billing"));

    // The limit of the cache itself.
    let (_, error) = error_of(silent_endpoint()).await;
    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    assert_whose(&error, ALL);

    let panicking = service_fn(|_: TokenRequest| async {
        #[expect(unreachable_code, reason = "it needs a type")]
        Ok::<TokenResponse, BoxError>(panic!("intended by the test"))
    });
    let (_, error) = error_of(panicking).await;
    let [label, _, _, grant, scope] = ALL;
    assert_whose(&error, [label, None, None, grant, scope]);

    let buffered = ServiceBuilder::new()
        .buffer(8)
        .service(Recorder::new(|_| answer(400, REFUSED)).endpoint(client()));
    let (_, error) = error_of(buffered).await;
    assert_whose(&error, ALL);
}

#[test]
fn an_error_before_the_fetch_says_whose_token_it_is() {
    let cache = TokenCache::new(Recorder::good().endpoint(client()));
    let source = cache.source(request());
    let fetch = futures_util::FutureExt::now_or_never(source.token());
    let error = fetch.unwrap().unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
    let [label, _, _, grant, scope] = ALL;
    assert_whose(&error, [label, None, None, grant, scope]);
}

#[tokio::test]
async fn a_source_that_has_ended_says_whose_it_was() {
    let cache = TokenCache::new(
        Recorder::new(|_| answer(400, r#"{"error":"invalid_grant"}"#)).endpoint(client()),
    );
    let source = cache.source(TokenRequest::refresh_token("r").label("tenant blue"));
    for _ in 0..2 {
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
        let grant = Some("refresh_token");
        assert_whose(&error, [ALL[0], ALL[1], ALL[2], grant, None]);
    }
    // Nothing is sent, so only the request is known.
    let code = TokenRequest::authorization_code("c", "https://app.example/").label("x");
    let other = cache.source(code.clone());
    other.token().await.unwrap_err();
    drop(other);
    let error = cache.source(code).token().await.unwrap_err();
    assert_eq!(error.label(), Some("x"));
}

#[tokio::test]
async fn the_status_says_whose_token_and_which_host() {
    let cache = TokenCache::new(Recorder::good().endpoint(client()));
    let source = cache.source(request());
    let shown = |cache: &TokenCache| {
        let status = cache.status().remove(0);
        let [label, client_id, host] = [status.label(), status.client_id(), status.host()];
        [label, client_id, host].map(|it| it.map(str::to_owned))
    };
    let known = |it: &str| Some(it.to_owned());
    assert_eq!(shown(&cache), [known("tenant blue"), None, None]);
    source.token().await.unwrap();
    let all = [known("tenant blue"), known("billing"), known("as.example")];
    assert_eq!(shown(&cache), all);

    let cache = TokenCache::new(Recorder::good().endpoint(client()));
    let own = request()
        .token_endpoint("https://other.example/token")
        .client_authentication(ClientAuthentication::none("other"));
    let _source: TokenSource = cache.source(own);
    let own = [known("tenant blue"), known("other"), known("other.example")];
    assert_eq!(shown(&cache), own);
}

#[tokio::test]
async fn on_refresh_token_is_told_whose_refresh_token_it_is() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    let issuing = Recorder::new(|number| {
        let body = format!(
            r#"{{"access_token":"T{number}","expires_in":3600,"refresh_token":"R{number}"}}"#
        );
        answer(200, body)
    });
    let cache = TokenCache::builder(issuing.endpoint(client()))
        .on_refresh_token(move |request: TokenRequest, _| {
            noted.lock().unwrap().push((
                request.get_label().map(str::to_owned),
                request.get_client_id(),
                request.get_host(),
                request.get_scope().map(str::to_owned),
                request.grant_type().to_owned(),
                request.get_context::<u8>().copied(),
            ));
            async {}
        })
        .build();
    let code = TokenRequest::authorization_code("c", "https://app.example/")
        .scope("orders")
        .label("user 7")
        .context(7_u8);
    let source = cache.source(code);
    source.token().await.unwrap();
    source.discard();
    source.token().await.unwrap();
    let known = |it: &str| Some(it.to_owned());
    let expected = (
        known("user 7"),
        known("billing"),
        known("as.example"),
        known("orders"),
        "authorization_code".to_owned(),
        Some(7),
    );
    assert_eq!(*told.lock().unwrap(), [expected.clone(), expected]);
}

#[tokio::test]
async fn a_refresh_request_has_the_label_and_the_context_of_its_source() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let issuing = Recorder::new(|_| {
        answer(
            200,
            r#"{"access_token":"T","expires_in":9,"refresh_token":"R"}"#,
        )
    });
    let stack = ServiceBuilder::new()
        .map_request(move |request: TokenRequest| {
            let label = request.get_label().map(str::to_owned);
            let context = request.get_context::<u8>().copied();
            let seen = (request.grant_type().to_owned(), label, context);
            noted.lock().unwrap().push(seen);
            request
        })
        .service(issuing.endpoint(client()));
    let code = TokenRequest::authorization_code("c", "https://app.example/");
    let source = TokenCache::new(stack).source(code.label("user 7").context(7_u8));
    source.token().await.unwrap();
    source.discard();
    source.token().await.unwrap();
    let whose = (Some("user 7".to_owned()), Some(7));
    let expected = ["authorization_code", "refresh_token"]
        .map(|grant| (grant.to_owned(), whose.0.clone(), whose.1));
    assert_eq!(*seen.lock().unwrap(), expected);
    for sent in issuing.take() {
        assert_eq!(sent.extensions().get(), Some(&7_u8));
    }
}

#[tokio::test]
async fn a_layer_above_the_endpoint_can_ask_which_host_was_called() {
    let endpoint = Recorder::good().endpoint(client());
    let hosts = Arc::new(Mutex::new(Vec::new()));
    let noted = hosts.clone();
    let counting = service_fn(move |request: TokenRequest| {
        let (endpoint, noted) = (endpoint.clone(), noted.clone());
        async move {
            let before = request.get_host();
            let response = endpoint.oneshot(request.clone()).await;
            noted.lock().unwrap().push((before, request.get_host()));
            response
        }
    });
    TokenCache::new(counting)
        .source(request())
        .token()
        .await
        .unwrap();
    assert_eq!(
        *hosts.lock().unwrap(),
        [(None, Some("as.example".to_owned()))]
    );
}

/// The fields of every event of the cache, by its message.
#[derive(Clone, Default)]
struct Fields(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

impl<S: Subscriber> Layer<S> for Fields {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Visitor(BTreeMap<String, String>);
        impl Visit for Visitor {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.insert(field.name().into(), format!("{value:?}"));
            }

            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name().into(), value.into());
            }
        }
        if event.metadata().target() == "tower_oauth2_client::token_cache" {
            let mut fields = Visitor(BTreeMap::new());
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_event_says_whose_token_and_which_host_as_soon_as_it_is_known() {
    let fields = Fields::default();
    tracing::subscriber::set_global_default(Registry::default().with(fields.clone())).unwrap();
    let recorder = Recorder::new(|number| match number {
        0 => answer(500, ""),
        1 => answer(200, GOOD),
        _ => answer(400, REFUSED),
    });
    let cache = TokenCache::new(recorder.endpoint(client()));
    // Other tests report events at the same time.
    let source = cache.source(request().label("of this test"));
    let token = source.token().await.unwrap();
    source.invalidate(&token);
    source.token().await.unwrap_err();
    let events = fields.0.lock().unwrap();
    let of = |message: &str| {
        let is_own =
            |fields: &BTreeMap<_, _>| fields.get("label").is_some_and(|it| it == "of this test");
        let mut own = events.iter().filter(|fields| is_own(fields));
        let event = own.find(|fields| fields["message"] == message);
        event.unwrap_or_else(|| panic!("{message}: {events:?}"))
    };
    for (message, is_called) in [
        ("fetching an access token", false),
        ("retrying the fetch of an access token", true),
        ("fetched an access token", true),
        ("an API refused an access token; dropped it", true),
        ("failed to fetch an access token", true),
    ] {
        let event = of(message);
        assert_eq!(event["grant_type"], "client_credentials", "{message}");
        assert_eq!(event["scope"], "orders", "{message}");
        let called = |name: &str| event.get(name).map(|value| &**value);
        let expected = |value| is_called.then_some(value);
        assert_eq!(called("client_id"), expected("billing"), "{message}");
        assert_eq!(called("host"), expected("as.example"), "{message}");
    }
}
