//! `AuthorizeAnywhereLayer`: gets in wherever an API says how, as the identity that the user allows.
#![cfg(all(feature = "authorization-code", feature = "test-util"))]

mod anywhere_support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::json;
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, ClientMetadata, Credential, DpopKey, RegistrationResponse,
    add_access_token::NoResend,
    authorization_code::AuthorizationResponse,
    authorize_anywhere::{
        AuthorizationUrl, Identity, IdentityProvider, NotAuthorizedKind as Kind, SignIn,
    },
    test_util::{AuthorizationServer, Failure, ManualClock},
};

use self::anywhere_support::*;

/// A world with an API whose tokens come from a server with one client.
fn simple_world() -> (World, AuthorizationServer) {
    let (world, server) = (World::default(), new_server().build());
    world.server("as.test", &server);
    add_api(
        &world,
        &server,
        metadata_of_api(&[ISSUER]),
        "Bearer scope=\"read\"",
    );
    (world, server)
}

#[tokio::test]
async fn the_first_request_authorizes_and_later_ones_use_its_token() {
    let (world, server) = simple_world();
    let client = world.client(world.layer().issuer(ISSUER, secret()));
    for _ in 0..3 {
        assert_eq!(call(&client, URL).await.unwrap(), 200);
    }
    assert_eq!(
        call(&client, "https://api.test/mcp/sub?query=1")
            .await
            .unwrap(),
        200
    );

    assert_eq!(server.token_requests(), 1);
    let request = &server.requests()[1];
    assert_eq!(request.get("grant_type"), Some("client_credentials"));
    assert_eq!(request.get("scope"), Some("read"));
    assert_eq!(request.get_all("resource").collect::<Vec<_>>(), [URL]);
    // The body was resent, and only the first request went without a token.
    let calls = world.seen("api.test");
    let calls = calls
        .iter()
        .filter(|it| it.uri().path().starts_with("/mcp"));
    let tokens: Vec<_> = calls
        .map(|it| (token_of(it.headers()), it.body().clone()))
        .collect();
    assert!(tokens[0].0.is_none() && tokens[1..].iter().all(|(token, _)| token.is_some()));
    assert!(tokens.iter().all(|(_, body)| body == "hello"));
    assert_eq!(world.seen_at(AT_PATH).len(), 1);
}

#[tokio::test]
async fn nothing_is_allowed_by_default() {
    let (world, _) = simple_world();
    let client = world.client(world.layer());
    let error = refused(&client, URL).await;
    assert_eq!(error.kind(), Kind::IssuerNotAllowed);
    assert!(error.to_string().contains("`https://as.test`"), "{error}");
    assert_eq!(error.challenges()[0].scheme(), "Bearer");
    assert_eq!(world.hosts(), ["api.test"]);
}

#[tokio::test]
async fn the_user_decides_about_each_server() {
    let (world, _) = simple_world();
    for allows in [true, false] {
        let layer = world.layer().identity_for(move |server| {
            assert_eq!((server.issuer(), server.resource()), (ISSUER, Some(URL)));
            assert!(server.metadata().unwrap().token_endpoint().is_some());
            allows.then(secret)
        });
        let status = call(&world.client(layer), URL).await;
        assert_eq!(status.is_ok(), allows);
    }
    assert_eq!(world.seen_at("/token").len(), 1);
}

#[tokio::test]
async fn a_token_goes_only_to_its_resource() {
    let (world, _) = simple_world();
    world.host("other.test", |_| Response::new(Bytes::new()));
    let client = world.client(world.layer().issuer(ISSUER, secret()));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    for url in [
        "https://other.test/mcp",
        "https://api.test:8443/mcp",
        "https://api.test/mcpx",
        "https://api.test/MCP",
        "https://api.test/",
        "https://api.test/mcp/../x",
        "https://api.test/mcp/%2e%2e/x",
        "https://api.test/mcp/..;/x",
        "https://api.test/mcp/.%2e%3Bv=1/x",
        "https://api.test/mcp/%252e%252e/x",
        "https://api.test/mcp/..%25252Fx",
        "http://api.test/mcp",
    ] {
        let _ = call(&client, url).await;
        let sent = world.seen(if url.contains("other") {
            "other.test"
        } else {
            "api.test"
        });
        let sent = sent.iter().filter(|it| it.uri() == url).collect::<Vec<_>>();
        assert!(!sent.is_empty(), "{url}");
        assert!(
            sent.iter().all(|it| token_of(it.headers()).is_none()),
            "{url}"
        );
    }
}

