//! What a source gives beside the text of a token: its expiry, its scope, and the members that the cache keeps.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::advance;
use tower::service_fn;
use tower_oauth2_client::{
    AccessToken, BoxError, Credential, IssuedToken, RefreshToken, Scope, TokenCache, TokenEndpoint,
    TokenRequest, TokenResponse, TokenSource, TokenType,
    test_util::{AuthorizationServer, ManualClock},
    token_cache::{Invalidation, TokenCacheBuilder},
};

use self::cache_support::{Endpoint, Fixture, at_once, bearer, client, now, request, secs};

/// Returns the source of a request over an endpoint that answers with `answer`, given the number of the request.
fn source_over(
    request: TokenRequest,
    configure: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
    answer: impl Fn(usize) -> TokenResponse + Send + Sync + 'static,
) -> TokenSource {
    let endpoint = Endpoint::new(move |call| {
        let response = answer(call);
        async { Ok(response) }
    });
    let clock = ManualClock::new().clock();
    configure(TokenCache::builder(endpoint).clock(clock))
        .build()
        .source(request)
}

fn token(call: usize) -> AccessToken {
    bearer(format!("token-{call}"))
}

/// Returns a source over a real endpoint whose HTTP server answers each request with one of these bodies, the last one repeatedly.
fn source_of_bodies(
    request: TokenRequest,
    configure: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
    bodies: impl IntoIterator<Item = impl Into<Bytes>>,
) -> TokenSource {
    let bodies: Vec<Bytes> = bodies.into_iter().map(Into::into).collect();
    let calls = Arc::new(AtomicUsize::new(0));
    let http = service_fn(move |_: http::Request<Full<Bytes>>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let body = bodies[call.min(bodies.len() - 1)].clone();
        async { Ok::<_, BoxError>(Response::new(Full::new(body))) }
    });
    let endpoint = TokenEndpoint::new(http, "https://as.test/token", client());
    configure(TokenCache::builder(endpoint))
        .build()
        .source(request)
}

mod expiry {
    use super::*;

    fn since_1970(time: SystemTime) -> Duration {
        time.duration_since(UNIX_EPOCH).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn expiry_is_that_of_the_server_and_not_the_early_end_of_the_cache() {
        let (fixture, source) = Fixture::with_source();
        let begun = now();
        let token = source.token().await.unwrap();
        let (wall, instant) = (token.expires_at(), token.expires_at_instant());
        for (passed, remaining, is_usable) in [
            (0, 100, true),
            (60, 40, true),
            (36, 4, false),
            (5, 0, false),
            (1000, 0, false),
        ] {
            advance(secs(passed)).await;
            assert_eq!(token.expires_in(), Some(secs(remaining)));
            assert_eq!(source.peek().is_some(), is_usable, "{remaining}");
        }
        assert_eq!(instant, Some((begun + secs(100)).into_std()));
        assert_eq!(
            (wall, instant),
            (token.expires_at(), token.expires_at_instant())
        );
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn expiry_looks_at_both_clocks() {
        let (fixture, _, token) = Fixture::with_token().await;
        let (wall, instant) = (token.expires_at(), token.expires_at_instant());
        // The monotonic clock stands still.
        fixture.clock.suspend(secs(30));
        assert_eq!(token.expires_in(), Some(secs(70)));
        assert_eq!(token.expires_at(), wall);
        assert_eq!(token.expires_at_instant(), instant);
        fixture.clock.advance(secs(20));
        assert_eq!(token.expires_in(), Some(secs(50)));
    }

    /// Otherwise a Kafka client would use the token for an hour too long.
    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_back_makes_no_token_live_longer() {
        let (fixture, source, token) = Fixture::with_token().await;
        let (wall, instant) = (token.expires_at().unwrap(), token.expires_at_instant());
        fixture.clock.set_wall_back(secs(3600));
        for passed in [0, 30, 65, 50, 3600] {
            advance(secs(passed)).await;
            assert_eq!(token.expires_at(), Some(wall - secs(3600)), "{passed}");
        }
        assert_eq!(token.expires_in(), Some(secs(0)));
        assert_eq!(token.expires_at_instant(), instant);
        // A token that is fetched afterwards counts by the new time.
        let token = source.token().await.unwrap();
        let left = token.expires_at().unwrap();
        assert_eq!(left, wall + secs(30 + 65 + 50 + 3600) - secs(3600));
    }

    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "the rule is for `src/`")]
    async fn wall_time_is_that_of_the_system() {
        let server = AuthorizationServer::builder().access_token_lifetime(secs(3600));
        let endpoint = cache_support::endpoint(&server.build());
        let token = TokenCache::new(endpoint)
            .source(request())
            .token()
            .await
            .unwrap();
        let after = since_1970(token.expires_at().unwrap()) - secs(3600);
        let off = after.abs_diff(since_1970(SystemTime::now()));
        assert!(off < secs(5), "{off:?}");
    }

