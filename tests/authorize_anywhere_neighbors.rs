//! Several APIs behind one origin, some of them hostile, and what `AuthorizeAnywhereLayer` gives to each of them.
#![cfg(all(feature = "authorization-code", feature = "test-util"))]

mod anywhere_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tower_oauth2_client::{
    BoxError,
    authorization_code::AuthorizationResponse,
    authorize_anywhere::{AuthorizationUrl, SignIn},
    test_util::{AuthorizationServer, ManualClock},
};

use self::anywhere_support::*;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// An origin with an API at its root, and another one at `/mcp` that wants tokens of its own.
fn root_and_neighbor(world: &World, server: &AuthorizationServer, accepts_at_root: bool) {
    let (api, log) = (server.clone(), world.clone());
    world.host("api.test", move |request| {
        let path = request.uri().path();
        if let Some(below) = path.strip_prefix(WELL_KNOWN) {
            return match below {
                "" | "/mcp" => json_answer(&json!({
                    "resource": format!("https://api.test{below}"),
                    "authorization_servers": [ISSUER],
                })),
                _ => not_found(),
            };
        }
        let resource = match path {
            "/mcp" => "https://api.test/mcp",
            _ => "https://api.test",
        };
        // The token requests and the tokens of this server have the same order.
        let requests = log.seen_at("/token");
        let is_for_it = requests
            .last()
            .is_some_and(|it| field(it.body(), "resource") == [resource]);
        let may_accept = accepts_at_root || path == "/mcp";
        match may_accept && accepts(&api, request.headers()) && is_for_it {
            true => Response::new(Bytes::from_static(b"ok")),
            false => challenge(
                401,
                &format!(
                    "Bearer error=\"invalid_token\", scope=\"{}\", resource_metadata=\"https://api.test{WELL_KNOWN}{}\"",
                    if path == "/mcp" { "tools" } else { "read" },
                    if path == "/mcp" { "/mcp" } else { "" },
                ),
            ),
        }
    });
}

