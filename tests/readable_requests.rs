//! What can be read of a request, and what cannot: no getter, error, event or status shows a secret.
#![cfg(feature = "test-util")]

mod cache_support;
mod support;

use std::{
    collections::HashSet,
    error::Error,
    fmt::Debug,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, ClientSecret, Credential, IdToken, RefreshToken,
    RevocationRequest, TokenCache, TokenEndpoint, TokenRequest, TokenType,
};

use self::{
    cache_support::{Api, api_layer, call},
    support::{Log, Recorder, URI, answer, form},
};

const SECRET: &str = "S3NT1NEL";

fn new() -> TokenRequest {
    TokenRequest::client_credentials()
}

/// A secret text that differs for each place.
fn secret(place: &str) -> String {
    format!("{SECRET}-{place}")
}

fn provider(place: &str) -> Credential {
    let text = secret(place);
    Credential::from_fn(move || {
        let text = text.clone();
        async move { Ok::<_, BoxError>(text) }
    })
}

/// Every way in which a secret gets into a request, one request for each.
fn with_secrets() -> Vec<TokenRequest> {
    let token = || AccessToken::new(secret("access"), TokenType::BEARER).unwrap();
    let uri = format!("https://{SECRET}:{SECRET}@as.example/token?code={SECRET}");
    let mut requests = vec![
        new().parameter("a", ClientSecret::new(secret("a"))),
        new().parameter("a", RefreshToken::new(secret("a"))),
        new().parameter("a", IdToken::new(secret("a"))),
        new().parameter("a", token()),
        new().parameter("a", Credential::from(&token())),
        new().parameter("a", Credential::fixed(secret("a"))),
        new().parameter("a", provider("a")),
        new().repeated_parameter("a", Credential::fixed(secret("a"))),
        new().parameters([("a", Credential::fixed(secret("a")))]),
        new()
            .parameter("a", "x")
            .replace_parameter("a", Credential::fixed(secret("a"))),
        new().parameter("scope", Credential::fixed(secret("scope"))),
        new().parameter("scope", provider("scope")),
        // Words that are added to a secret scope do not make it readable.
        new()
            .parameter("scope", Credential::fixed(secret("scope")))
            .scope("api1"),
        // The same value twice: it is a secret if one of them is.
        new()
            .parameter("a", secret("a"))
            .parameter("a", Credential::fixed(secret("a"))),
        new()
            .parameter("a", Credential::fixed(secret("a")))
            .parameter("a", secret("a")),
        new().parameter("client_id", Credential::fixed(secret("client"))),
        TokenRequest::password("u", secret("password")),
        TokenRequest::authorization_code(secret("code"), "https://app.example/cb")
            .code_verifier(secret("verifier-that-is-long-enough-for-the-rfc-7636")),
        TokenRequest::refresh_token(secret("refresh")),
        TokenRequest::device_code(secret("device")),
        TokenRequest::ciba(secret("ciba")),
        TokenRequest::jwt_bearer(secret("jwt")),
        TokenRequest::saml2_bearer(secret("saml")),
        TokenRequest::token_exchange(secret("subject"), "urn:t")
            .actor_token(secret("actor"), "urn:t"),
        new().token_endpoint(uri),
        new().client_authentication(ClientAuthentication::client_secret_basic(
            "c",
            secret("client"),
        )),
        new().client_authentication(ClientAuthentication::client_secret_post(
            "c",
            provider("client"),
        )),
        new().client_authentication(ClientAuthentication::client_assertion(
            "c",
            secret("client"),
        )),
        new().context(secret("context")),
    ];
    for name in [
        "otp",
        "X-PIN",
        "apiKey",
        "api_key",
        "mfa_code",
        "cookie",
        "session",
        "sig",
        "ticket",
        "id_token_hint",
        "my-secret",
        "PASSWORD",
        "private",
    ] {
        requests.push(new().parameter(name, secret(name)));
        requests.push(new().header(name, secret(name)));
        requests.push(new().header(name, "x").replace_header(name, secret(name)));
    }
    requests
}

#[track_caller]
fn assert_no_secret(shown: &str) {
    assert!(!shown.contains(SECRET), "{shown}");
}

#[track_caller]
fn assert_prints_no_secret(value: &dyn Debug) {
    assert_no_secret(&format!("{value:?} {value:#?}"));
}

