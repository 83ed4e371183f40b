//! DPoP to an API: the layer and the cache, with an API that checks every proof (RFC 9449 §7 and §9).

mod cache_support;
mod dpop_support;
mod support;

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::CONTENT_TYPE,
};
use http_body_util::{BodyExt, Full};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, util::BoxCloneSyncService,
};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, DpopKey, RefreshWindow, TokenCache, TokenError,
    TokenErrorKind, TokenRequest, TokenSource, TokenType,
    add_access_token::{AccessTokenRefused, BufferBody, CloneBody, NoOriginNamed},
    jwt::{PublicKey, SignFuture, Signer, SigningAlgorithm, SigningKey},
    test_util::ManualClock,
};
use tower_test::mock;

use self::{
    cache_support::{API, Api, Body, Http, Seen, api_layer, call, call_to, client, secs, settle},
    dpop_support::{Judge, Remote, challenge, demand},
    support::{Log, Recorder, answer},
};

fn key() -> DpopKey {
    DpopKey::generate().unwrap()
}

/// Issues bound tokens `t0`, `t1` and so on, which live for 100 seconds.
fn issuer() -> Recorder {
    Recorder::new(|number| {
        let token =
            format!(r#"{{"access_token":"t{number}","token_type":"DPoP","expires_in":100}}"#);
        answer(200, token)
    })
}

fn source(issuer: &Recorder, key: &DpopKey) -> TokenSource {
    TokenCache::new(issuer.endpoint(client()).dpop(key.clone())).source(request())
}

fn request() -> TokenRequest {
    TokenRequest::client_credentials()
}

fn ok() -> Response<Body> {
    Response::new(Full::from("hello"))
}

fn ok_with(nonce: &str) -> Response<Body> {
    let mut response = ok();
    let nonce = HeaderValue::from_str(nonce).unwrap();
    response.headers_mut().insert("dpop-nonce", nonce);
    response
}

fn invalid_token() -> Response<Body> {
    challenge(r#"DPoP error="invalid_token", algs="ES256""#, None)
}

/// What a request carried: its token, and the nonce of its proof. The rest of the proof is correct.
type Carried = (String, Option<String>);

/// An API that checks every proof, and answers by the number of the request, from 0, and what it carried.
#[derive(Clone)]
struct Strict {
    api: Api,
    carried: Arc<Mutex<Vec<Carried>>>,
}

impl Strict {
    fn new(
        key: &DpopKey,
        answer: impl Fn(usize, &Carried, &Seen) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let (judge, key) = (Judge::new(), key.clone());
        let carried = Arc::<Mutex<Vec<Carried>>>::default();
        let kept = carried.clone();
        let api = Api::new(move |seen| {
            let htu = seen.uri.to_string();
            let htu = htu.split('?').next().unwrap();
            let method = seen.method.as_str();
            let (token, proof) = judge.api_request(&seen.headers, method, htu, &key);
            assert_eq!(seen.body, "the body");
            let mut kept = kept.lock().unwrap();
            kept.push((token, proof.nonce));
            answer(kept.len() - 1, kept.last().unwrap(), seen)
        });
        Self { api, carried }
    }

    /// What the requests since the last call carried.
    fn take(&self) -> Vec<Carried> {
        std::mem::take(&mut *self.carried.lock().unwrap())
    }
}

fn carried(token: &str, nonce: &str) -> Carried {
    let nonce = (!nonce.is_empty()).then(|| nonce.to_owned());
    (token.to_owned(), nonce)
}

async fn get<S>(service: &mut S) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = tower::BoxError>,
{
    service.ready().await.unwrap().call(call()).await.unwrap()
}

mod proofs {
    use super::*;

    /// The first request waits for the token, the others find it.
    #[tokio::test(start_paused = true)]
    async fn each_request_carries_the_token_and_its_own_proof() {
        let (issuer, key) = (issuer(), key());
        let strict = Strict::new(&key, |_, _, _| ok());
        let mut service = api_layer(source(&issuer, &key)).layer(strict.api.clone());
        for uri in [API, "https://API.test:443/a/../%7e?q=1", API, API] {
            let uri: Uri = uri.parse().unwrap();
            let mut call = call();
            *call.uri_mut() = uri.clone();
            // The proof names the normalized URI, which is what a server sees.
            if uri.host() == Some("API.test") {
                let judge = Judge::new();
                let api = Api::content();
                let layer = api_layer(source(&issuer, &key));
                layer.layer(api.clone()).oneshot(call).await.unwrap();
                let htu = "https://api.test/a/../%7e";
                judge.api_request(&api.last().headers, "POST", htu, &key);
                continue;
            }
            service.ready().await.unwrap().call(call).await.unwrap();
        }
        assert_eq!(strict.take(), vec![carried("t0", ""); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_proof_contains_the_nonce_of_a_response() {
        let (issuer, key) = (issuer(), key());
        let strict = Strict::new(&key, |number, _, _| ok_with(&format!("n{number}")));
        let mut service = api_layer(source(&issuer, &key)).layer(strict.api.clone());
        for _ in 0..3 {
            get(&mut service).await;
        }
        let expected = [carried("t0", ""), carried("t0", "n0"), carried("t0", "n1")];
        assert_eq!(strict.take(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn nonces_are_per_origin() {
        let (issuer, key) = (issuer(), key());
        let strict = Strict::new(&key, |number, _, _| ok_with(&format!("n{number}")));
        let layer = AddAccessTokenLayer::new(source(&issuer, &key));
        let origins = [
            "https://one.test",
            "https://two.test",
            "https://one.test:8443",
        ];
        let service = layer.origins(origins).unwrap().layer(strict.api.clone());
        for uri in [
            "https://one.test/a",
            "https://two.test/a",
            "https://one.test/b",
            "https://two.test/c?d",
            "https://one.test:8443/a",
        ] {
            service.clone().oneshot(call_to(uri)).await.unwrap();
        }
        let nonces: Vec<_> = strict.take().into_iter().map(|(_, nonce)| nonce).collect();
        let nonces: Vec<_> = nonces.iter().map(Option::as_deref).collect();
        assert_eq!(nonces, [None, None, Some("n0"), Some("n1"), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_nonce_of_the_token_endpoint_is_not_used_for_an_api_of_the_same_origin() {
        let key = key();
        let issuer = Recorder::new(|_| {
            let mut response = answer(200, r#"{"access_token":"t0","expires_in":9}"#)?;
            let nonce = HeaderValue::from_static("of-the-server");
            response.headers_mut().insert("dpop-nonce", nonce);
            Ok(response)
        });
        let strict = Strict::new(&key, |_, _, _| ok());
        let call = call_to("https://as.example/userinfo");
        let layer = AddAccessTokenLayer::new(source(&issuer, &key));
        let service = layer.origin(call.uri()).unwrap().layer(strict.api.clone());
        service.oneshot(call).await.unwrap();
        assert_eq!(strict.take(), [carried("t0", "")]);
    }

    /// Clients that tonic generates send such requests.
    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_authority_needs_exactly_one_named_origin() {
        let (issuer, key) = (issuer(), key());
        let source = source(&issuer, &key);
        let layer = AddAccessTokenLayer::new(source.clone());
        let two = layer
            .clone()
            .origins(["https://one.test", "https://two.test"]);
        let any = layer.clone().danger_any_https_origin();
        for layer in [layer.clone(), two.unwrap(), any] {
            // Without a token, then with one.
            for _ in 0..2 {
                let api = Api::content();
                let error = layer.layer(api.clone()).oneshot(call_to("/p.S/M")).await;
                assert!(error.unwrap_err().is::<NoOriginNamed>());
                assert_eq!(api.requests(), 0);
            }
        }

        let layer = layer.origin("https://API.test:443/ignored");
        let layer = layer.unwrap().resend(CloneBody);
        let judge = Judge::new();
        let checked = key.clone();
        let number = AtomicUsize::new(0);
        let api = Api::new(move |seen| {
            assert_eq!(seen.uri, "/p.S/M?q");
            let htu = "https://api.test/p.S/M";
            judge.api_request(&seen.headers, "POST", htu, &checked);
            match number.fetch_add(1, Ordering::SeqCst) {
                0 => demand("n"),
                1 => invalid_token(),
                _ => ok(),
            }
        });
        let response = layer.layer(api.clone()).oneshot(call_to("/p.S/M?q")).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
        assert_eq!(api.requests(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn headers_of_the_caller_are_sent_unchanged() {
        let (issuer, key) = (issuer(), key());
        let api = Api::content();
        let service = api_layer(source(&issuer, &key)).layer(api.clone());
        let mut call = call();
        let headers = call.headers_mut();
        headers.insert("authorization", HeaderValue::from_static("DPoP mine"));
        headers.insert("dpop", HeaderValue::from_static("my proof"));
        service.oneshot(call).await.unwrap();
        assert_eq!(api.last().headers["authorization"], "DPoP mine");
        assert_eq!(api.last().headers["dpop"], "my proof");
    }
}

mod demands {
    use super::*;

    fn demanding(key: &DpopKey) -> Strict {
        Strict::new(key, |number, (_, nonce), _| match nonce.as_deref() {
            Some("n") => ok(),
            _ => {
                assert_eq!(number, 0, "a nonce is demanded once");
                demand("n")
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_resent_once_with_the_demanded_nonce() {
        let (issuer, key) = (issuer(), key());
        let strict = demanding(&key);
        let layer = api_layer(source(&issuer, &key)).resend(CloneBody);
        let mut service = layer.layer(strict.api.clone());
        assert_eq!(get(&mut service).await.status(), StatusCode::OK);
        assert_eq!(get(&mut service).await.status(), StatusCode::OK);
        let expected = [carried("t0", ""), carried("t0", "n"), carried("t0", "n")];
        assert_eq!(strict.take(), expected);
        assert_eq!(issuer.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffered_body_is_resent_once_with_the_demanded_nonce() {
        type Stream = http_body_util::combinators::UnsyncBoxBody<Bytes, tower::BoxError>;
        let (issuer, key) = (issuer(), key());
        let strict = demanding(&key);
        let api = strict.api.clone();
        let inner = tower::service_fn(move |request: Request<Stream>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                api.oneshot(Request::from_parts(parts, Full::new(body)))
                    .await
            }
        });
        let layer = api_layer(source(&issuer, &key)).resend(BufferBody::new(1024, Stream::new));
        let call = call().map(|body| Stream::new(body.map_err(Into::into)));
        let response = layer.layer(inner).oneshot(call).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(strict.take(), [carried("t0", ""), carried("t0", "n")]);
    }

    /// Row 20: requests_oauth2client resends forever.
    #[tokio::test(start_paused = true)]
    async fn row_20_the_caller_gets_the_second_demand_for_a_nonce() {
        let (issuer, key) = (issuer(), key());
        let strict = Strict::new(&key, |number, _, _| demand(&format!("n{number}")));
        let source = source(&issuer, &key);
        let layer = api_layer(source.clone()).resend(CloneBody);
        let mut service = layer.layer(strict.api.clone());
        let response = get(&mut service).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            response.headers()["dpop-nonce"],
            "n1",
            "of the second demand"
        );
        assert!(response.extensions().get::<AccessTokenRefused>().is_none());
        assert_eq!(strict.take(), [carried("t0", ""), carried("t0", "n0")]);
        get(&mut service).await;
        assert_eq!(strict.take()[0], carried("t0", "n1"));
        assert_eq!(issuer.calls(), 1, "the token is kept");
    }

    /// Row 29: a layer that takes every 401 as a refusal drops the token.
    #[tokio::test(start_paused = true)]
    async fn row_29_a_demand_for_a_nonce_keeps_the_token() {
        for text in [
            r#"DPoP error="use_dpop_nonce""#,
            r#"Bearer realm="api", DPoP algs="ES256", error="use_dpop_nonce""#,
            r#"Bearer error="invalid_token", DPoP error="use_dpop_nonce""#,
            r#"DPoP algs="ES256", error="use_dpop_nonce", Bearer"#,
        ] {
            let (issuer, key) = (issuer(), key());
            let strict = Strict::new(&key, move |_, (_, nonce), _| match nonce {
                Some(_) => ok(),
                None => challenge(text, Some("n")),
            });
            let source = source(&issuer, &key);
            let mut service = api_layer(source.clone()).layer(strict.api.clone());
            let response = get(&mut service).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{text}");
            assert!(response.extensions().get::<AccessTokenRefused>().is_none());
            assert_eq!(source.peek().unwrap().expose_secret(), "t0", "{text}");
            assert_eq!(get(&mut service).await.status(), StatusCode::OK, "{text}");
            assert_eq!(strict.take(), [carried("t0", ""), carried("t0", "n")]);
            assert_eq!(issuer.calls(), 1);
        }
    }

    /// A 401 with a nonce, and a challenge unless it is empty.
    fn unauthorized(text: &str, nonce: &str) -> Response<Body> {
        let mut response = challenge(text, Some(nonce));
        if text.is_empty() {
            response.headers_mut().remove("www-authenticate");
        }
        response
    }

    /// Servers that demand a nonce in the body alone, or report a proof without it as invalid.
    const FIRST_ANSWERS: [&str; 7] = [
        "",
        "Bearer",
        "Basic realm=\"x\"",
        "DPoP algs=\"ES256\"",
        "DPoP error=\"invalid_dpop_proof\"",
        "DPoP error=\"invalid_token\"",
        "Bearer error=\"insufficient_scope\"",
    ];

    #[tokio::test(start_paused = true)]
    async fn a_new_nonce_is_a_demand_whatever_the_challenge_says() {
        for text in FIRST_ANSWERS {
            let (issuer, key) = (issuer(), key());
            // The nonce is replaced after two requests that had it.
            let strict = Strict::new(&key, move |number, (_, nonce), _| {
                let current = if number < 3 { "n1" } else { "n2" };
                match nonce.as_deref() == Some(current) {
                    true => ok(),
                    false => unauthorized(text, current),
                }
            });
            let source = source(&issuer, &key);
            let layer = api_layer(source.clone()).resend(CloneBody);
            let mut service = layer.layer(strict.api.clone());
            for _ in 0..3 {
                assert_eq!(get(&mut service).await.status(), StatusCode::OK, "{text}");
            }
            let nonces = ["", "n1", "n1", "n1", "n2"];
            assert_eq!(strict.take(), nonces.map(|nonce| carried("t0", nonce)));
            assert_eq!(issuer.calls(), 1, "{text}");
        }
    }

    /// A server that replaces the nonce with every 401 also refuses tokens that way.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_changes_the_nonce_with_every_401_can_refuse_the_token() {
        for text in ["", "Bearer", "DPoP error=\"invalid_token\"", "Token"] {
            let (issuer, key) = (issuer(), key());
            let strict = Strict::new(&key, move |number, (token, nonce), _| {
                let current = number.checked_sub(1).map(|number| format!("n{number}"));
                match token == "t1" && *nonce == current {
                    true => ok(),
                    false => unauthorized(text, &format!("n{number}")),
                }
            });
            let source = source(&issuer, &key);
            let layer = api_layer(source.clone()).resend(CloneBody);
            let response = get(&mut layer.layer(strict.api.clone())).await;
            assert_eq!(response.status(), StatusCode::OK, "{text}");
            let expected = [carried("t0", ""), carried("t0", "n0"), carried("t1", "n1")];
            assert_eq!(strict.take(), expected, "{text}");
            assert_eq!(issuer.calls(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_resending_the_second_401_refuses_the_token() {
        for text in ["", "Bearer", "DPoP error=\"invalid_token\""] {
            let (issuer, key) = (issuer(), key());
            let strict = Strict::new(&key, move |number, (token, _), _| match &**token {
                "t0" => unauthorized(text, &format!("n{number}")),
                _ => ok(),
            });
            let source = source(&issuer, &key);
            let mut service = api_layer(source.clone()).layer(strict.api.clone());
            for expected in [false, true] {
                let response = get(&mut service).await;
                let is_refused = response.extensions().get::<AccessTokenRefused>().is_some();
                assert_eq!(is_refused, expected, "{text}");
            }
            assert_eq!(get(&mut service).await.status(), StatusCode::OK);
            let expected = [carried("t0", ""), carried("t0", "n0"), carried("t1", "n1")];
            assert_eq!(strict.take(), expected, "{text}");
        }
    }

    /// Without a copy of the body, the request cannot be resent, and the next one has the nonce.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_cannot_be_resent_does_not_keep_a_refused_token_forever() {
        type Stream = http_body_util::combinators::UnsyncBoxBody<Bytes, tower::BoxError>;
        let (issuer, key) = (issuer(), key());
        let strict = Strict::new(&key, move |number, (token, _), _| match &**token {
            "t0" => unauthorized("", &format!("n{number}")),
            _ => ok(),
        });
        let api = strict.api.clone();
        let inner = tower::service_fn(move |request: Request<Stream>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let request = Request::from_parts(parts, Full::new(body));
                api.oneshot(request).await
            }
        });
        let layer = api_layer(source(&issuer, &key)).resend(BufferBody::new(0, Stream::new));
        let service = layer.layer(inner);
        for expected in [401, 401, 200] {
            let call = call().map(|body| Stream::new(body.map_err(Into::into)));
            let response = service.clone().oneshot(call).await.unwrap();
            assert_eq!(response.status(), expected);
        }
        let expected = [carried("t0", ""), carried("t0", "n0"), carried("t1", "n1")];
        assert_eq!(strict.take(), expected);
    }

    /// However a server answers, a request is sent three times at most.
    #[tokio::test(start_paused = true)]
    async fn a_request_is_sent_three_times_at_most() {
        for text in FIRST_ANSWERS {
            let (issuer, key) = (issuer(), key());
            let strict = Strict::new(&key, move |number, _, _| {
                unauthorized(text, &format!("n{number}"))
            });
            let layer = api_layer(source(&issuer, &key)).resend(CloneBody);
            let response = get(&mut layer.layer(strict.api.clone())).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert!(strict.take().len() <= 3, "{text}");
            assert!(issuer.calls() <= 2, "{text}");
        }
    }

    /// RFC 9449 §7.1 knows the header `Authorization` alone; the name that the user has chosen counts for both types of tokens.
    #[tokio::test(start_paused = true)]
    async fn a_chosen_header_carries_the_token_under_its_own_scheme_with_a_proof() {
        let name = HeaderName::from_static("x-authorization");
        for layer in 0..3 {
            let (issuer, key) = (issuer(), key());
            let chosen = api_layer(source(&issuer, &key)).header(name.clone());
            let chosen = match layer {
                0 => chosen,
                1 => chosen.without_scheme(),
                _ => chosen.scheme("Token").unwrap(),
            };
            let api = Api::new(|seen| {
                let value = &seen.headers["x-authorization"];
                assert!(value.is_sensitive() && seen.authorization().is_none());
                assert_eq!(seen.headers.get_all("dpop").iter().count(), 1);
                match value.to_str().unwrap() {
                    "DPoP t0" => unauthorized("", "n"),
                    "DPoP t1" => ok(),
                    other => panic!("{other}"),
                }
            });
            let chosen = chosen.resend(CloneBody);
            let response = get(&mut chosen.layer(api.clone())).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(api.requests(), 3);
            // The first request of another service finds the token in the cache.
            let response = get(&mut chosen.layer(api.clone())).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(api.requests(), 4);
        }
    }

    /// A server that accepts both kinds of tokens names both schemes.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_proof_keeps_the_token() {
        let (issuer, key) = (issuer(), key());
        let strict = Strict::new(&key, |_, _, _| {
            challenge(r#"Bearer, DPoP error="invalid_dpop_proof""#, None)
        });
        let source = source(&issuer, &key);
        let layer = api_layer(source.clone()).resend(CloneBody);
        let response = get(&mut layer.layer(strict.api.clone())).await;
        assert!(response.extensions().get::<AccessTokenRefused>().is_none());
        assert!(source.peek().is_some());
        assert_eq!(strict.take().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_with_a_refused_token_is_resent_with_another_token_and_a_new_proof() {
        let (issuer, key) = (issuer(), key());
        let strict = Strict::new(&key, |_, (token, _), _| match &**token {
            "t0" => invalid_token(),
            _ => ok(),
        });
        let layer = api_layer(source(&issuer, &key)).resend(CloneBody);
        let mut service = layer.layer(strict.api.clone());
        assert_eq!(get(&mut service).await.status(), StatusCode::OK);
        assert_eq!(strict.take(), [carried("t0", ""), carried("t1", "")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_resent_for_a_demand_and_for_a_refusal() {
        for warm in [false, true] {
            for refuses_first in [false, true] {
                let (issuer, key) = (issuer(), key());
                let strict = Strict::new(&key, move |_, (token, nonce), _| {
                    let is_refused = token == "t0";
                    match nonce {
                        None if !(refuses_first && is_refused) => demand("n"),
                        _ if is_refused => invalid_token(),
                        _ => ok_with("n2"),
                    }
                });
                let source = source(&issuer, &key);
                if warm {
                    source.warm_up().await.unwrap();
                }
                let layer = api_layer(source).resend(CloneBody);
                let mut service = layer.layer(strict.api.clone());
                assert_eq!(get(&mut service).await.status(), StatusCode::OK);
                let (second, nonce) = match refuses_first {
                    true => ("t1", ""),
                    false => ("t0", "n"),
                };
                let expected = [
                    carried("t0", ""),
                    carried(second, nonce),
                    carried("t1", "n"),
                ];
                assert_eq!(strict.take(), expected, "{warm} {refuses_first}");
            }
        }
    }

    /// The server may stop binding tokens while a request is sent.
    #[tokio::test(start_paused = true)]
    async fn a_request_resent_with_a_bearer_token_carries_no_proof() {
        let key = key();
        let issuer = Recorder::new(|number| match number {
            0 => answer(200, r#"{"access_token":"t0","token_type":"DPoP"}"#),
            _ => answer(200, r#"{"access_token":"t1","token_type":"Bearer"}"#),
        });
        let endpoint = issuer.endpoint(client()).dpop(key).danger_allow_bearer();
        let source = TokenCache::new(endpoint).source(request());
        let api = Api::new(|seen| match seen.headers["authorization"].to_str() {
            Ok("Bearer t1") => ok(),
            _ => invalid_token(),
        });
        let layer = api_layer(source).resend(CloneBody);
        let response = get(&mut layer.layer(api.clone())).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(api.seen()[0].headers.contains_key("dpop"));
        assert!(!api.last().headers.contains_key("dpop"));
    }
}

mod cache {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_with_the_same_thumbprint_share_a_token() {
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;
        let read = || DpopKey::new(SigningKey::from_jwk(jwk).unwrap()).unwrap();
        let (one, same, other) = (read(), read(), key());
        assert_eq!(one, same);
        assert_ne!(one, other);
        let issuer = issuer();
        let cache = TokenCache::new(issuer.endpoint(client()));
        let mut tokens = Vec::new();
        for key in [&one, &same, &other] {
            let source = cache.source(request().dpop(key.clone()));
            let token = source.token().await.unwrap();
            assert_eq!(token.dpop_key(), Some(key));
            tokens.push(token.expose_secret().to_owned());
        }
        assert_eq!(tokens, ["t0", "t0", "t1"]);
    }

    /// The key of a token request is also used with the refresh token.
    #[tokio::test(start_paused = true)]
    async fn a_renewal_by_refresh_token_is_bound_to_the_same_key() {
        let (judge, key) = (Judge::new(), key());
        let issuer = Recorder::new(|number| {
            answer(
                200,
                format!(
                    r#"{{"access_token":"t{number}","token_type":"DPoP","refresh_token":"r{number}"}}"#
                ),
            )
        });
        let cache = TokenCache::new(issuer.endpoint(client()));
        let code = TokenRequest::authorization_code("code", "https://c.example/cb");
        let source = cache.source(code.dpop(key.clone()));
        source.token().await.unwrap();
        tokio::time::advance(secs(2)).await;
        source.invalidate(&source.peek().unwrap());
        let renewed = source.token().await.unwrap();
        assert_eq!(renewed.expose_secret(), "t1");
        assert_eq!(renewed.dpop_key(), Some(&key));
        for sent in issuer.take() {
            judge.token_request(sent.headers(), support::URI, &key);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_token_without_its_key_is_not_sent() {
        let token = AccessToken::new("t", TokenType::DPOP).unwrap();
        let cached = TokenCache::new(issuer().endpoint(client())).source(request());
        for source in [TokenSource::fixed(token.clone()), cached] {
            let api = Api::content();
            let layer = api_layer(source).resend(CloneBody);
            let error = layer.layer(api.clone()).oneshot(call()).await.unwrap_err();
            let error = TokenError::find_in_chain(&*error).unwrap();
            assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
            assert!(error.to_string().contains("key"), "{error}");
            assert_eq!(api.requests(), 0);
        }

        let key = key();
        let strict = Strict::new(&key, |number, _, _| match number {
            0 => demand("n"),
            _ => ok(),
        });
        let source = TokenSource::fixed(token.bound_to(key));
        let layer = api_layer(source).resend(CloneBody);
        let response = layer.layer(strict.api.clone()).oneshot(call()).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
        assert_eq!(strict.take(), [carried("t", ""), carried("t", "n")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_request_in_the_extensions_uses_its_own_key() {
        let (issuer, common, own) = (issuer(), key(), key());
        let strict = Strict::new(&own, |number, _, _| match number {
            0 => demand("n"),
            1 => invalid_token(),
            _ => ok(),
        });
        let layer = api_layer(source(&issuer, &common)).resend(CloneBody);
        let mut call = call();
        let extensions: &mut Extensions = call.extensions_mut();
        extensions.insert(request().dpop(own));
        let response = layer.layer(strict.api.clone()).oneshot(call).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
        let expected = [carried("t0", ""), carried("t0", "n"), carried("t1", "n")];
        assert_eq!(strict.take(), expected);
    }
}

mod signers {
    use super::*;

    /// tonic's clients look for a status in the error, also if the error is that of a proof.
    #[cfg(feature = "tonic")]
    #[tokio::test(start_paused = true)]
    async fn a_grpc_request_whose_proof_cannot_be_signed_has_a_status() {
        let issuer = issuer();
        let remote = Remote::new(100);
        let control = remote.control.clone();
        let source = source(&issuer, &DpopKey::new(remote).unwrap());
        source.warm_up().await.unwrap();
        control.fails.store(true, Ordering::SeqCst);
        let mut call = call();
        let grpc = HeaderValue::from_static("application/grpc");
        call.headers_mut().insert(CONTENT_TYPE, grpc);
        let service = api_layer(source).layer(Api::content());
        let error = service.oneshot(call).await.unwrap_err();
        let status = error.downcast::<tonic::Status>().unwrap();
        assert!(TokenError::find_in_chain(&*status).is_some());
    }

    /// A key service costs money and has rate limits.
    #[tokio::test(start_paused = true)]
    async fn a_remote_signer_is_asked_once_for_each_request() {
        let issuer = issuer();
        let remote = Remote::new(100);
        let control = remote.control.clone();
        let key = DpopKey::new(remote).unwrap();
        let strict = Strict::new(&key, |number, _, _| match number {
            0 => demand("n"),
            _ => ok(),
        });
        let source = source(&issuer, &key);
        source.warm_up().await.unwrap();
        assert_eq!(control.asked(), 1, "for the token request");
        let layer = api_layer(source).resend(CloneBody);
        let mut service = layer.layer(strict.api.clone());
        for _ in 0..3 {
            assert_eq!(get(&mut service).await.status(), StatusCode::OK);
        }
        assert_eq!(strict.take().len(), 4);
        assert_eq!(control.asked(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_is_sent_if_its_proof_cannot_be_signed() {
        let issuer = issuer();
        let remote = Remote::new(100);
        let control = remote.control.clone();
        let key = DpopKey::new(remote).unwrap();
        let source = source(&issuer, &key);
        source.warm_up().await.unwrap();
        control.fails.store(true, Ordering::SeqCst);
        let api = Api::content();
        let layer = api_layer(source.clone());
        let error = layer.layer(api.clone()).oneshot(call()).await.unwrap_err();
        let error = TokenError::find_in_chain(&*error).unwrap();
        assert_eq!(error.kind(), TokenErrorKind::Credential);
        assert!(!error.may_have_been_processed());
        assert_eq!(api.requests(), 0);

        // If the proof of a resend fails, the caller gets the first response.
        control.fails.store(false, Ordering::SeqCst);
        let failing = control.clone();
        let api = Api::new(move |_| {
            failing.fails.store(true, Ordering::SeqCst);
            demand("n")
        });
        let layer = api_layer(source).resend(CloneBody);
        let response = layer.layer(api.clone()).oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(api.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_expires_while_its_proof_is_signed_is_not_sent() {
        let issuer = issuer();
        let remote = Remote::new(1);
        let control = remote.control.clone();
        let key = DpopKey::new(remote).unwrap();
        let clock = ManualClock::new();
        let endpoint = issuer.endpoint(client()).dpop(key.clone());
        let window = RefreshWindow::new().first(0.5..=0.5).later(0.5..=0.5);
        let cache = TokenCache::builder(endpoint)
            .clock(clock.clock())
            .refresh_window(window)
            .build();
        let source = cache.source(request());
        source.warm_up().await.unwrap();

        let strict = Strict::new(&key, |_, _, _| ok());
        let service = api_layer(source).layer(strict.api.clone());
        let call = tokio::spawn(service.oneshot(call()));
        settle().await;
        assert_eq!(control.asked(), 2, "the proof for t0 is being signed");
        clock.advance(secs(101));
        control.open.add_permits(100);
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(strict.take(), [carried("t1", "")]);
    }

    /// A signer that reaches its key through the same stack that it signs for.
    struct Through {
        key: SigningKey,
        stack: Mutex<Option<Http>>,
    }

    impl Signer for Through {
        fn algorithm(&self) -> SigningAlgorithm {
            self.key.algorithm()
        }

        fn public_key(&self) -> Option<&PublicKey> {
            self.key.public_key()
        }

        fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
            let stack = self.stack.lock().unwrap().clone().unwrap();
            Box::pin(async move {
                stack.oneshot(call_to("https://kms.test/")).await?;
                self.key.sign(message).await
            })
        }
    }

    async fn signs_through(limit: impl FnOnce(Http) -> Http) {
        let api = Api::content();
        let issuer = issuer();
        let (served, fetched) = (api.clone(), issuer.clone());
        let network = tower::service_fn(move |request: Request<Body>| {
            let (api, issuer) = (served.clone(), fetched.clone());
            async move {
                tokio::task::yield_now().await;
                match request.uri().host() {
                    Some("as.example") => issuer.oneshot(request).await,
                    _ => api.oneshot(request).await,
                }
            }
        });
        let stack = limit(BoxCloneSyncService::new(network));
        let through = Arc::new(Through {
            key: SigningKey::generate(SigningAlgorithm::ES256).unwrap(),
            stack: Mutex::new(Some(stack.clone())),
        });
        let key = DpopKey::new(through).unwrap();
        let endpoint =
            tower_oauth2_client::TokenEndpoint::new(stack.clone(), support::URI, client());
        let source = TokenCache::new(endpoint.dpop(key)).source(request());
        let service = api_layer(source).resend(CloneBody).layer(stack);
        let calls = (0..8).map(|_| tokio::spawn(service.clone().oneshot(call())));
        for call in calls.collect::<Vec<_>>() {
            let call = tokio::time::timeout(Duration::from_secs(600), call);
            let response = call.await.expect("no deadlock").unwrap().unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        let mut service = service;
        for _ in 0..3 {
            let response = tokio::time::timeout(Duration::from_secs(600), get(&mut service));
            let response = response.await.expect("no deadlock");
            assert_eq!(response.status(), StatusCode::OK);
        }
        let proven = api.seen().into_iter();
        let proven = proven.filter(|seen| seen.headers.contains_key("dpop"));
        assert_eq!(proven.count(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn signing_through_the_same_stack_does_not_deadlock() {
        signs_through(|http| BoxCloneSyncService::new(ConcurrencyLimit::new(http, 1))).await;
        signs_through(|http| BoxCloneSyncService::new(Buffer::new(http, 1))).await;
        signs_through(|http| {
            BoxCloneSyncService::new(Buffer::new(ConcurrencyLimit::new(http, 1), 1))
        })
        .await;
    }

    /// A key in this process that counts its signatures.
    struct Counting(SigningKey, Arc<AtomicUsize>);

    impl Signer for Counting {
        fn algorithm(&self) -> SigningAlgorithm {
            self.0.algorithm()
        }

        fn public_key(&self) -> Option<&PublicKey> {
            self.0.public_key()
        }

        fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.sign(message)
        }
    }

    /// Sends a request whose service becomes ready only after its proof was made and the nonce was replaced.
    async fn send_after_a_wait(key: &DpopKey) -> (Judge, Seen) {
        let (issuer, judge) = (issuer(), Judge::new());
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let mut service = api_layer(source(&issuer, key)).layer(service);
        handle.allow(1);
        let mut ready = task::spawn(async { service.ready().await.map(drop) });
        assert_ready_ok!(ready.poll());
        drop(ready);
        let mut called = task::spawn(service.call(call()));
        handle.allow(0);
        while issuer.calls() == 0 {
            assert_pending!(called.poll());
            settle().await;
        }
        for _ in 0..10 {
            assert_pending!(called.poll());
            settle().await;
        }
        let token = AccessToken::new("t0", TokenType::DPOP).unwrap();
        let nonce = HeaderValue::from_static("newer");
        let nonce = HeaderMap::from_iter([(HeaderName::from_static("dpop-nonce"), nonce)]);
        key.note_response(API, Some(&token), &nonce);
        handle.allow(1);
        assert_pending!(called.poll());
        let next = tokio::time::timeout(secs(600), handle.next_request());
        let (sent, respond) = next.await.expect("the request is sent").unwrap();
        respond.send_response(ok());
        assert_ready_ok!(called.poll());
        let (parts, _) = sent.into_parts();
        let seen = Seen {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            extensions: parts.extensions,
            body: Bytes::new(),
        };
        (judge, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn a_local_key_signs_again_after_the_request_waited_for_its_service() {
        let signed = Arc::new(AtomicUsize::new(0));
        let signer = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let key = DpopKey::new(Counting(signer, signed.clone())).unwrap();
        let (judge, seen) = send_after_a_wait(&key).await;
        let (_, proof) = judge.api_request(&seen.headers, "POST", API, &key);
        assert_eq!(proof.nonce.as_deref(), Some("newer"));
        assert_eq!(
            signed.load(Ordering::SeqCst),
            3,
            "the token request, the first proof, the second proof"
        );
    }

    /// A signer that answers at once two times, and never again.
    struct BecomesSlow(SigningKey, Arc<AtomicUsize>);

    impl Signer for BecomesSlow {
        fn algorithm(&self) -> SigningAlgorithm {
            self.0.algorithm()
        }

        fn public_key(&self) -> Option<&PublicKey> {
            self.0.public_key()
        }

        fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
            match self.1.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => self.0.sign(message),
                _ => Box::pin(std::future::pending()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signer_that_became_slow_while_the_service_was_busy_is_not_waited_for() {
        let asked = Arc::new(AtomicUsize::new(0));
        let signer = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let key = DpopKey::new(BecomesSlow(signer, asked.clone())).unwrap();
        let (judge, seen) = send_after_a_wait(&key).await;
        let (_, proof) = judge.api_request(&seen.headers, "POST", API, &key);
        assert_eq!(proof.nonce, None, "it carries its first proof");
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_remote_key_does_not_sign_again_after_the_request_waited_for_its_service() {
        let remote = Remote::new(100);
        let control = remote.control.clone();
        let key = DpopKey::new(remote).unwrap();
        let (judge, seen) = send_after_a_wait(&key).await;
        let (_, proof) = judge.api_request(&seen.headers, "POST", API, &key);
        assert_eq!(proof.nonce, None);
        assert_eq!(control.asked(), 2, "the token request and the request");
    }
}

/// Row 19, for keys and proofs: neither this crate nor a layer below that logs requests prints them.
#[tokio::test(start_paused = true)]
async fn row_19_no_key_proof_or_token_is_printed() {
    // The private key of RFC 7515 A.3.
    const PRIVATE: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
    const TOKEN: &str = "sentinel-of-a-token";
    let jwk = format!(
        r#"{{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"{PRIVATE}"}}"#
    );
    let (log, _guard) = Log::record();

    let key = DpopKey::new(SigningKey::from_jwk(jwk).unwrap()).unwrap();
    let proofs = Arc::<Mutex<Vec<String>>>::default();
    let kept = proofs.clone();
    let tracing = move |request: Request<Body>| {
        let proof = request.headers()["dpop"].to_str().unwrap().to_owned();
        kept.lock().unwrap().push(proof);
        let (parts, body) = request.into_parts();
        tracing::trace!(?parts, "sent");
        Request::from_parts(parts, body)
    };
    let mut printed = String::new();
    for bad in [false, true] {
        let issuer = Recorder::new(move |number| match number {
            0 if bad => answer(400, r#"{"error":"use_dpop_nonce"}"#),
            _ => answer(
                200,
                format!(r#"{{"access_token":"{TOKEN}","token_type":"DPoP"}}"#),
            ),
        });
        let http = issuer.clone().map_request(tracing.clone());
        let endpoint = tower_oauth2_client::TokenEndpoint::new(http, support::URI, client());
        let endpoint = endpoint.dpop(key.clone());
        let request = request().dpop(key.clone());
        write!(
            printed,
            "{endpoint:?}{request:?}{:?}{key:?}{key:#?}",
            endpoint.clone().oneshot(request.clone()).await
        )
        .unwrap();
        let source = TokenCache::new(endpoint).source(request);
        let layer = api_layer(source.clone()).resend(CloneBody);
        write!(printed, "{source:?}{layer:?}").unwrap();
        let number = AtomicUsize::new(0);
        let api = Api::new(move |_| match number.fetch_add(1, Ordering::SeqCst) {
            0 => demand("n"),
            1 if bad => invalid_token(),
            _ => ok(),
        });
        let mut service = layer.layer(api.map_request(tracing.clone()));
        write!(printed, "{service:?}").unwrap();
        for _ in 0..2 {
            let called = service.ready().await.unwrap().call(call());
            write!(printed, "{called:?}").unwrap();
            write!(printed, "{:?}", called.await).unwrap();
        }
        write!(printed, "{:?}", source.peek()).unwrap();
        let uri = Uri::from_static("/relative");
        let error = key.proof(&http::Method::GET, &uri, None).await.unwrap_err();
        write!(printed, "{error}{error:?}").unwrap();
    }
    let log = log.text();
    assert!(log.contains("sent") && printed.contains(key.thumbprint()));
    let proofs = proofs.lock().unwrap();
    assert!(proofs.len() > 6);
    for printed in [log, printed] {
        assert!(!printed.contains(PRIVATE) && !printed.contains(TOKEN));
        for proof in &*proofs {
            let claims = proof.split('.').nth(1).unwrap();
            assert!(!printed.contains(claims), "{printed}");
        }
    }
}