#[tokio::test]
async fn requests_that_name_their_own_token_are_left_alone() {
    let (world, _) = simple_world();
    let client = world.client(world.layer().issuer(ISSUER, secret()));
    let own = Request::get(URL)
        .header("authorization", "Bearer own")
        .body(Full::default());
    let none = Request::get(URL)
        .extension(tower_oauth2_client::NoAccessToken)
        .body(Full::default());
    for request in [own, none] {
        let response = client.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 401);
    }
    assert_eq!(world.hosts(), ["api.test"]);
}

#[tokio::test(start_paused = true)]
async fn a_user_signs_in_and_the_token_is_refreshed_for_the_same_resource() {
    let clock = ManualClock::new();
    let server = new_server().clock(clock.clone()).build();
    let world = World::default();
    world.server("as.test", &server);
    add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
    let user = User::of(&[&server]);
    let layer = world.layer_with_sign_in(&user).clock(clock.clone());
    let client = world.client(layer);

    assert_eq!(call(&client, URL).await.unwrap(), 200);
    assert_eq!(field(world.seen_at("/par")[0].body(), "resource"), [URL]);
    assert_eq!(
        field(world.seen_at("/par")[0].body(), "code_challenge_method"),
        ["S256"]
    );
    clock.advance(Duration::from_secs(3601));
    assert_eq!(call(&client, URL).await.unwrap(), 200);

    assert_eq!(user.signed_in(), 1);
    let requests = world.seen_at("/token");
    let grants: Vec<_> = requests
        .iter()
        .flat_map(|it| field(it.body(), "grant_type"))
        .collect();
    assert_eq!(grants, ["authorization_code", "refresh_token"]);
    for request in requests {
        assert_eq!(field(request.body(), "resource"), [URL]);
    }
}

#[tokio::test]
async fn the_resource_indicator_is_the_text_of_the_api() {
    let server = new_server().build();
    let world = World::default();
    world.server("as.test", &server);
    // A `Uri` would print a slash at the end.
    let metadata = json!({ "resource": "https://API.test", "authorization_servers": [ISSUER] });
    add_api(&world, &server, metadata, "Bearer");
    let user = User::of(&[&server]);
    let client = world.client(world.layer_with_sign_in(&user));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    assert_eq!(
        field(world.seen_at("/par")[0].body(), "resource"),
        ["https://API.test"]
    );
    assert_eq!(
        field(world.seen_at("/token")[0].body(), "resource"),
        ["https://API.test"]
    );
}

/// A server that registers the public client `registered`, and says nothing about its method, but returns a secret.
fn registering(world: &World) -> AuthorizationServer {
    let server = new_server()
        .public_client("registered")
        .metadata_field("registration_endpoint", "https://as.test/register")
        .metadata_field("token_endpoint_auth_methods_supported", json!(["none"]))
        .build();
    world.server_with("as.test", &server, |request| {
        let answer = json!({ "client_id": "registered", "client_secret": "UNWANTED" });
        (request.uri().path() == "/register").then(|| {
            let mut response = json_answer(&answer);
            *response.status_mut() = http::StatusCode::CREATED;
            response
        })
    });
    server
}