/// Prints what every getter of the request returns, also without the marks on sensitive headers.
fn all_getters(request: &TokenRequest) -> String {
    let client = request.get_client_authentication();
    let headers: Vec<_> = request
        .get_headers()
        .map(|(name, value)| (name, value.map(|value| value.to_str().unwrap())))
        .collect();
    let named: Vec<_> = request
        .get_parameters()
        .map(|(name, _)| request.get_parameter(name))
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {named:?} {headers:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        request.grant_type(),
        request.get_scope(),
        request.get_parameters().collect::<Vec<_>>(),
        request.get_token_endpoint().map(|uri| uri.to_string()),
        client.map(|client| (client.client_id().to_owned(), client.method())),
        client,
        request.get_client_id(),
        request.get_host(),
        request.get_label(),
        request.get_partition(),
        (
            request.get_context::<u8>(),
            request.carries_one_time_credential()
        ),
    )
}

#[tokio::test(start_paused = true)]
async fn no_getter_error_event_or_status_shows_a_secret() {
    let (log, _guard) = Log::record();
    for (status, body) in [
        (200, support::GOOD),
        (400, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"invalid_grant"}"#),
        (500, "oops"),
    ] {
        for request in with_secrets() {
            let request = request.label("a label");
            assert_no_secret(&all_getters(&request));
            assert_prints_no_secret(&request);
            let told = Arc::new(Mutex::new(String::new()));
            let client = ClientAuthentication::client_secret_basic("c", secret("client"));
            let endpoint = Recorder::new(move |_| answer(status, body)).endpoint(client);
            // A layer that reads what it can.
            let read = told.clone();
            let endpoint = endpoint.map_request(move |request: TokenRequest| {
                read.lock().unwrap().push_str(&all_getters(&request));
                request
            });
            let read = told.clone();
            let cache = TokenCache::builder(endpoint)
                .on_refresh_token(move |request: TokenRequest, _| {
                    read.lock().unwrap().push_str(&all_getters(&request));
                    async {}
                })
                .build();
            let source = cache.source(request);
            let error = source.token().await.err();
            assert_no_secret(&told.lock().unwrap());
            for status in cache.status() {
                assert_prints_no_secret(&status);
                assert_no_secret(&all_getters(status.request()));
                let shown = (status.label(), status.client_id(), status.host());
                assert_prints_no_secret(&shown);
            }
            assert_prints_no_secret(&(&cache, &source, &cache.health()));
            let Some(error) = error else { continue };
            let shown = (
                (error.label(), error.client_id(), error.host()),
                (error.scope(), error.grant_type()),
            );
            assert_prints_no_secret(&shown);
            let service = api_layer(source).layer(Api::content());
            let of_layer = service.oneshot(call()).await.unwrap_err();
            let mut next: Option<&(dyn Error + 'static)> = Some(&*of_layer);
            while let Some(error) = next {
                assert_no_secret(&format!("{error} {error:#} {error:?} {error:#?}"));
                next = error.source();
            }
        }
    }
    let log = log.text();
    assert!(log.contains("failed to fetch an access token"), "{log}");
    assert_no_secret(&log);
}

/// The test above would also pass if nothing could be read.
#[test]
fn what_is_no_secret_can_be_read() {
    let client = ClientAuthentication::none("c");
    let request = TokenRequest::token_exchange("t", "urn:subject")
        .requested_token_type("urn:requested")
        .scope("a b")
        .resource("https://1.example/")
        .resource("https://2.example/")
        .audience("backend")
        .parameter("tenant", "blue")
        .header("x-region", "eu")
        .token_endpoint("https://user@as.example:8443/token?key=k")
        .client_authentication(client)
        .label("blue")
        .context(7_u8);
    let parameters: Vec<_> = request.get_parameters().collect();
    assert_eq!(
        parameters,
        [
            (
                "grant_type",
                Some("urn:ietf:params:oauth:grant-type:token-exchange")
            ),
            ("subject_token", None),
            ("subject_token_type", Some("urn:subject")),
            ("requested_token_type", Some("urn:requested")),
            ("scope", Some("a b")),
            ("resource", Some("https://1.example/")),
            ("resource", Some("https://2.example/")),
            ("audience", Some("backend")),
            ("tenant", Some("blue")),
        ]
    );
    assert_eq!(request.get_scope(), Some("a b"));
    assert_eq!(
        request.get_parameter("resource"),
        Some("https://1.example/")
    );
    assert_eq!(request.get_parameter("none"), None);
    let headers: Vec<_> = request.get_headers().collect();
    assert_eq!(headers.len(), 1);
    assert_eq!(
        (headers[0].0.as_str(), headers[0].1.unwrap()),
        ("x-region", &"eu".parse().unwrap())
    );
    assert_eq!(
        request.get_token_endpoint().unwrap(),
        "https://as.example:8443/token"
    );
    assert_eq!(request.get_host().unwrap(), "as.example:8443");
    let client = request.get_client_authentication().unwrap();
    assert_eq!((client.client_id(), client.method()), ("c", "none"));
    assert_eq!(request.get_client_id().unwrap(), "c");
    assert_eq!(request.get_label(), Some("blue"));
    assert_eq!(request.get_context(), Some(&7_u8));
    assert!(
        format!("{request:?}").contains(r#"label: "blue""#),
        "{request:?}"
    );
    let by_parameter = new().parameter("client_id", "x");
    assert_eq!(by_parameter.get_client_id().unwrap(), "x");
}

#[test]
fn a_label_and_a_context_are_neither_compared_nor_hashed() {
    let keys = RandomState::new();
    let plain = new().scope("a");
    for other in [
        plain.clone().label("x"),
        plain.clone().context(7_u8),
        plain.clone().label("x").label("y").context("z"),
    ] {
        assert_eq!(plain, other);
        assert_eq!(keys.hash_one(&plain), keys.hash_one(&other));
    }
    assert_eq!(
        RevocationRequest::new("t").label("x").context(7_u8),
        RevocationRequest::new("t")
    );
}

#[tokio::test]
async fn requests_that_differ_in_label_and_context_share_a_token_and_the_first_ones_are_used() {
    let recorder = Recorder::good();
    let client = ClientAuthentication::none("c");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let endpoint = ServiceBuilder::new()
        .map_request(move |request: TokenRequest| {
            let label = request.get_label().map(str::to_owned);
            let context = request.get_context::<u8>().copied();
            noted.lock().unwrap().push((label, context));
            request
        })
        .service(recorder.endpoint(client));
    let cache = TokenCache::new(endpoint);
    let first = cache.source(new().label("first").context(1_u8));
    let second = cache.source(new().label("second").context(2_u8).context("text"));
    let third = cache.source(new());
    for source in [&second, &third, &first] {
        source.token().await.unwrap();
    }
    first.discard();
    second.token().await.unwrap();
    let status = cache.status();
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].label(), Some("first"));
    let first = (Some("first".to_owned()), Some(1));
    assert_eq!(*seen.lock().unwrap(), [first.clone(), first]);
    for sent in recorder.take() {
        assert_eq!(sent.extensions().get(), Some(&1_u8));
        assert_eq!(sent.extensions().get::<&str>(), None);
        assert!(!format!("{sent:?}").contains("first"));
    }
}

