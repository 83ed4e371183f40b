//! Requests that are equal are sent the same and share a token; requests that are sent the same are equal.

mod support;

use std::{
    collections::{BTreeMap, HashSet},
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use tower::{ServiceExt, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, RevocationRequest, TokenCache, TokenErrorKind,
    TokenRequest, TokenResponse,
};

use self::support::{Recorder, form};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// One setter of a request.
#[derive(Clone, Debug)]
enum Set {
    Parameter(&'static str, &'static str),
    Repeated(&'static str, &'static str),
    Resource(&'static str),
    CodeVerifier(&'static str),
    Scope(&'static str),
    Header(&'static str, &'static str),
    Endpoint(&'static str),
    Client(usize),
}

fn setters() -> impl Strategy<Value = Set> {
    use prop::sample::select;
    let name = || select(vec!["a", "b", "resource", "scope", "code_verifier", "code"]);
    let value = || select(vec!["1", "2", "", VERIFIER]);
    let scope = select(vec!["x y", "y x", " x  y ", "x", "x x", "y x y", "", " "]);
    let header = select(vec!["x-a", "X-A", "x-b", "not a name"]);
    let header_value = select(vec!["1", "2", "\n"]);
    let endpoint = select(vec![
        "https://other.example/token",
        "https://OTHER.example/token",
        "https://other.example:443/token",
        "https://other.example",
        "https://other.example/",
        "http://other.example/",
    ]);
    prop_oneof![
        (name(), value()).prop_map(|(name, value)| Set::Parameter(name, value)),
        (name(), value()).prop_map(|(name, value)| Set::Repeated(name, value)),
        value().prop_map(Set::Resource),
        value().prop_map(Set::CodeVerifier),
        scope.prop_map(Set::Scope),
        (header, header_value).prop_map(|(name, value)| Set::Header(name, value)),
        endpoint.prop_map(Set::Endpoint),
        (0..4_usize).prop_map(Set::Client),
    ]
}

fn build(setters: &[Set]) -> TokenRequest {
    let begun = TokenRequest::client_credentials();
    setters.iter().fold(begun, |request, set| match *set {
        Set::Parameter("scope", value) => request.parameter("scope", value),
        Set::Parameter(name, value) => request.parameter(name, value),
        Set::Repeated(name, value) => request.repeated_parameter(name, value),
        Set::Resource(value) => request.resource(value),
        Set::CodeVerifier(value) => request.code_verifier(value),
        Set::Scope(scope) => request.scope(scope),
        Set::Header(name, value) => request.header(name, value),
        Set::Endpoint(uri) => request.token_endpoint(uri),
        Set::Client(number) => request.client_authentication(match number {
            0 => ClientAuthentication::none("c"),
            1 => ClientAuthentication::client_secret_post("c", "s"),
            2 => ClientAuthentication::client_secret_basic("c", "s"),
            _ => ClientAuthentication::client_secret_basic("c", "t"),
        }),
    })
}

/// Two requests, of which the second is often a variation of the first.
fn pairs() -> impl Strategy<Value = [Vec<Set>; 2]> {
    let begun = prop::collection::vec(setters(), 0..5);
    let change = (setters(), any::<prop::sample::Index>(), 0..5_usize);
    (begun, prop::collection::vec(change, 0..3)).prop_map(|(first, changes)| {
        let mut second = first.clone();
        for (set, index, how) in changes {
            let length = second.len();
            let index = index.index(length + 1);
            match how {
                0 => second.insert(index, set),
                1 if index < length => second[index] = set,
                2 if index < length => drop(second.remove(index)),
                3 if length > 1 => second.swap(index % length, 0),
                _ => second = second.iter().map(alternative).collect(),
            }
        }
        [first, second]
    })
}

/// Another setter that comes to the same.
fn alternative(set: &Set) -> Set {
    match *set {
        Set::Resource(value) => Set::Repeated("resource", value),
        Set::CodeVerifier(value) => Set::Parameter("code_verifier", value),
        Set::Repeated(name, value) => Set::Parameter(name, value),
        Set::Parameter(name, value) => Set::Repeated(name, value),
        ref other => other.clone(),
    }
}

/// What is sent, without what does not matter: the order of headers with different names, and that of the words in a scope.
type Sent = (
    String,
    BTreeMap<String, Vec<Vec<u8>>>,
    Vec<(String, Vec<String>)>,
);

fn send(request: TokenRequest) -> Option<Sent> {
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(ClientAuthentication::none("default"));
    let mut sending = pin!(endpoint.oneshot(request));
    let Poll::Ready(result) = sending
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("nothing is waited for");
    };
    if let Err(error) = result {
        assert_eq!(error.kind(), TokenErrorKind::Request, "{error}");
        assert_eq!(recorder.calls(), 0);
        return None;
    }
    let sent = recorder.take_one();
    let mut headers = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in sent.headers() {
        let values = headers.entry(name.to_string()).or_default();
        values.push(value.as_bytes().to_vec());
    }
    let pairs = form(sent.body()).into_iter().map(|(name, value)| {
        let mut words = match &*name {
            "scope" => value.split(' ').map(str::to_owned).collect(),
            _ => vec![value],
        };
        words.sort_unstable();
        (name, words)
    });
    Some((sent.uri().to_string(), headers, pairs.collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_equal_if_and_only_if_they_are_sent_the_same([first, second] in pairs()) {
        let requests = [build(&first), build(&second)];
        let [sent_first, sent_second] = requests.clone().map(send);
        let keys = RandomState::new();
        if requests[0] == requests[1] {
            prop_assert_eq!(&sent_first, &sent_second);
            prop_assert_eq!(keys.hash_one(&requests[0]), keys.hash_one(&requests[1]));
        }
        if sent_first.is_some() && sent_first == sent_second {
            prop_assert_eq!(&requests[0], &requests[1]);
        }
    }
}

#[tokio::test]
async fn an_invalid_request_does_not_take_the_place_of_a_valid_one() {
    let new = TokenRequest::client_credentials;
    for (wrong, right) in [
        (
            new()
                .parameter("resource", "urn:1")
                .parameter("resource", "urn:2"),
            new().resource("urn:1").resource("urn:2"),
        ),
        (
            new().parameter("role", "a").repeated_parameter("role", "b"),
            new()
                .repeated_parameter("role", "a")
                .repeated_parameter("role", "b"),
        ),
        (new().header("x-a", "\n"), new()),
        (
            new().header("x a", "1").header("x-a", "1"),
            new().header("x-a", "1"),
        ),
        (
            new().token_endpoint("http://as.example/token"),
            new().token_endpoint("https://as.example/token"),
        ),
        (
            new().client_authentication(ClientAuthentication::client_secret_post("c", "")),
            new().client_authentication(ClientAuthentication::client_secret_post("c", "s")),
        ),
    ] {
        assert_ne!(wrong, right);
        let endpoint = Recorder::good().endpoint(ClientAuthentication::none("c"));
        let cache = TokenCache::new(endpoint);
        let wrong = cache.source(wrong);
        assert!(wrong.token().await.is_err());
        cache.source(right).token().await.unwrap();
        assert!(wrong.token().await.is_err());
    }
}

/// Without its actor token, an exchange is another request: impersonation instead of delegation.
#[tokio::test]
async fn a_request_that_an_empty_provider_makes_invalid_does_not_take_the_token_of_a_valid_one() {
    let empty = Credential::from_fn(|| async { Ok::<_, BoxError>("") });
    let exchange = || TokenRequest::token_exchange("subject", "urn:t");
    let checked = exchange().actor_token(empty.clone(), "urn:t");
    let unchecked = exchange()
        .parameter("actor_token", empty)
        .parameter("actor_token_type", "urn:t");
    let cache = TokenCache::new(Recorder::good().endpoint(ClientAuthentication::none("c")));
    cache.source(unchecked.clone()).token().await.unwrap();
    assert!(cache.source(checked.clone()).token().await.is_err());
    assert_ne!(checked, unchecked);
    // A grant requires it, so both check it.
    let token = Credential::from_fn(|| async { Ok::<_, BoxError>("t") });
    assert_eq!(
        TokenRequest::refresh_token(token.clone()),
        TokenRequest::extension("refresh_token").parameter("refresh_token", token)
    );
}

/// Otherwise they would all be in one chain of the cache, which is searched from its beginning.
#[test]
fn requests_that_differ_in_anything_that_is_sent_have_different_hashes() {
    fn new() -> TokenRequest {
        TokenRequest::client_credentials()
    }
    let keys = RandomState::new();
    let make: [fn(String) -> TokenRequest; 8] = [
        |n| new().parameter("tenant", n),
        |n| new().parameter(n, "x"),
        |n| new().header("x-tenant", n),
        |n| new().header("x-tenant", "a").header("x-tenant", n),
        |n| new().header(format!("x-{n}"), "a").header("x-a", "b"),
        |n| new().header("x-tenant", n).header("x-other", "b"),
        |n| new().token_endpoint(format!("https://as.example/{n}")),
        |n| new().client_authentication(ClientAuthentication::none(n)),
    ];
    for (case, make) in make.iter().enumerate() {
        let hashes: HashSet<_> = (0..1000)
            .map(|n| keys.hash_one(make(n.to_string())))
            .collect();
        assert_eq!(hashes.len(), 1000, "{case}");
    }
    let hashes: HashSet<_> = (0..1000)
        .map(|n| keys.hash_one(RevocationRequest::new("t").header("x-tenant", n.to_string())))
        .collect();
    assert_eq!(hashes.len(), 1000);
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a bound that only a quadratic algorithm exceeds"
)]
fn tenants_by_header_cost_no_more_than_tenants_by_parameter() {
    let endpoint = service_fn(|_: TokenRequest| async {
        Err::<TokenResponse, BoxError>("no tenant asks for a token".into())
    });
    let cache = TokenCache::builder(endpoint).max_entries(100_000).build();
    let begun = Instant::now();
    for tenant in 0..20_000 {
        let request = TokenRequest::client_credentials();
        drop(cache.source(request.header("x-tenant", tenant.to_string())));
    }
    // Compared one by one, they would take many minutes.
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// The check of a request is linear in its parameters.
#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "a bound that only a quadratic algorithm exceeds"
)]
async fn a_request_with_many_parameters_is_checked_soon() {
    const MANY: usize = 100_000;
    let many = |repeated: bool| {
        (0..MANY).fold(
            TokenRequest::client_credentials(),
            |request, number| match repeated {
                true => request.repeated_parameter("resource", format!("urn:{number}")),
                false => request.parameter(format!("p{number}"), "x"),
            },
        )
    };
    let begun = Instant::now();
    for repeated in [true, false] {
        let request = many(repeated);
        let recorder = Recorder::good();
        let endpoint = recorder.endpoint(ClientAuthentication::none("c"));
        let sending = endpoint.clone().oneshot(request.clone());
        sending.await.unwrap();
        assert_eq!(form(recorder.take_one().body()).len(), MANY + 2);

        let wrong = request.clone().parameter("p", "1").parameter("p", "2");
        let error = endpoint.clone().oneshot(wrong.clone()).await.unwrap_err();
        assert!(error.to_string().contains("`p` is set twice"), "{error}");
        assert_ne!(wrong, request);
        assert_eq!(wrong, wrong.clone().scope(""));

        let first = format!("p{}", MANY / 2);
        let again = request.parameter(first.clone(), "y").parameter(first, "z");
        let error = endpoint.oneshot(again).await.unwrap_err();
        assert!(error.to_string().contains("is set twice"), "{error}");
    }
    // Compared with each other, they would take many minutes.
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// Names that would forge a line of a log, hide something, or fill it.
#[tokio::test]
async fn errors_and_debug_show_names_and_values_on_one_short_line() {
    let long = "y".repeat(10_000);
    let name = format!("x\r\nERROR \u{1b}[31m\u{202e}\u{3164}\u{e0041}{long}");
    let new = TokenRequest::client_credentials;
    let provided = |text: &str| {
        let text = text.to_owned();
        Credential::from_fn(move || {
            let text = text.clone();
            async move { Ok::<_, BoxError>(text) }
        })
    };
    let own = |client| new().client_authentication(client);
    for request in [
        new()
            .parameter(name.clone(), "1")
            .parameter(name.clone(), "2"),
        new().scope(&*name),
        new().parameter("scope", provided(&name)),
        new().header(&*name, "1"),
        new().header("x-a", &*name),
        new().header(format!("x-{long}"), "\n"),
        new().parameter(name.clone(), "").parameter("", ""),
        new().token_endpoint(format!("http://as.example/{long}")),
        own(ClientAuthentication::client_secret_basic(name.clone(), "")),
        own(ClientAuthentication::client_secret_basic_raw(
            format!("{name}:"),
            "s",
        )),
        own(ClientAuthentication::none("c")).parameter("client_id", &*name),
        TokenRequest::extension(name.clone()).parameter("grant_type", format!("{name}2")),
    ] {
        let endpoint = Recorder::good().endpoint(ClientAuthentication::none("c"));
        let error = endpoint.oneshot(request.clone()).await.unwrap_err();
        for shown in [
            error.to_string(),
            format!("{error:?}"),
            format!("{request:?}"),
        ] {
            assert!(shown.is_ascii(), "{shown}");
            assert!(!shown.chars().any(char::is_control), "{shown}");
            assert!(shown.len() < 2500, "{} bytes: {shown}", shown.len());
        }
    }
    let many = (0..1000).fold(new(), |request, n| request.parameter(n.to_string(), "x"));
    assert!(format!("{many:?}").len() < 1000);
    let revocation = RevocationRequest::new("t")
        .token_type_hint(name.clone())
        .parameter(name, "x");
    let shown = format!("{revocation:?}");
    assert!(shown.is_ascii() && shown.len() < 1500, "{shown}");
}