#[tokio::test]
async fn a_client_is_registered_once_for_each_server() {
    let world = World::default();
    let server = registering(&world);
    let wide = Arc::new(AtomicBool::new(false));
    let (api, is_wide) = (server.clone(), wide.clone());
    world.host("api.test", move |request| match request.uri().path() {
        AT_PATH => json_answer(&metadata_of_api(&[ISSUER])),
        _ if !accepts(&api, request.headers()) => challenge(401, "Bearer scope=\"a\""),
        _ if is_wide.swap(false, Ordering::SeqCst) => {
            challenge(403, "Bearer error=\"insufficient_scope\", scope=\"b\"")
        }
        _ => Response::new(Bytes::new()),
    });
    let user = User::of(&[&server]);
    let identity = Identity::new()
        .register(ClientMetadata::new().client_name("me"))
        .sign_in(user.sign_in());
    let stored = Arc::new(Mutex::new(Vec::new()));
    let store = stored.clone();
    let layer = world
        .layer()
        .identity_for(move |_| Some(identity.clone()))
        .on_registration(move |issuer, client: &RegistrationResponse| {
            let client_id = client.client_id().to_owned();
            store.lock().unwrap().push((issuer.to_owned(), client_id));
        });
    let client = world.client(layer);
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    wide.store(true, Ordering::SeqCst);
    assert_eq!(call(&client, URL).await.unwrap(), 200);

    assert_eq!(user.signed_in(), 2);
    assert_eq!(
        *stored.lock().unwrap(),
        [(ISSUER.to_owned(), "registered".to_owned())]
    );
    let sent = world.seen_at("/register");
    assert_eq!(sent.len(), 1);
    let sent: serde_json::Value = serde_json::from_slice(sent[0].body()).unwrap();
    assert_eq!(
        sent,
        json!({
            "client_name": "me",
            "redirect_uris": ["http://127.0.0.1:7777/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
        })
    );
    // The server lists only `none`, so the secret is not sent.
    assert!(!world.text_for("as.test").contains("UNWANTED"));
}

#[tokio::test]
async fn a_registration_that_the_server_has_forgotten_is_made_again() {
    let world = World::default();
    let server = registering(&world);
    add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
    let user = User::of(&[&server]);
    let me = Identity::new()
        .register(ClientMetadata::new())
        .sign_in(user.sign_in());
    let clock = ManualClock::new();
    let client = world.client(world.layer().issuer(ISSUER, me).clock(clock.clone()));
    server.fail_next(
        Failure::oauth("invalid_client")
            .with_status(401)
            .at("/token"),
    );
    let error = refused(&client, URL).await;
    assert_eq!(error.kind(), Kind::Token, "{error}");
    clock.advance(Duration::from_secs(10));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    assert_eq!(world.seen_at("/register").len(), 2);
}

#[tokio::test]
async fn a_metadata_document_comes_before_a_registration() {
    const DOCUMENT: &str = "https://cli.example/client.json";
    for supported in [true, false] {
        let server = new_server()
            .public_client(DOCUMENT)
            .public_client("registered")
            .metadata_field("client_id_metadata_document_supported", supported)
            .metadata_field("registration_endpoint", "https://as.test/register")
            .build();
        let world = World::default();
        world.server_with("as.test", &server, |request| {
            let answer = json!({ "client_id": "registered" });
            (request.uri().path() == "/register").then(|| json_answer(&answer))
        });
        add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
        let user = User::of(&[&server]);
        let identity = Identity::new()
            .client_id_metadata_document(ClientAuthentication::none(DOCUMENT))
            .register(ClientMetadata::new())
            .sign_in(user.sign_in());
        let client = world.client(world.layer().issuer(ISSUER, identity));
        assert_eq!(call(&client, URL).await.unwrap(), 200);
        let expected = if supported { DOCUMENT } else { "registered" };
        assert_eq!(
            field(world.seen_at("/par")[0].body(), "client_id"),
            [expected]
        );
        assert_eq!(world.seen_at("/register").len(), usize::from(!supported));
    }
}

#[tokio::test]
async fn only_methods_and_grants_that_the_metadata_list_are_used() {
    let post = json!(["client_secret_post"]);
    for (methods, grants, expected) in [
        (
            json!(["client_secret_basic"]),
            json!(["client_credentials"]),
            Ok("basic"),
        ),
        (post.clone(), json!(["client_credentials"]), Ok("post")),
        (
            json!(["private_key_jwt"]),
            json!(["client_credentials"]),
            Err("no client of the identity"),
        ),
        (
            json!([]),
            json!(["client_credentials"]),
            Err("no client of the identity"),
        ),
        (
            post,
            json!(["authorization_code"]),
            Err("no grant of the identity"),
        ),
    ] {
        let server = new_server()
            .metadata_field("token_endpoint_auth_methods_supported", methods.clone())
            .metadata_field("grant_types_supported", grants.clone())
            .build();
        let world = World::default();
        world.server("as.test", &server);
        add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
        let client = world.client(world.layer().issuer(ISSUER, secret()));
        match expected {
            Ok(method) => {
                assert_eq!(call(&client, URL).await.unwrap(), 200);
                let request = &world.seen_at("/token")[0];
                let is_basic = request.headers().contains_key("authorization");
                assert_eq!(is_basic, method == "basic", "{methods}");
                assert_eq!(field(request.body(), "client_secret").is_empty(), is_basic);
            }
            Err(expected) => {
                let error = refused(&client, URL).await;
                assert_eq!(error.kind(), Kind::Unsupported);
                assert!(error.to_string().contains(expected), "{error}");
                assert_eq!(server.token_requests(), 0);
                assert!(!world.text_for("as.test").contains("secret"));
            }
        }
    }
}

#[tokio::test]
async fn basic_is_form_encoded() {
    let server = AuthorizationServer::builder()
        .issuer(ISSUER)
        .client("a:b c", "%+&é")
        .build();
    let world = World::default();
    world.server("as.test", &server);
    add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
    let identity = Identity::new().client_secret("a:b c", "%+&é");
    let client = world.client(world.layer().issuer(ISSUER, identity));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    let value = token_of(world.seen_at("/token")[0].headers()).unwrap();
    let value = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, value).unwrap();
    assert_eq!(value, b"a%3Ab+c:%25%2B%26%C3%A9");
}