    /// A lifetime that the server does not tell is assumed, and limits of the cache count.
    #[tokio::test(start_paused = true)]
    async fn expiry_follows_the_settings_of_the_cache() {
        let configure = |builder: TokenCacheBuilder| {
            let builder = builder.default_lifetime(secs(120));
            builder.max_lifetime(secs(600))
        };
        for (expires_in, expected) in [(None, 120), (Some(60), 60), (Some(3600), 600), (Some(0), 0)]
        {
            let source = source_over(request(), configure, move |call| {
                let response = TokenResponse::builder(token(call));
                match expires_in {
                    Some(seconds) => response.expires_in(secs(seconds)).build(),
                    None => response.build(),
                }
            });
            let token = source.token().await.unwrap();
            assert_eq!(token.expires_in(), Some(secs(expected)), "{expires_in:?}");
        }
    }

    /// The time that the server takes is part of the lifetime.
    #[tokio::test(start_paused = true)]
    async fn lifetime_counts_from_before_the_request() {
        let endpoint = Endpoint::new(|call| async move {
            advance(secs(7)).await;
            Ok(TokenResponse::builder(token(call))
                .expires_in(secs(100))
                .build())
        });
        let cache = TokenCache::builder(endpoint)
            .clock(ManualClock::new().clock())
            .build();
        let token = cache.source(request()).token().await.unwrap();
        assert_eq!(token.expires_in(), Some(secs(93)));
    }