/// A setter, and the method that replaces what it sets.
#[derive(Clone, Debug)]
enum Replace {
    Parameter(&'static str, &'static str),
    Scope(&'static str),
    Header(&'static str, &'static str),
}

impl Replace {
    fn set(&self, request: TokenRequest) -> TokenRequest {
        match *self {
            Self::Parameter(name, value) => request.parameter(name, value),
            Self::Scope(scope) => request.scope(scope),
            Self::Header(name, value) => request.header(name, value),
        }
    }

    fn replace(&self, request: TokenRequest) -> TokenRequest {
        match *self {
            Self::Parameter(name, value) => request.replace_parameter(name, value),
            Self::Scope(scope) => request.replace_scope(scope),
            Self::Header(name, value) => request.replace_header(name, value),
        }
    }

    /// What both would set at the same place.
    fn place(&self) -> (u8, &'static str) {
        match *self {
            Self::Parameter(name, _) => (0, name),
            Self::Scope(_) => (0, "scope"),
            Self::Header(name, _) => (1, name),
        }
    }
}

fn replacements() -> impl Strategy<Value = Replace> {
    use prop::sample::select;
    let name = || select(vec!["a", "b", "c", "resource", "code_verifier", "code"]);
    let value = || select(vec!["1", "2", "", "long enough"]);
    prop_oneof![
        (name(), value()).prop_map(|(name, value)| Replace::Parameter(name, value)),
        select(vec!["x", "x y", "y x", "", " "]).prop_map(Replace::Scope),
        (select(vec!["x-a", "x-b"]), select(vec!["1", "2"]))
            .prop_map(|(name, value)| Replace::Header(name, value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2048, ..ProptestConfig::default() })]

    /// A copy in which values are replaced equals a request that was made with them, if each is at the place where it was set first.
    #[test]
    fn a_specialized_copy_equals_a_request_made_directly(
        base in prop::collection::vec(replacements(), 0..6),
        changes in prop::collection::vec(replacements(), 0..6),
        many in any::<bool>(),
    ) {
        // With many parameters, the places of names are remembered, and must be forgotten.
        let begun = if many { new().parameters((0..20).map(|n| (format!("p{n}"), "x"))) } else { new() };
        let mut seen = HashSet::new();
        let mut places: Vec<Replace> = base.into_iter().filter(|set| seen.insert(set.place())).collect();
        let made = places.iter().fold(begun.clone(), |request, set| set.set(request));
        let copy = changes.iter().fold(made, |request, change| change.replace(request));
        for change in changes {
            let old = places.iter().position(|set| set.place() == change.place());
            // An optional parameter with an empty value has no place.
            let has_place = |set: &Replace| matches!(set.set(new()), request if request != new());
            match old {
                Some(old) if has_place(&places[old]) => places[old] = change,
                Some(old) => {
                    places.remove(old);
                    places.push(change);
                }
                None => places.push(change),
            }
        }
        let direct = places.iter().fold(begun, |request, set| set.set(request));
        let keys = RandomState::new();
        prop_assert_eq!(&copy, &direct);
        prop_assert_eq!(keys.hash_one(&copy), keys.hash_one(&direct));
        let read = |request: &TokenRequest| format!("{:?}", request.get_parameters().collect::<Vec<_>>());
        prop_assert_eq!(read(&copy), read(&direct));
    }
}

#[test]
fn a_repeated_parameter_is_replaced_as_a_whole_and_can_be_repeated_again() {
    let base = new()
        .resource("urn:1")
        .parameter("tenant", "blue")
        .resource("urn:2");
    let copy = base.clone().replace_parameter("resource", "urn:3");
    assert_eq!(copy, new().resource("urn:3").parameter("tenant", "blue"));
    let more = copy.resource("urn:4");
    let resources: Vec<_> = more
        .get_parameters()
        .filter_map(|(name, value)| value.filter(|_| name == "resource"))
        .collect();
    assert_eq!(resources, ["urn:3", "urn:4"]);
    assert_eq!(base.get_parameter("resource"), Some("urn:1"), "unchanged");
}

/// With many parameters, the place of each name is remembered. A removal moves those behind it.
#[test]
fn a_parameter_that_is_set_again_after_a_removal_is_still_set_once() {
    let many = new().parameters((0..20).map(|n| (format!("p{n}"), "x")));
    let copy = many.parameter("p19", "x").replace_parameter("p3", "");
    assert_eq!(
        copy,
        copy.clone().parameter("p10", "x").parameter("p19", "x")
    );
}

#[tokio::test]
async fn an_invalid_replacement_is_reported_and_nothing_is_sent() {
    for request in [
        new().replace_header("x-a", "\n"),
        new().replace_header("not a name", "1"),
        new().replace_parameter("", "x"),
        new().replace_scope("caf\u{e9}"),
        TokenRequest::refresh_token("r").replace_parameter("refresh_token", ""),
    ] {
        let recorder = Recorder::good();
        let endpoint = recorder.endpoint(ClientAuthentication::none("c"));
        endpoint.oneshot(request).await.unwrap_err();
        assert_eq!(recorder.calls(), 0);
    }
}

mod defaults {
    use super::*;