#[tokio::test]
async fn a_workload_presents_its_assertion_and_nothing_else() {
    let server = new_server().jwt_bearer_assertion("JWT").build();
    let world = World::default();
    world.server("as.test", &server);
    add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
    let identity = secret().jwt_bearer("JWT");
    let client = world.client(world.layer().issuer(ISSUER, identity));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    let request = &world.seen_at("/token")[0];
    assert_eq!(field(request.body(), "assertion"), ["JWT"]);
    assert_eq!(field(request.body(), "resource"), [URL]);
}

#[tokio::test]
async fn an_id_token_is_exchanged_for_each_token_and_seen_by_its_provider_only() {
    const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
    for issued in [ID_JAG, "urn:ietf:params:oauth:token-type:access_token"] {
        let builder = new_server()
            .jwt_bearer_assertion("JAG1")
            .jwt_bearer_assertion("JAG2");
        let (world, server) = (World::default(), builder.build());
        world.server("as.test", &server);
        add_api(
            &world,
            &server,
            metadata_of_api(&[ISSUER]),
            "Bearer scope=\"a\"",
        );
        let exchanged = AtomicUsize::new(0);
        world.host("idp.test", move |request| match request.uri().path() {
            "/token" => {
                let number = exchanged.fetch_add(1, Ordering::SeqCst) + 1;
                let token = format!("JAG{number}");
                json_answer(&json!({ "access_token": token, "token_type": "N_A", "issued_token_type": issued }))
            }
            "/.well-known/openid-configuration" => json_answer(&json!({
                "issuer": "https://idp.test", "token_endpoint": "https://idp.test/token",
            })),
            _ => not_found(),
        });
        let me = ClientAuthentication::none("at-idp");
        let provider = IdentityProvider::new("https://idp.test", me, Credential::fixed("ID-TOKEN"));
        let client = world.client(
            world
                .layer()
                .issuer(ISSUER, secret().identity_assertion(provider)),
        );
        if issued != ID_JAG {
            let error = refused(&client, URL).await;
            assert_eq!(error.kind(), Kind::Token);
            assert!(!world.text_for("as.test").contains("JAG"));
            continue;
        }
        assert_eq!(call(&client, URL).await.unwrap(), 200);
        server.revoke_all();
        assert_eq!(call(&client, URL).await.unwrap(), 200);

        let [first, second] = &world
            .seen("idp.test")
            .into_iter()
            .filter(|it| it.uri().path() == "/token")
            .collect::<Vec<_>>()[..]
        else {
            panic!("not exchanged for each token");
        };
        for exchange in [first, second] {
            let get = |name| field(exchange.body(), name);
            assert_eq!(get("subject_token"), ["ID-TOKEN"]);
            assert_eq!(get("requested_token_type"), [ID_JAG]);
            assert_eq!(get("audience"), [ISSUER]);
            assert_eq!(get("resource"), [URL]);
            assert_eq!(get("scope"), ["a"]);
            assert_eq!(get("client_id"), ["at-idp"]);
        }
        let tokens = world.seen("as.test");
        let tokens: Vec<_> = tokens
            .iter()
            .flat_map(|it| field(it.body(), "assertion"))
            .collect();
        assert_eq!(tokens, ["JAG1", "JAG2"]);
        assert!(!world.text_for("as.test").contains("ID-TOKEN"));
        assert!(!world.text_for("api.test").contains("ID-TOKEN"));
        assert!(!world.text_for("idp.test").contains("secret"));
    }
}

