//! What an API, or an authorization server, that is hostile gets from `AuthorizeAnywhereLayer`: nothing.
#![cfg(all(feature = "authorization-code", feature = "test-util"))]

mod anywhere_support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use tower_oauth2_client::{
    ClientMetadata, TokenError,
    authorization_code::AuthorizationResponse,
    authorize_anywhere::{AuthorizationUrl, Identity, NotAuthorizedKind as Kind, SignIn},
    test_util::{AuthorizationServer, ManualClock},
};

use self::anywhere_support::*;

const EVIL: &str = "https://evil.test";

/// An API that never accepts anything, with these metadata and this challenge.
fn hostile_api(world: &World, metadata: Value, demand: impl Into<String>) {
    let demand = demand.into();
    world.host("api.test", move |request| match request.uri().path() {
        AT_PATH => json_answer(&metadata),
        _ => challenge(401, &demand),
    });
}

/// A server at `host` that would issue a token to everybody.
fn evil_server(world: &World, host: &str, members: Value) {
    let issuer = format!("https://{host}");
    world.host(host, move |request| match request.uri().path() {
        "/.well-known/oauth-authorization-server" => {
            let mut metadata = json!({
                "issuer": issuer,
                "token_endpoint": format!("{issuer}/token"),
                "authorization_endpoint": format!("{issuer}/authorize"),
                "registration_endpoint": format!("{issuer}/register"),
                "code_challenge_methods_supported": ["S256"],
            });
            let object = metadata.as_object_mut().unwrap();
            object.extend(members.as_object().unwrap().clone());
            json_answer(&metadata)
        }
        "/token" => json_answer(&json!({ "access_token": "EVIL", "token_type": "Bearer" })),
        "/register" => json_answer(&json!({ "client_id": "evil" })),
        _ => not_found(),
    });
}

/// Says that no host but the API itself got anything, and that got neither a token nor a secret.
#[track_caller]
fn assert_nothing_was_got(world: &World) {
    assert_eq!(world.hosts(), ["api.test"]);
    let text = world.text_for("api.test");
    assert!(
        !text.contains("authorization:") && !text.contains("secret"),
        "{text}"
    );
}

#[tokio::test]
async fn what_an_api_says_about_others_gets_nothing() {
    let own = |issuers: Value| json!({ "resource": URL, "authorization_servers": issuers });
    let long = format!("\"{}\"", "x".repeat(2 << 20));
    for (metadata, demand, kind, why) in [
        // A stranger's issuer.
        (
            own(json!([EVIL])),
            "Bearer",
            Kind::IssuerNotAllowed,
            "`https://evil.test`",
        ),
        (
            own(json!([format!("{ISSUER}.evil.test")])),
            "Bearer",
            Kind::IssuerNotAllowed,
            "no identity",
        ),
        (
            own(json!([format!("{ISSUER}/tenant")])),
            "Bearer",
            Kind::IssuerNotAllowed,
            "no identity",
        ),
        (
            own(json!(["https://AS.test"])),
            "Bearer",
            Kind::IssuerNotAllowed,
            "no identity",
        ),
        (
            own(json!([])),
            "Bearer",
            Kind::IssuerNotAllowed,
            "name no authorization server",
        ),
        // Itself differently.
        (
            json!({ "resource": "https://bank.test/mcp", "authorization_servers": [ISSUER] }),
            "Bearer",
            Kind::Discovery,
            "another origin",
        ),
        (
            json!({ "resource": "https://api.test/mc", "authorization_servers": [ISSUER] }),
            "Bearer",
            Kind::Discovery,
            "does not contain",
        ),
        (
            json!({ "resource": "https://api.test/mcp/../bank", "authorization_servers": [ISSUER] }),
            "Bearer",
            Kind::Discovery,
            "segment",
        ),
        (
            json!({ "resource": "http://api.test/mcp", "authorization_servers": [ISSUER] }),
            "Bearer",
            Kind::Discovery,
            "another origin",
        ),
        // The metadata of another origin.
        (
            own(json!([ISSUER])),
            "Bearer resource_metadata=\"https://bank.test/.well-known/oauth-protected-resource\"",
            Kind::Discovery,
            "another origin",
        ),
        (
            own(json!([ISSUER])),
            "Bearer resource_metadata=\"https://api.test@evil.test/m\"",
            Kind::Discovery,
            "user name",
        ),
        (
            own(json!([ISSUER])),
            "Bearer resource_metadata=\"file:///etc/passwd\"",
            Kind::Discovery,
            "names an address",
        ),
        // An internal address.
        (
            own(json!(["https://169.254.169.254"])),
            "Bearer",
            Kind::Discovery,
            "not public",
        ),
        (
            own(json!(["https://localhost"])),
            "Bearer",
            Kind::Discovery,
            "this machine",
        ),
        (
            own(json!(["https://vault.internal"])),
            "Bearer",
            Kind::Discovery,
            "not public",
        ),
        (
            own(json!(["http://as.test"])),
            "Bearer",
            Kind::Discovery,
            "plain http",
        ),
        // No metadata at all.
        (json!("<html>"), "Bearer", Kind::Discovery, ""),
        (
            json!(serde_json::from_str::<Value>(&long).unwrap()),
            "Bearer",
            Kind::Discovery,
            "",
        ),
        (
            own(json!("https://as.test")),
            "Bearer",
            Kind::Discovery,
            "not a list",
        ),
    ] {
        let world = World::default();
        hostile_api(&world, metadata, demand);
        for host in [
            "evil.test",
            "bank.test",
            "as.test",
            "localhost",
            "169.254.169.254",
            "vault.internal",
        ] {
            evil_server(&world, host, json!({}));
        }
        let client = world.client(world.layer().issuer(ISSUER, secret()));
        let error = refused(&client, URL).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}, and not {why}");
        assert_nothing_was_got(&world);
        // The same error again, without a request for metadata.
        let asked = world.seen("api.test").len();
        let again = refused(&client, URL).await;
        assert_eq!(again.to_string(), error.to_string());
        assert!(world.seen("api.test").len() <= asked + 3);
    }
}