#[tokio::test]
async fn an_api_below_another_one_gets_a_token_of_its_own() {
    for is_accepted in [true, false] {
        for signs_in in [true, false] {
            let server = new_server().build();
            let world = World::default();
            world.server("as.test", &server);
            root_and_neighbor(&world, &server, is_accepted);
            let user = User::of(&[&server]);
            let identity = match signs_in {
                true => secret().sign_in(user.sign_in()),
                false => secret(),
            };
            let client = world.client(world.layer().issuer(ISSUER, identity));
            let at_root = call(&client, "https://api.test/").await;
            assert_eq!(at_root.is_ok_and(|status| status == 200), is_accepted);
            let status = call(&client, URL).await;
            assert_eq!(status.unwrap(), 200, "signs in: {signs_in}");
            let token_requests = world.seen_at("/token");
            let last = token_requests.last().unwrap();
            assert_eq!(field(last.body(), "resource"), [URL]);
            // The scope of one API is nothing to another.
            if !signs_in {
                assert_eq!(field(last.body(), "scope"), ["tools"]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_changes_its_name_gets_no_more_authorizations() {
    for names in [
        &[
            "https://api.test/a/b",
            "https://API.test/a/b",
            "https://aPi.test/a/b",
            "https://apI.test/a/b",
            "https://api.test:443/a/b",
        ][..],
        &["https://api.test/a/b", "https://api.test/a/b/"],
        &[
            "https://api.test",
            "https://api.test/a",
            "https://api.test/a/b",
        ],
    ] {
        let clock = ManualClock::new();
        let server = new_server().clock(clock.clone()).build();
        let world = World::default();
        world.server("as.test", &server);
        let (api, named, demanded) = (server.clone(), AtomicUsize::new(0), AtomicUsize::new(0));
        let own = names.to_vec();
        world.host("api.test", move |request| {
            if request.uri().path().starts_with(WELL_KNOWN) {
                let number = named.fetch_add(1, Ordering::SeqCst);
                return json_answer(&json!({
                    "resource": own[number % own.len()],
                    "authorization_servers": [ISSUER],
                }));
            }
            let number = demanded.fetch_add(1, Ordering::SeqCst);
            let metadata = format!("resource_metadata=\"https://api.test{WELL_KNOWN}\"");
            match accepts(&api, request.headers()) {
                true => challenge(
                    403,
                    &format!(
                        "Bearer error=\"insufficient_scope\", scope=\"s{number}\", {metadata}"
                    ),
                ),
                false => challenge(401, &format!("Bearer {metadata}")),
            }
        });
        let user = User::of(&[&server]);
        let layer = world.layer_with_sign_in(&user).clock(clock.clone());
        let client = world.client(layer);
        for _ in 0..600 {
            clock.advance(Duration::from_secs(1));
            drop(call(&client, "https://api.test/a/b").await);
        }
        assert!(
            (1..=10).contains(&user.signed_in()),
            "{names:?}: {}",
            user.signed_in()
        );
    }
}

#[tokio::test]
async fn a_token_of_one_query_is_not_sent_to_another_at_the_same_time() {
    let server = new_server().build();
    let world = World::default();
    world.server("as.test", &server);
    world.host("api.test", move |request| match request.uri().path() {
        AT_PATH => json_answer(&json!({
            "resource": "https://api.test/mcp?tenant=a",
            "authorization_servers": [ISSUER],
        })),
        _ if request.headers().contains_key("authorization") => Response::new(Bytes::new()),
        _ => challenge(401, "Bearer"),
    });
    let client = world.client(world.layer().issuer(ISSUER, secret()));
    let (a, b) = futures_util::future::join(
        call(&client, "https://api.test/mcp?tenant=a"),
        call(&client, "https://api.test/mcp?tenant=b"),
    )
    .await;
    assert_eq!(a.unwrap(), 200);
    assert!(b.is_err());
    let sent = world.seen("api.test");
    let with_token = sent.iter().filter(|it| token_of(it.headers()).is_some());
    let queries: Vec<_> = with_token.map(|it| it.uri().query()).collect();
    assert_eq!(queries, [Some("tenant=a")]);
}

#[tokio::test]
async fn an_api_that_demands_no_allowed_scope_gets_only_the_allowed_one() {
    for demand in [
        "Bearer",
        "Bearer scope=\"admin\"",
        "Bearer scope=\"offline_access\"",
    ] {
        let server = new_server().build();
        let world = World::default();
        world.server("as.test", &server);
        add_api(&world, &server, metadata_of_api(&[ISSUER]), demand);
        let identity = secret().allowed_scope("read list");
        let client = world.client(world.layer().issuer(ISSUER, identity));
        assert_eq!(call(&client, URL).await.unwrap(), 200);
        // Without a scope, the server would choose one, such as everything.
        let sent = world.seen_at("/token");
        assert_eq!(field(sent[0].body(), "scope"), ["read list"], "{demand}");
    }
}

#[tokio::test(start_paused = true)]
async fn neighbors_do_not_use_up_the_authorizations_of_an_api() {
    // The neighbors say that they are the whole origin, and name a server that is allowed, or one that is not.
    for named in [ISSUER, "https://evil.test"] {
        let server = new_server().build();
        let world = World::default();
        world.server("as.test", &server);
        let api = server.clone();
        world.host("api.test", move |request| {
            let metadata = |resource: &str, issuer: &str| {
                json_answer(&json!({ "resource": resource, "authorization_servers": [issuer] }))
            };
            match request.uri().path() {
                AT_PATH => metadata(URL, ISSUER),
                "/evil/metadata" => metadata("https://api.test", named),
                "/mcp" if accepts(&api, request.headers()) => Response::new(Bytes::new()),
                "/mcp" => challenge(
                    401,
                    &format!("Bearer resource_metadata=\"https://api.test{AT_PATH}\""),
                ),
                _ => challenge(
                    401,
                    "Bearer resource_metadata=\"https://api.test/evil/metadata\"",
                ),
            }
        });
        let client = world.client(world.layer().issuer(ISSUER, secret()));
        for number in 0..10 {
            drop(call(&client, &format!("https://api.test/evil/{number}")).await);
        }
        assert!(!world.seen_at("/evil/metadata").is_empty());
        assert_eq!(
            world.seen_at("/token").is_empty(),
            named != ISSUER,
            "{named}"
        );
        assert_eq!(call(&client, URL).await.unwrap(), 200, "{named}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_urls_of_a_resource_share_one_authorization() {
    for agrees in [true, false] {
        let server = new_server().build();
        let world = World::default();
        world.server("as.test", &server);
        let api = server.clone();
        world.host("api.test", move |request| match request.uri().path() {
            WELL_KNOWN => json_answer(&json!({
                "resource": "https://api.test",
                "authorization_servers": [ISSUER],
            })),
            path if path.starts_with("/.well-known/") => not_found(),
            _ if accepts(&api, request.headers()) => Response::new(Bytes::new()),
            _ => challenge(401, "Bearer"),
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, user) = (asked.clone(), server.clone());
        let sign_in = SignIn::new(
            "http://127.0.0.1:7777/callback",
            move |url: AuthorizationUrl| {
                count.fetch_add(1, Ordering::SeqCst);
                let returned_to = user.authorize(url.as_str()).filter(|_| agrees);
                async move {
                    let returned_to = returned_to.ok_or("the user has closed the window")?;
                    Ok::<_, BoxError>(AuthorizationResponse::from_uri(returned_to))
                }
            },
        );
        let client = world.client(world.layer().issuer(ISSUER, secret().sign_in(sign_in)));
        let urls: Vec<_> = (0..100)
            .map(|n| format!("https://api.test/{n}?q={n}"))
            .collect();
        for _ in 0..2 {
            let calls = urls.iter().map(|url| call(&client, url));
            for outcome in futures_util::future::join_all(calls).await {
                assert_eq!(outcome.is_ok_and(|status| status == 200), agrees);
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