    async fn sent(endpoint: TokenEndpoint<Recorder>, request: TokenRequest) -> Vec<String> {
        let recorder = endpoint.get_ref().clone();
        endpoint.oneshot(request).await.unwrap();
        let pairs = form(recorder.take_one().body());
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.skip(1).collect()
    }

    fn endpoint() -> TokenEndpoint<Recorder> {
        let client = ClientAuthentication::client_secret_basic("c", "s");
        TokenEndpoint::new(Recorder::good(), URI, client)
    }

    #[tokio::test]
    async fn a_request_gets_the_defaults_that_it_does_not_set() {
        let endpoint = endpoint()
            .default_parameter("audience", "a1")
            .default_parameter("audience", "a2")
            .default_parameter("scope", "s1")
            .default_parameter("region", "")
            .default_parameter("tenant", provider("tenant"));
        let tenant = format!("tenant={}", secret("tenant"));
        for (request, expected) in [
            (
                new(),
                vec!["audience=a1", "audience=a2", "scope=s1", &tenant],
            ),
            (new().audience("x"), vec!["audience=x", "scope=s1", &tenant]),
            (
                new().scope("y").parameter("tenant", "z"),
                vec!["scope=y", "tenant=z", "audience=a1", "audience=a2"],
            ),
            (
                new()
                    .parameter("scope", provider("scope"))
                    .audience("b")
                    .parameter("tenant", "z"),
                vec!["scope=S3NT1NEL-scope", "audience=b", "tenant=z"],
            ),
        ] {
            assert_eq!(sent(endpoint.clone(), request).await, expected);
        }
    }