    #[tokio::test(start_paused = true)]
    async fn fixed_token_has_no_expiry_and_no_scope() {
        let source = TokenSource::fixed(bearer("fixed"));
        let mut changes = source.subscribe();
        for token in [
            source.token().await.unwrap(),
            source.peek().unwrap(),
            source.renew().await.unwrap(),
            at_once(changes.changed()).unwrap().unwrap(),
            bearer("fixed").into(),
        ] {
            assert_eq!(token, bearer("fixed"));
            assert_eq!(token.expires_in(), None);
            assert_eq!(token.expires_at(), None);
            assert_eq!(token.expires_at_instant(), None);
            assert_eq!(token.scope(), None);
            assert!(token.get("x").unwrap_err().is_not_kept());
            assert!(token.id_token().unwrap_err().is_not_kept());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn scope_is_the_granted_one_or_the_requested_one() {
    let provided = || Credential::from_fn(|| async { Ok::<_, BoxError>("provided".to_owned()) });
    let all = TokenRequest::client_credentials;
    for (request, granted, expected) in [
        (all(), None, None),
        (all(), Some("a"), Some("a")),
        (all().scope("a b"), None, Some("a b")),
        (all().scope("a b"), Some("a"), Some("a")),
        (all().scope("a b"), Some("b a"), Some("a b")),
        (all().scope("a"), Some(""), Some("")),
        (all().parameter("scope", provided()), None, None),
        (all().parameter("scope", provided()), Some("a"), Some("a")),
    ] {
        let source = source_over(
            request,
            |builder| builder,
            move |call| {
                let response = TokenResponse::builder(token(call));
                match granted {
                    Some(granted) => response.scope(granted).build(),
                    None => response.build(),
                }
            },
        );
        let token = source.token().await.unwrap();
        assert_eq!(token.scope(), expected.map(Scope::from), "{granted:?}");
        let renewed = source.renew().await.unwrap();
        assert_eq!(renewed.scope(), expected.map(Scope::from), "{granted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_very_long_granted_scope_is_returned_whole() {
    let long: String = (0..20_000).map(|word| format!("word{word} ")).collect();
    let granted = long.trim_end().to_owned();
    let expected = Scope::from(granted.as_str());
    let source = source_over(
        TokenRequest::client_credentials(),
        |builder| builder,
        move |call| {
            TokenResponse::builder(token(call))
                .scope(granted.as_str())
                .build()
        },
    );
    assert_eq!(source.token().await.unwrap().scope(), Some(expected));
}

mod members {
    use super::*;

    fn numbered(call: usize) -> TokenResponse {
        TokenResponse::builder(token(call))
            .expires_in(secs(100))
            .id_token(format!("id-{call}"))
            .scope(format!("scope-{call}"))
            .parameter("instance_url", format!("https://{call}.test"))
            .parameter("other", call)
            .build()
    }

    #[track_caller]
    fn assert_is(token: &IssuedToken, call: usize) {
        assert_eq!(*token, self::token(call));
        assert_eq!(
            token.get("instance_url").unwrap(),
            &json!(format!("https://{call}.test"))
        );
        assert_eq!(
            token.id_token().unwrap().expose_secret(),
            format!("id-{call}")
        );
        assert_eq!(token.scope(), Some(Scope::from(format!("scope-{call}"))));
        assert!(token.get("other").unwrap_err().is_not_kept());
    }

    #[tokio::test(start_paused = true)]
    async fn every_way_to_a_token_has_the_members_at_once_and_after_each_renewal() {
        let configure =
            |builder: TokenCacheBuilder| builder.keep_members(["instance_url", "id_token"]);
        let source = source_over(request(), configure, numbered);
        let mut changes = source.subscribe();
        assert_is(&changes.changed().await.unwrap().unwrap(), 1);
        assert_is(&source.token().await.unwrap(), 1);
        assert_is(&source.peek().unwrap(), 1);

        let first = source.token().await.unwrap();
        assert_is(&source.renew().await.unwrap(), 2);
        assert_is(&source.token().await.unwrap(), 2);
        assert_is(&source.peek().unwrap(), 2);
        assert_is(&changes.changed().await.unwrap().unwrap(), 2);

        // A renewal in the background.
        let third = changes.changed().await.unwrap().unwrap();
        assert_is(&third, 3);
        assert_is(&source.peek().unwrap(), 3);

        // After a refusal, and after everything was dropped.
        assert_eq!(source.invalidate(&third), Invalidation::Dropped);
        assert_is(&source.token().await.unwrap(), 4);
        source.discard();
        assert_is(&source.token().await.unwrap(), 5);

        // A renewal does not change what was handed out.
        assert_is(&first, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_several_calls_are_kept_and_all_members_can_be() {
        let source = source_over(
            request(),
            |builder| {
                builder
                    .keep_members(["instance_url"])
                    .keep_members(vec!["other".to_owned()])
            },
            numbered,
        );
        let token = source.token().await.unwrap();
        assert_eq!(token.get("other").unwrap(), 1);
        assert_eq!(token.get("instance_url").unwrap(), "https://1.test");
        assert!(token.id_token().unwrap_err().is_not_kept());

        let source = source_over(request(), |builder| builder.keep_all_members(), numbered);
        let token = source.token().await.unwrap();
        assert_eq!(token.get("other").unwrap(), 1);
        assert_eq!(token.get("expires_in").unwrap(), 100);
        assert_eq!(token.get("scope").unwrap(), "scope-1");
        assert_eq!(token.id_token().unwrap().expose_secret(), "id-1");
        assert!(!token.get("absent").unwrap_err().is_not_kept());
    }

    /// A `None` without a word would send the user to the documentation of the server.
    #[tokio::test(start_paused = true)]
    async fn a_missing_member_says_whether_the_cache_or_the_server_lacks_it() {
        let keeps_none = source_over(request(), |builder| builder, numbered);
        let keeps_one = source_over(
            request(),
            |builder| builder.keep_members(["absent", "id_token"]),
            |call| {
                TokenResponse::builder(token(call))
                    .refresh_token("r")
                    .build()
            },
        );
        let (none, one) = (
            keeps_none.token().await.unwrap(),
            keeps_one.token().await.unwrap(),
        );
        for (missing, is_not_kept, text) in [
            (
                none.get("instance_url").unwrap_err(),
                true,
                "does not keep the member `instance_url` of token responses; name it with `TokenCacheBuilder::keep_members`",
            ),
            (
                none.id_token().unwrap_err(),
                true,
                "does not keep the member `id_token`",
            ),
            (
                one.get("instance_url").unwrap_err(),
                true,
                "does not keep the member `instance_url`",
            ),
            (
                one.get("absent").unwrap_err(),
                false,
                "the token response has no member `absent`",
            ),
            (
                one.id_token().unwrap_err(),
                false,
                "the token response has no member `id_token`",
            ),
            (
                one.get("id_token").unwrap_err(),
                true,
                "call `IssuedToken::id_token`",
            ),
            (
                one.get("access_token").unwrap_err(),
                true,
                "call `IssuedToken::expose_secret`",
            ),
            (
                one.get("refresh_token").unwrap_err(),
                true,
                "`TokenCacheBuilder::on_refresh_token`",
            ),
            (one.get("\u{1b}[2J").unwrap_err(), true, r"\u{1b}[2J"),
        ] {
            let shown = missing.to_string();
            assert!(shown.contains(text), "{shown}");
            assert_eq!(missing.is_not_kept(), is_not_kept, "{shown}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_not_kept_as_members_even_if_they_are_named() {
        let names = ["access_token", "refresh_token", "id_token"];
        for configure in [
            |builder: TokenCacheBuilder| builder.keep_all_members(),
            |builder: TokenCacheBuilder| {
                builder.keep_members(["access_token", "refresh_token", "id_token"])
            },
        ] {
            let source = source_over(request(), configure, |call| {
                let response = TokenResponse::builder(token(call));
                response.refresh_token("refresh").id_token("id").build()
            });
            let token = source.token().await.unwrap();
            for name in names {
                assert!(token.get(name).unwrap_err().is_not_kept(), "{name}");
            }
            assert_eq!(token.id_token().unwrap().expose_secret(), "id");
        }
    }

    /// What one odd member does to the others.
    #[tokio::test(start_paused = true)]
    async fn members_of_odd_responses_are_what_the_server_sent() {
        let deep = "[".repeat(500) + &"]".repeat(500);
        let large = "x".repeat(200_000);
        let body = |rest: &str| format!(r#"{{"access_token":"t","expires_in":60,{rest}}}"#);
        let (absent, there) = (None::<Value>, |value: Value| Some(value));
        for (body, expected) in [
            (body(r#""m":"text""#), there(json!("text"))),
            (body(r#""m":7"#), there(json!(7))),
            (
                body(r#""m":{"a":[1,null]}"#),
                there(json!({"a": [1, null]})),
            ),
            (body(r#""m":null"#), there(Value::Null)),
            (body(r#""m":"first","m":"last""#), there(json!("last"))),
            (body(r#""\u006d":"escaped""#), there(json!("escaped"))),
            (body(r#""M":"another case""#), absent.clone()),
            (format!("\u{feff}{}", body(r#""m":1"#)), there(json!(1))),
            // No `Value` can hold the whole object then.
            (body(r#""m":"text","other":1e999"#), there(json!("text"))),
            (
                body(&format!(r#""other":{deep},"m":"text""#)),
                there(json!("text")),
            ),
            (body(r#""m":1e999"#), absent.clone()),
            (body(&format!(r#""m":{deep}"#)), absent.clone()),
            (body(&format!(r#""m":"{large}""#)), there(json!(large))),
        ] {
            let source = source_of_bodies(
                request(),
                |builder| builder.keep_members(["m"]),
                [body.clone()],
            );
            let token = source.token().await.unwrap();
            assert_eq!(token.get("m").ok().cloned(), expected, "{:.200}", body);
            if expected.is_none() {
                assert!(!token.get("m").unwrap_err().is_not_kept());
            }
        }
    }
}

mod refresh_tokens {
    use super::*;

    fn keep(builder: TokenCacheBuilder) -> TokenCacheBuilder {
        builder.keep_members(["id_token", "athlete", "team"])
    }

    const FIRST: &str = r#"{"access_token":"t1","refresh_token":"r1","expires_in":60,"scope":"a b","id_token":"i1","athlete":1,"team":"x"}"#;
    const BARE: &str = r#"{"access_token":"t2","expires_in":60}"#;
    const SECOND: &str = r#"{"access_token":"t3","refresh_token":"r3","expires_in":60,"scope":"a","id_token":"i3","team":"y"}"#;

    #[track_caller]
    fn assert_is(token: &IssuedToken, scope: &str, id_token: &str, team: &str) {
        assert_eq!(token.scope(), Some(Scope::from(scope)));
        assert_eq!(token.id_token().unwrap().expose_secret(), id_token);
        assert_eq!(token.get("athlete").unwrap(), 1);
        assert_eq!(token.get("team").unwrap(), team);
    }

    /// RFC 6749 §6 for the scope, and OpenID Connect Core §12.2 for the ID token.
    #[tokio::test(start_paused = true)]
    async fn what_the_response_to_a_refresh_leaves_out_stays() {
        for request in [
            TokenRequest::authorization_code("code", "https://app.test/back"),
            TokenRequest::authorization_code("code", "https://app.test/back").scope("asked"),
            TokenRequest::refresh_token("r0"),
        ] {
            let source = source_of_bodies(request, keep, [FIRST, BARE, BARE, SECOND, BARE]);
            let first = source.token().await.unwrap();
            assert_is(&first, "a b", "i1", "x");
            assert_is(&source.renew().await.unwrap(), "a b", "i1", "x");
            source.discard();
            assert_is(&source.token().await.unwrap(), "a b", "i1", "x");
            assert_is(&source.renew().await.unwrap(), "a", "i3", "y");
            assert_is(&source.renew().await.unwrap(), "a", "i3", "y");
            assert_is(&first, "a b", "i1", "x");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_scope_that_grows_back_to_the_requested_one_replaces_the_last() {
        let body = |scope: &str| {
            format!(r#"{{"access_token":"t","refresh_token":"r","expires_in":60{scope}}}"#)
        };
        let bodies = [body(r#","scope":"a""#), body(r#","scope":"a b""#), body("")];
        let request = TokenRequest::refresh_token("r0").scope("a b");
        let source = source_of_bodies(request, |builder| builder, bodies);
        for scope in ["a", "a b", "a b"] {
            assert_eq!(
                source.renew().await.unwrap().scope(),
                Some(Scope::from(scope))
            );
        }
    }

    /// Each response to a grant that is repeated is complete.
    #[tokio::test(start_paused = true)]
    async fn other_grants_take_nothing_from_the_last_response() {
        let source = source_of_bodies(request(), keep, [FIRST, BARE]);
        assert_is(&source.token().await.unwrap(), "a b", "i1", "x");
        let renewed = source.renew().await.unwrap();
        assert_eq!(renewed.scope(), Some(Scope::from("api1")));
        assert!(!renewed.id_token().unwrap_err().is_not_kept());
        assert!(!renewed.get("team").unwrap_err().is_not_kept());
    }

    /// It may be that of another user.
    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_from_a_provider_takes_nothing_from_the_last_response() {
        let calls = Arc::new(AtomicUsize::new(0));
        let provider = Credential::from_fn(move || {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, BoxError>(format!("user-{call}")) }
        });
        let bodies = [FIRST.replace(r#""refresh_token":"r1","#, ""), BARE.into()];
        let source = source_of_bodies(TokenRequest::refresh_token(provider), keep, bodies);
        assert_is(&source.token().await.unwrap(), "a b", "i1", "x");
        let renewed = source.renew().await.unwrap();
        assert_eq!(renewed.scope(), None);
        assert!(renewed.id_token().is_err() && renewed.get("team").is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn an_issued_token_stands_for_its_access_token() {
    let (_, source, token) = Fixture::with_token().await;
    let text = token.expose_secret().to_owned();
    let plain: AccessToken = token.clone().into();
    assert_eq!(*token.access_token(), plain);
    assert_eq!(token, plain);
    assert_eq!(plain, token);
    assert_ne!(token, bearer("another"));
    assert_eq!(*token.token_type(), TokenType::BEARER);
    assert_eq!(
        token.authorization().unwrap(),
        format!("Bearer {text}").as_str()
    );
    let request = |subject: Credential| TokenRequest::token_exchange(subject, "urn:x");
    assert_eq!(request((&token).into()), request((&plain).into()));
    assert_eq!(request(token.clone().into()), request((&plain).into()));
    assert_eq!(source.invalidate(&plain), Invalidation::Dropped);
    assert_eq!(source.invalidate(&token), Invalidation::Replaced);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_printed() {
    let source = source_over(
        request(),
        |builder| builder.keep_all_members(),
        |_| {
            TokenResponse::builder(bearer("SECRET-token"))
                .refresh_token(RefreshToken::new("SECRET-refresh"))
                .id_token("SECRET-id")
                .parameter("SECRET-name", "SECRET-member")
                .scope("shown")
                .build()
        },
    );
    let token = source.token().await.unwrap();
    for shown in [
        format!("{token:?}"),
        format!("{token:#?}"),
        format!("{:?}", token.id_token()),
        format!("{:?} {}", token.get("x"), token.get("x").unwrap_err()),
        format!("{:?} {:?}", source, source.subscribe()),
    ] {
        assert!(!shown.contains("SECRET"), "{shown}");
    }
    assert!(format!("{token:?}").contains("shown"));
}