#[tokio::test]
async fn an_api_at_an_internal_address_is_not_asked_for_metadata() {
    for url in [
        "https://10.0.0.7/mcp",
        "https://localhost/mcp",
        "https://router.lan/mcp",
        "https://intranet/mcp",
    ] {
        let world = World::default();
        let host = url.parse::<http::Uri>().unwrap().host().unwrap().to_owned();
        world.host(&host, |_| challenge(401, "Bearer"));
        let client = world.client(world.layer().identity_for(|_| Some(secret())));
        let error = refused(&client, url).await;
        assert_eq!(error.kind(), Kind::Discovery);
        assert_eq!(world.seen(&host).len(), 1, "{url}");
    }
}

#[tokio::test]
async fn endpoints_at_internal_addresses_get_nothing() {
    let internal = "https://10.0.0.1/x";
    for (members, identity) in [
        (json!({ "token_endpoint": internal }), secret()),
        (
            json!({ "token_endpoint": "http://evil.test/token" }),
            secret(),
        ),
        (
            json!({ "registration_endpoint": internal }),
            Identity::new()
                .register(ClientMetadata::new())
                .sign_in(nobody()),
        ),
        (
            json!({ "authorization_endpoint": internal }),
            secret().sign_in(nobody()),
        ),
        (
            json!({ "authorization_endpoint": "javascript:alert(1)" }),
            secret().sign_in(nobody()),
        ),
        (
            json!({ "pushed_authorization_request_endpoint": internal }),
            secret().sign_in(nobody()),
        ),
    ] {
        let world = World::default();
        hostile_api(&world, metadata_of_api(&[EVIL]), "Bearer");
        let shown = members.to_string();
        evil_server(&world, "evil.test", members);
        world.host("10.0.0.1", |_| {
            json_answer(&json!({ "access_token": "T", "client_id": "x" }))
        });
        // Even at a server that is allowed.
        let client = world.client(world.layer().issuer(EVIL, identity));
        let error = refused(&client, URL).await;
        assert_ne!(error.kind(), Kind::IssuerNotAllowed, "{shown}: {error}");
        assert_eq!(world.hosts(), ["api.test", "evil.test"], "{shown}");
        assert_eq!(world.seen_at("/token").len(), 0, "{shown}");
        assert!(!world.text_for("evil.test").contains("secret"), "{shown}");
    }
}