    /// The scope of such a token was granted before.
    #[tokio::test]
    async fn a_default_scope_does_not_narrow_what_a_user_has_granted() {
        let endpoint = endpoint()
            .default_parameter("scope", "orders")
            .default_parameter("tenant", "t");
        let code = TokenRequest::authorization_code("c", "https://app.example/cb");
        for request in [
            TokenRequest::refresh_token("r"),
            TokenRequest::device_code("d"),
            code,
        ] {
            let sent = sent(endpoint.clone(), request.clone()).await;
            assert!(sent.contains(&"tenant=t".into()), "{sent:?}");
            assert!(!sent.iter().any(|it| it.starts_with("scope")), "{sent:?}");
            let sent = self::sent(endpoint.clone(), request.scope("own")).await;
            assert!(sent.contains(&"scope=own".into()), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn an_invalid_default_is_reported_by_each_request_that_would_get_it() {
        let endpoint = endpoint().default_parameter("scope", "caf\u{e9}");
        let error = endpoint.clone().oneshot(new()).await.unwrap_err();
        assert!(error.to_string().contains("scope"), "{error}");
        endpoint.oneshot(new().scope("a")).await.unwrap();
    }

    /// They are for token requests.
    #[tokio::test]
    async fn a_revocation_endpoint_made_from_the_token_endpoint_has_no_defaults() {
        let recorder = Recorder::new(|number| match number {
            0 => answer(
                200,
                r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token","revocation_endpoint":"https://as.example/revoke"}"#,
            ),
            _ => answer(200, ""),
        });
        let client = ClientAuthentication::client_secret_basic("c", "s");
        let endpoint: TokenEndpoint<_> =
            TokenEndpoint::discover(recorder.clone(), "https://as.example", client);
        let endpoint = endpoint.default_parameter("audience", "a1");
        endpoint
            .revocation()
            .oneshot(RevocationRequest::new("t"))
            .await
            .unwrap();
        let sent = recorder.take().pop().unwrap();
        assert_eq!(*sent.body(), "token=t");
    }

    #[tokio::test]
    async fn defaults_are_no_part_of_the_key_and_are_sent_with_refresh_requests() {
        let recorder = Recorder::new(|_| {
            answer(
                200,
                r#"{"access_token":"T","expires_in":3600,"refresh_token":"R"}"#,
            )
        });
        let endpoint: TokenEndpoint<_> =
            TokenEndpoint::new(recorder.clone(), URI, ClientAuthentication::none("c"))
                .default_parameter("audience", "a1");
        let cache = TokenCache::new(endpoint);
        let code = TokenRequest::authorization_code("code", "https://app.example/cb");
        let source = cache.source(code.clone());
        source.token().await.unwrap();
        source.discard();
        cache.source(code).token().await.unwrap();
        let sent = recorder.take();
        assert_eq!(sent.len(), 2);
        for sent in sent {
            let pairs = form(sent.body());
            assert!(
                pairs.contains(&("audience".into(), "a1".into())),
                "{pairs:?}"
            );
        }
    }
}