#[tokio::test]
async fn many_requests_share_one_authorization() {
    let server = new_server().build();
    let world = World::default();
    world.server("as.test", &server);
    let demand =
        "Bearer resource_metadata=\"https://api.test/.well-known/oauth-protected-resource/mcp\"";
    add_api(&world, &server, metadata_of_api(&[ISSUER]), demand);
    let user = User::of(&[&server]);
    let client = world.client(world.layer_with_sign_in(&user));
    let calls = (0..50).map(|number| {
        let client = client.clone();
        // Two URLs of the same resource.
        let url = format!("{URL}{}", if number % 2 == 0 { "" } else { "/sub" });
        async move { call(&client, &url).await.unwrap() }
    });
    let statuses = futures_util::future::join_all(calls).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(user.signed_in(), 1);
    assert_eq!(server.token_requests(), 1);
    assert!(world.seen_at(AT_PATH).len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn dropped_caller_does_not_cancel_the_sign_in_of_others() {
    let server = new_server().build();
    let world = World::default();
    world.server("as.test", &server);
    add_api(&world, &server, metadata_of_api(&[ISSUER]), "Bearer");
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, user) = (asked.clone(), server.clone());
    let sign_in = SignIn::new(
        "http://127.0.0.1:7777/callback",
        move |url: AuthorizationUrl| {
            count.fetch_add(1, Ordering::SeqCst);
            let user = user.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(30)).await;
                let returned_to = user.authorize(url.as_str()).unwrap();
                Ok::<_, std::io::Error>(AuthorizationResponse::from_uri(returned_to))
            }
        },
    );
    let client = world.client(world.layer().issuer(ISSUER, secret().sign_in(sign_in)));
    let first = tokio::spawn({
        let client = client.clone();
        async move { call(&client, URL).await }
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    let second = tokio::spawn(async move { call(&client, URL).await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    first.abort();
    assert_eq!(second.await.unwrap().unwrap(), 200);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_wider_scope_is_the_union() {
    let server = new_server().build();
    let world = World::default();
    world.server("as.test", &server);
    let api = server.clone();
    world.host("api.test", move |request| {
        let token = token_of(request.headers()).filter(|token| api.is_active(token));
        let scope = token.map(|token| {
            api.introspect(&token)["scope"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        match (request.uri().path(), scope) {
            (AT_PATH, _) => json_answer(&metadata_of_api(&[ISSUER])),
            (_, None) => challenge(401, "Bearer scope=\"basic\""),
            ("/mcp/write", Some(scope)) if !scope.contains("write") => {
                challenge(403, "Bearer error=\"insufficient_scope\", scope=\"write\"")
            }
            _ => Response::new(Bytes::new()),
        }
    });
    let client = world.client(world.layer().issuer(ISSUER, secret()));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    assert_eq!(call(&client, &format!("{URL}/write")).await.unwrap(), 200);
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    let requests = world.seen_at("/token");
    let scopes: Vec<_> = requests
        .iter()
        .flat_map(|it| field(it.body(), "scope"))
        .collect();
    assert_eq!(scopes, ["basic", "basic write"]);
}

#[tokio::test]
async fn a_refused_token_is_dropped_and_never_sent_again() {
    let (world, server) = simple_world();
    let client = world.client(world.layer().issuer(ISSUER, secret()));
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    server.revoke_all();
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    assert_eq!(call(&client, URL).await.unwrap(), 200);
    let sent = world.seen_at("/mcp");
    let sent: Vec<_> = sent
        .iter()
        .filter_map(|it| token_of(it.headers()))
        .collect();
    // The first token was accepted, then refused once. The second one was used from then on.
    assert_eq!(sent.len(), 4);
    assert!(
        sent[0] == sent[1] && sent[1] != sent[2] && sent[2] == sent[3],
        "{sent:?}"
    );
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test]
async fn tokens_are_bound_where_the_api_demands_it_and_nonces_are_used() {
    for demand in ["DPoP algs=\"ES256\"", "Bearer"] {
        let server = new_server().build();
        server.demand_dpop_nonces(true);
        let world = World::default();
        world.server("as.test", &server);
        let api = server.clone();
        let is_bound = demand.starts_with("DPoP");
        world.host("api.test", move |request| match request.uri().path() {
            AT_PATH => json_answer(&metadata_of_api(&[ISSUER])),
            _ if token_of(request.headers()).is_none() => challenge(401, demand),
            _ if is_bound => match api.check_dpop(&request) {
                Ok(()) => Response::new(Bytes::new()),
                Err(response) => response.map(|_| Bytes::new()),
            },
            _ => status(if accepts(&api, request.headers()) {
                200
            } else {
                401
            }),
        });
        let identity = secret().dpop(DpopKey::generate().unwrap());
        let client = world.client(world.layer().issuer(ISSUER, identity));
        for _ in 0..2 {
            assert_eq!(call(&client, URL).await.unwrap(), 200);
        }
        // The first token request had no nonce. The API's nonce is another one.
        assert_eq!(server.token_requests(), if is_bound { 2 } else { 1 });

        let keyless = world.client(world.layer().issuer(ISSUER, secret()));
        match is_bound {
            true => {
                let error = refused(&keyless, URL).await;
                assert_eq!(error.kind(), Kind::Unsupported);
                assert!(error.to_string().contains("Identity::dpop"), "{error}");
            }
            false => assert_eq!(call(&keyless, URL).await.unwrap(), 200),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_sign_in_is_one_error() {
    let clock = ManualClock::new();
    for expires in [true, false] {
        let server = new_server()
            .clock(clock.clone())
            .issue_refresh_tokens(false)
            .build();
        let world = World::default();
        world.server("as.test", &server);
        add_api(
            &world,
            &server,
            metadata_of_api(&[ISSUER]),
            "Bearer realm=\"mine\"",
        );
        let user = User::of(&[&server]);
        let is_there = Arc::new(AtomicBool::new(true));
        let (presence, there) = (is_there.clone(), user.sign_in());
        let gone = SignIn::new("http://127.0.0.1:7777/callback", |_| async {
            Err(std::io::Error::other("nobody is there"))
        });
        let layer = world.layer().clock(clock.clone()).identity_for(move |_| {
            let sign_in = if presence.load(Ordering::SeqCst) {
                &there
            } else {
                &gone
            };
            Some(secret().sign_in(sign_in.clone()))
        });
        let client = world.client(layer);
        assert_eq!(call(&client, URL).await.unwrap(), 200);
        is_there.store(false, Ordering::SeqCst);
        // The token expires, or the API refuses it.
        match expires {
            true => clock.advance(Duration::from_secs(3601)),
            false => server.revoke_all(),
        }
        let mut last = String::new();
        for _ in 0..4 {
            let error = refused(&client, URL).await;
            assert_eq!(error.kind(), Kind::SignIn, "{error}");
            assert_eq!(error.challenges()[0].parameter("realm"), Some("mine"));
            assert!(
                last.is_empty() || error.to_string() == last,
                "{error} {last}"
            );
            last = error.to_string();
        }
        // When the user is back, one sign-in is enough.
        is_there.store(true, Ordering::SeqCst);
        clock.advance(Duration::from_secs(60));
        assert_eq!(call(&client, URL).await.unwrap(), 200);
        assert_eq!(user.signed_in(), 2);
    }
}

#[tokio::test]
async fn without_resending_the_next_request_has_the_token() {
    let (world, _) = simple_world();
    let client = world.client(world.layer().issuer(ISSUER, secret()).resend(NoResend));
    assert_eq!(call(&client, URL).await.unwrap(), 401);
    assert_eq!(call(&client, URL).await.unwrap(), 200);
}

#[tokio::test]
async fn default_endpoints_must_be_allowed_and_need_an_api_that_never_had_metadata() {
    let user = Arc::new(Mutex::new(Vec::<String>::new()));
    let sign_in = {
        let user = user.clone();
        SignIn::new(
            "http://127.0.0.1:7777/callback",
            move |url: AuthorizationUrl| {
                user.lock().unwrap().push(url.as_str().to_owned());
                let state = field(url.as_str().split_once('?').unwrap().1, "state").remove(0);
                async move {
                    let query = format!("code=CODE&state={state}");
                    Ok::<_, std::io::Error>(AuthorizationResponse::from_query(&query))
                }
            },
        )
    };
    let me = Identity::new()
        .client(ClientAuthentication::none("me"))
        .sign_in(sign_in);
    for (is_allowed, has_metadata, challenge_text, expected) in [
        (true, false, "Bearer", true),
        (false, false, "Bearer", false),
        (true, true, "Bearer", false),
        (
            true,
            false,
            "Bearer resource_metadata=\"https://api.test/gone\"",
            false,
        ),
    ] {
        user.lock().unwrap().clear();
        let world = World::default();
        let metadata_left = AtomicBool::new(has_metadata);
        world.host("api.test", move |request| match request.uri().path() {
            AT_PATH if metadata_left.swap(false, Ordering::SeqCst) => {
                json_answer(&metadata_of_api(&["https://gone.test"]))
            }
            "/token" => json_answer(&json!({ "access_token": "T", "token_type": "Bearer" })),
            "/mcp" | "/mcp/2" if token_of(request.headers()).is_some() => {
                Response::new(Bytes::new())
            }
            "/mcp" | "/mcp/2" => challenge(401, challenge_text),
            _ => not_found(),
        });
        let layer = world.layer().issuer("https://api.test", me.clone());
        let layer = if is_allowed {
            layer.use_default_endpoints()
        } else {
            layer
        };
        let client = world.client(layer);
        if has_metadata {
            refused(&client, URL).await;
        }
        let status = call(&client, "https://api.test/mcp/2").await;
        assert_eq!(
            status.is_ok(),
            expected,
            "{is_allowed} {has_metadata} {challenge_text}"
        );
        assert_eq!(world.seen_at("/token").len(), usize::from(expected));
        let user = user.lock().unwrap();
        assert_eq!(user.len(), usize::from(expected));
        assert!(
            user.iter()
                .all(|url| url.starts_with("https://api.test/authorize?"))
        );
    }
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let (world, _) = simple_world();
    let identity = Identity::new()
        .client_secret("client", "SENTINEL")
        .jwt_bearer("SENTINEL");
    let layer = world.layer().issuer(ISSUER, identity);
    let client = world.client(layer.clone());
    let error = refused(&client, URL).await;
    let shown = format!("{layer:?} {client:?} {error:?} {error} {error:#}");
    assert!(!shown.contains("SENTINEL"), "{shown}");
}