/// A user who must not be asked.
fn nobody() -> SignIn {
    SignIn::new(
        "http://127.0.0.1:7777/callback",
        |url: AuthorizationUrl| async move {
            panic!("the browser was sent to {}", url.as_str());
            #[allow(unreachable_code)]
            Err::<AuthorizationResponse, std::io::Error>(std::io::Error::other(""))
        },
    )
}

#[tokio::test]
async fn metadata_that_name_another_issuer_are_not_used() {
    for issuer in [
        "https://attacker.test",
        "https://as.test/tenant",
        "http://as.test",
    ] {
        let world = World::default();
        hostile_api(&world, metadata_of_api(&[ISSUER]), "Bearer");
        evil_server(&world, "as.test", json!({ "issuer": issuer }));
        let client = world.client(
            world
                .layer()
                .issuer(ISSUER, secret())
                .use_default_endpoints(),
        );
        let error = refused(&client, URL).await;
        assert_eq!(error.kind(), Kind::Discovery);
        assert_eq!(world.seen_at("/token").len(), 0);
        assert!(!world.text_for("as.test").contains("secret"));
    }
}

#[tokio::test]
async fn a_response_of_another_issuer_is_refused_even_if_it_differs_by_a_slash() {
    for iss in [
        "https://as.test/",
        "https://AS.test",
        "https://as.test:443",
        EVIL,
        "",
    ] {
        let server = new_server().build();
        let world = World::default();
        world.server("as.test", &server);
        add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
        let user = server.clone();
        let sign_in = SignIn::new(
            "http://127.0.0.1:7777/callback",
            move |url: AuthorizationUrl| {
                let returned_to = user.authorize(url.as_str()).unwrap();
                let (path, query) = returned_to.split_once('?').unwrap();
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                let pairs = url::form_urlencoded::parse(query.as_bytes());
                form.extend_pairs(pairs.filter(|(name, _)| name != "iss"));
                let query = form.append_pair("iss", iss).finish();
                let response = AuthorizationResponse::from_uri(format!("{path}?{query}"));
                async move { Ok::<_, std::io::Error>(response) }
            },
        );
        let client = world.client(world.layer().issuer(ISSUER, secret().sign_in(sign_in)));
        let error = refused(&client, URL).await;
        assert_eq!(error.kind(), Kind::SignIn, "{iss}: {error}");
        assert!(error.to_string().contains("iss"), "{error}");
        assert_eq!(server.token_requests(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_carried_to_another_server() {
    for is_allowed in [true, false] {
        let clock = ManualClock::new();
        let first = AuthorizationServer::builder()
            .issuer("https://as1.test")
            .client("client-1", "SECRET-1")
            .clock(clock.clone())
            .build();
        let second = AuthorizationServer::builder()
            .issuer("https://as2.test")
            .client("client-2", "SECRET-2")
            .clock(clock.clone())
            .build();
        let world = World::default();
        world.server("as1.test", &first);
        world.server("as2.test", &second);
        let has_moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (moved, servers) = (has_moved.clone(), [first.clone(), second.clone()]);
        world.host("api.test", move |request| {
            let current = usize::from(moved.load(Ordering::SeqCst));
            let issuer = ["https://as1.test", "https://as2.test"][current];
            match request.uri().path() {
                AT_PATH => json_answer(&metadata_of_api(&[issuer])),
                _ if accepts(&servers[current], request.headers()) => Response::new(Bytes::new()),
                // Without `invalid_token`.
                _ => challenge(401, "Bearer scope=\"basic\""),
            }
        });
        let user = User::of(&[&first, &second]);
        let sign_in = user.sign_in();
        let layer = world.layer().clock(clock.clone()).issuer(
            "https://as1.test",
            Identity::new()
                .client_secret("client-1", "SECRET-1")
                .sign_in(sign_in.clone()),
        );
        let layer = match is_allowed {
            true => layer.issuer(
                "https://as2.test",
                Identity::new()
                    .client_secret("client-2", "SECRET-2")
                    .sign_in(sign_in),
            ),
            false => layer,
        };
        let client = world.client(layer);
        assert_eq!(call(&client, URL).await.unwrap(), 200);
        clock.advance(Duration::from_secs(3601));
        assert_eq!(call(&client, URL).await.unwrap(), 200);
        let old = token_of(world.seen_at("/mcp").last().unwrap().headers()).unwrap();
        has_moved.store(true, Ordering::SeqCst);
        let to_second = if is_allowed {
            assert_eq!(call(&client, URL).await.unwrap(), 200);
            world.text_for("as2.test")
        } else {
            for _ in 0..3 {
                let error = refused(&client, URL).await;
                assert_eq!(error.kind(), Kind::IssuerNotAllowed);
            }
            assert!(world.seen("as2.test").is_empty());
            // The old token is not tried any longer.
            assert_eq!(
                token_of(world.seen_at("/mcp").last().unwrap().headers()),
                None
            );
            continue;
        };
        let at_first = world.seen("as1.test");
        let refresh_tokens = at_first
            .iter()
            .flat_map(|it| field(it.body(), "refresh_token"));
        let refresh_tokens: Vec<_> = refresh_tokens.collect();
        assert!(!refresh_tokens.is_empty());
        for secret in [&*old, "client-1", "SECRET-1", "as1.test"]
            .into_iter()
            .chain(refresh_tokens.iter().map(|it| &**it))
        {
            assert!(!to_second.contains(secret), "{secret} in {to_second}");
        }
        assert!(!world.text_for("as1.test").contains("client-2"));
        // The new server does not know the code, the verifier or the state of the old one.
        let pushed = world.seen_at("/par");
        for name in ["state", "code_challenge"] {
            let [before, after] = [0, 1].map(|index: usize| field(pushed[index].body(), name));
            assert!(before.len() == 1 && after.len() == 1 && before != after);
        }
        let sent = world.seen_at("/mcp");
        let sent: Vec<_> = sent
            .iter()
            .filter_map(|it| token_of(it.headers()))
            .collect();
        assert!(sent.last() != Some(&old));
    }
}

#[tokio::test]
async fn two_servers_with_the_same_client_do_not_share_a_token() {
    let world = World::default();
    for host in ["as1.test", "as2.test"] {
        let issuer = format!("https://{host}");
        world.host(host, move |request| match request.uri().path() {
            "/token" => json_answer(&json!({ "access_token": issuer, "token_type": "Bearer" })),
            "/.well-known/oauth-authorization-server" => {
                let token_endpoint = format!("{issuer}/token");
                json_answer(&json!({ "issuer": issuer, "token_endpoint": token_endpoint }))
            }
            _ => not_found(),
        });
    }
    let (calls, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    world.host("api.test", move |request| {
        let issuers = ["https://as1.test", "https://as2.test"];
        if request.uri().path() == AT_PATH {
            let round = asked.fetch_add(1, Ordering::SeqCst).min(1);
            return json_answer(&metadata_of_api(&[issuers[round]]));
        }
        let Some(token) = token_of(request.headers()) else {
            return challenge(401, "Bearer");
        };
        let round = calls.fetch_add(1, Ordering::SeqCst).min(1);
        match token == issuers[round] {
            true => Response::new(Bytes::new()),
            false => challenge(401, "Bearer"),
        }
    });
    // The same client, resource and scope.
    let client = world.client(world.layer().identity_for(|_| Some(secret())));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    let sent = world.seen_at("/mcp");
    assert_eq!(
        token_of(sent.last().unwrap().headers()).as_deref(),
        Some("https://as2.test")
    );
}

/// An API that answers each request with a token by this function of its number.
fn api_with(
    world: &World,
    server: &AuthorizationServer,
    answer: impl Fn(usize) -> Response<Bytes> + Send + Sync + 'static,
) {
    let (number, server) = (AtomicUsize::new(0), server.clone());
    world.host("api.test", move |request| match request.uri().path() {
        AT_PATH => json_answer(&metadata_of_api(&[ISSUER])),
        _ if accepts(&server, request.headers()) => answer(number.fetch_add(1, Ordering::SeqCst)),
        _ => challenge(401, "Bearer"),
    });
}

#[tokio::test(start_paused = true)]
async fn ever_wider_scopes_have_a_limit_per_request_and_per_time() {
    let clock = ManualClock::new();
    let server = new_server().clock(clock.clone()).build();
    let world = World::default();
    world.server("as.test", &server);
    api_with(&world, &server, |number| {
        challenge(
            403,
            &format!("Bearer error=\"insufficient_scope\", scope=\"s{number}\""),
        )
    });
    let user = User::of(&[&server]);
    let layer = world.layer_with_sign_in(&user).clock(clock.clone());
    let client = world.client(layer);
    // The API's answer is for the caller.
    assert_eq!(call(&client, URL).await.unwrap(), 403);
    assert_eq!(user.signed_in(), 3);
    for _ in 0..20 {
        assert_eq!(call(&client, URL).await.unwrap(), 403);
    }
    assert_eq!(user.signed_in(), 3);
    let mut sign_ins = 0;
    for _ in 0..600 {
        clock.advance(Duration::from_secs(1));
        call(&client, URL).await.unwrap();
        sign_ins = user.signed_in();
    }
    // Pauses of 5, 10, 20 … 300 seconds.
    assert!((5..=10).contains(&sign_ins), "{sign_ins}");
}

#[tokio::test]
async fn ever_wider_scopes_have_the_same_limit_for_a_machine() {
    let clock = ManualClock::new();
    let server = new_server().clock(clock.clone()).build();
    let world = World::default();
    world.server("as.test", &server);
    api_with(&world, &server, |number| {
        challenge(
            403,
            &format!("Bearer error=\"insufficient_scope\", scope=\"s{number}\""),
        )
    });
    let layer = world.layer().issuer(ISSUER, secret()).clock(clock.clone());
    let client = world.client(layer);
    for _ in 0..20 {
        assert_eq!(call(&client, URL).await.unwrap(), 403);
    }
    assert_eq!(server.token_requests(), 3);
    for _ in 0..600 {
        clock.advance(Duration::from_secs(1));
        call(&client, URL).await.unwrap();
    }
    let requests = server.token_requests();
    assert!((5..=10).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_scope_that_was_requested_already_is_not_requested_again() {
    let server = new_server().build();
    let world = World::default();
    world.server("as.test", &server);
    let api = server.clone();
    world.host("api.test", move |request| match request.uri().path() {
        AT_PATH => json_answer(&metadata_of_api(&[ISSUER])),
        _ if accepts(&api, request.headers()) => {
            challenge(403, "Bearer error=\"insufficient_scope\", scope=\"admin\"")
        }
        _ => challenge(401, "Bearer scope=\"admin\""),
    });
    let user = User::of(&[&server]);
    let client = world.client(world.layer_with_sign_in(&user));
    for _ in 0..5 {
        assert_eq!(call(&client, URL).await.unwrap(), 403);
    }
    assert_eq!(user.signed_in(), 1);
}

#[tokio::test]
async fn a_scope_that_is_not_allowed_is_not_requested() {
    let server = new_server().build();
    let world = World::default();
    world.server("as.test", &server);
    api_with(&world, &server, |_| {
        challenge(403, "Bearer error=\"insufficient_scope\", scope=\"admin\"")
    });
    let identity = secret().allowed_scope("read");
    let client = world.client(world.layer().issuer(ISSUER, identity));
    assert_eq!(call(&client, URL).await.unwrap(), 403);
    assert!(!world.text_for("as.test").contains("admin"));
}

#[tokio::test(start_paused = true)]
async fn a_401_forever_costs_one_sign_in() {
    let clock = ManualClock::new();
    let server = new_server().clock(clock.clone()).build();
    let world = World::default();
    world.server("as.test", &server);
    hostile_api(
        &world,
        metadata_of_api(&[ISSUER]),
        "Bearer error=\"invalid_token\"",
    );
    let user = User::of(&[&server]);
    let layer = world.layer_with_sign_in(&user).clock(clock.clone());
    let client = world.client(layer);
    for _ in 0..20 {
        let error = refused(&client, URL).await;
        assert_eq!(error.kind(), Kind::SignIn, "{error}");
    }
    assert!((1..=2).contains(&user.signed_in()), "{}", user.signed_in());
    for _ in 0..600 {
        clock.advance(Duration::from_secs(1));
        refused(&client, URL).await;
    }
    assert!(user.signed_in() <= 10, "{}", user.signed_in());
    // No token is sent again after it was refused.
    let sent = world.seen_at("/mcp");
    let mut sent: Vec<_> = sent
        .iter()
        .filter_map(|it| token_of(it.headers()))
        .collect();
    let all = sent.len();
    assert!(all > 0);
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), all);
}

#[tokio::test(start_paused = true)]
async fn a_401_forever_does_not_use_up_the_tokens_of_a_machine() {
    let clock = ManualClock::new();
    let server = new_server().clock(clock.clone()).build();
    let world = World::default();
    world.server("as.test", &server);
    hostile_api(&world, metadata_of_api(&[ISSUER]), "Bearer");
    let layer = world.layer().issuer(ISSUER, secret()).clock(clock.clone());
    let client = world.client(layer);
    for _ in 0..100 {
        assert_eq!(call(&client, URL).await.unwrap(), 401);
    }
    assert!(
        (1..=5).contains(&server.token_requests()),
        "{}",
        server.token_requests()
    );
    assert!(
        (1..=4).contains(&world.seen_at(AT_PATH).len()),
        "{}",
        world.seen_at(AT_PATH).len()
    );
}

#[tokio::test]
async fn an_answer_of_the_server_that_is_odd_is_an_error_that_carries_the_challenge() {
    for (status, body) in [
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"access_token":1,"token_type":"Bearer"}"#),
        (
            200,
            r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#,
        ),
        (200, r#"{"access_token":"T","token_type":"mac"}"#),
        (400, r#"{"error":"invalid_target"}"#),
        (500, ""),
        (302, ""),
    ] {
        let world = World::default();
        hostile_api(&world, metadata_of_api(&[EVIL]), "Bearer realm=\"mine\"");
        evil_server(
            &world,
            "evil.test",
            json!({ "token_endpoint": "https://token.test/" }),
        );
        world.host("token.test", move |_| {
            let response = Response::builder()
                .status(status)
                .header("location", "https://bank.test/");
            response.body(Bytes::from(body)).unwrap()
        });
        let client = world.client(world.layer().issuer(EVIL, secret()));
        let error = refused(&client, URL).await;
        assert_eq!(error.kind(), Kind::Token, "{status} {body}: {error}");
        assert!(TokenError::find_in_chain(&error).is_some());
        assert_eq!(error.challenges()[0].parameter("realm"), Some("mine"));
        assert!(world.seen("bank.test").is_empty());
    }
}

#[tokio::test]
async fn hostile_challenges_are_no_demand_or_an_error() {
    let huge = format!("Bearer scope=\"{}\"", "x ".repeat(9000));
    for (demand, expected) in [
        ("Basic realm=\"Bearer\"", Some(401)),
        ("", Some(401)),
        ("Bearer", Some(200)),
        ("Bearer scope=\"a\\\"b\"", Some(200)),
        ("Bearer scope=\"offline_access\"", Some(200)),
        ("Negotiate, Bearer scope='a'", Some(200)),
        (&*huge, Some(401)),
    ] {
        let server = new_server().build();
        let world = World::default();
        world.server("as.test", &server);
        let demand: &'static str = Box::leak(demand.to_owned().into_boxed_str());
        add_api(&world, &server, metadata_of_api(&[ISSUER]), demand);
        let client = world.client(world.layer().issuer(ISSUER, secret()));
        let status = call(&client, URL).await.unwrap();
        assert!(
            expected.is_none_or(|expected| expected == status),
            "{demand}: {status}"
        );
        let scopes = world.seen_at("/token");
        let scopes: Vec<_> = scopes
            .iter()
            .flat_map(|it| field(it.body(), "scope"))
            .collect();
        assert!(scopes.is_empty() || scopes == ["a"], "{demand}: {scopes:?}");
    }
}

#[tokio::test]
async fn a_server_for_which_the_user_returns_no_identity_sees_only_a_request_for_metadata() {
    let world = World::default();
    hostile_api(&world, metadata_of_api(&[EVIL]), "Bearer");
    evil_server(&world, "evil.test", json!({}));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = asked.clone();
    let client = world.client(world.layer().identity_for(move |server| {
        note.lock().unwrap().push(server.issuer().to_owned());
        None
    }));
    let error = refused(&client, URL).await;
    assert_eq!(error.kind(), Kind::IssuerNotAllowed);
    assert_eq!(*asked.lock().unwrap(), [EVIL]);
    let seen = world.seen("evil.test");
    assert_eq!(seen.len(), 1);
    assert!(seen[0].uri().path().starts_with("/.well-known/"));
}
