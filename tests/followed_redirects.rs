//! tower-http's `FollowRedirect` below an endpoint: what it brings from another URL is no answer of the endpoint.
#![cfg(feature = "tower-http")]

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, LOCATION},
};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, ClientSecret, Credential, RevocationEndpoint,
    RevocationRequest, TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    TokenType,
};

type Body = Full<Bytes>;
type Http = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

const TOKEN_ENDPOINT: &str = "https://as.example/token";
const ELSEWHERE: [&str; 4] = [
    "http://evil.example/token",
    "https://evil.example/token",
    "https://as.example/other",
    "//evil.example/token",
];
/// After these, a `POST` becomes a `GET`.
const REDIRECTS: [u16; 3] = [301, 302, 303];

/// A server that redirects every request to `location` as often as `times` says, and then has a token, metadata, and no objection.
fn redirecting(status: u16, location: &'static str, times: usize) -> (Http, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let number = Arc::new(AtomicUsize::new(0));
    let http = service_fn(move |request: Request<Body>| {
        let has_secret = request.headers().contains_key(AUTHORIZATION);
        noted.0.lock().unwrap().push(has_secret);
        let response = match number.fetch_add(1, Ordering::SeqCst) < times {
            true => Response::builder()
                .status(status)
                .header(LOCATION, location)
                .body(Body::default()),
            false => Response::builder()
                .header("content-type", "application/json")
                .body(Body::from(
                    r#"{"access_token":"evil","issuer":"https://as.example","token_endpoint":"https://evil.example/token"}"#,
                )),
        };
        async { Ok::<_, BoxError>(response?) }
    });
    (BoxCloneSyncService::new(http), seen)
}

/// Of each request, whether it had an `Authorization` header.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<bool>>>);

impl Seen {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Follows redirects with each supported version of tower-http.
fn followers() -> [fn(Http) -> Http; 2] {
    fn box_up<L>(layer: L, http: Http) -> Http
    where
        L: Layer<Http>,
        L::Service: Service<Request<Body>, Response = Response<Body>, Error = BoxError>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send,
    {
        BoxCloneSyncService::new(layer.layer(http))
    }
    [
        |http| {
            box_up(
                tower_http::follow_redirect::FollowRedirectLayer::new(),
                http,
            )
        },
        |http| {
            box_up(
                tower_http_07::follow_redirect::FollowRedirectLayer::new(),
                http,
            )
        },
    ]
}

/// Clients whose requests are sent at once, and after their secret was obtained.
fn clients() -> [ClientAuthentication; 2] {
    let obtained = Credential::from_fn(|| async { Ok::<_, BoxError>(ClientSecret::new("s")) });
    [
        ClientAuthentication::client_secret_post("c", "s"),
        ClientAuthentication::client_secret_post("c", obtained),
    ]
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, TokenError>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{error}");
    assert!(!error.is_transient());
    assert!(error.to_string().contains("redirect"), "{error}");
}

/// Runs `test` for each status and target of a redirect, and for each version of tower-http.
async fn for_each_redirect<F: Future<Output = ()>>(test: impl Fn(Http) -> F) {
    for follow in followers() {
        for status in REDIRECTS {
            for location in ELSEWHERE {
                let (http, seen) = redirecting(status, location, 1);
                test(follow(http)).await;
                assert_eq!(seen.len(), 2, "the redirect was not followed");
            }
        }
    }
}

#[tokio::test]
async fn a_token_from_another_url_is_not_taken() {
    for client in clients() {
        for_each_redirect(async |http| {
            let endpoint = TokenEndpoint::new(http, TOKEN_ENDPOINT, client.clone());
            check(endpoint.oneshot(TokenRequest::client_credentials()).await);
        })
        .await;
    }
}

#[tokio::test]
async fn a_cache_does_not_hand_out_a_token_from_another_url() {
    for_each_redirect(async |http| {
        let [client, _] = clients();
        let cache = TokenCache::new(TokenEndpoint::new(http, TOKEN_ENDPOINT, client));
        let source = cache.source(TokenRequest::client_credentials());
        check(source.token().await);
    })
    .await;
}

#[tokio::test]
async fn a_token_is_not_revoked_by_a_success_from_another_url() {
    for client in clients() {
        for_each_redirect(async |http| {
            let endpoint =
                RevocationEndpoint::new(http, "https://as.example/revoke", client.clone());
            let request = RevocationRequest::new("r");
            check(endpoint.oneshot(request).await);
        })
        .await;
    }
}

/// Whoever could serve the metadata could name an endpoint that collects the secrets.
#[tokio::test]
async fn metadata_from_another_url_are_not_taken() {
    for follow in followers() {
        for status in [301, 302, 303, 307, 308] {
            for location in ELSEWHERE {
                // Each of the two well-known URIs is redirected.
                let redirects = Arc::new(Mutex::new(Vec::new()));
                let noted = redirects.clone();
                let http = service_fn(move |request: Request<Body>| {
                    let is_well_known = request.uri().path().starts_with("/.well-known/");
                    noted.lock().unwrap().push(request.uri().clone());
                    let (http, _) = redirecting(status, location, usize::from(is_well_known));
                    http.oneshot(request)
                });
                let http = follow(BoxCloneSyncService::new(http));
                let [client, _] = clients();
                let endpoint = TokenEndpoint::discover(http, "https://as.example", client);
                check(endpoint.oneshot(TokenRequest::client_credentials()).await);
                assert_eq!(redirects.lock().unwrap().len(), 4);
            }
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_redirect_is_taken() {
    for follow in followers() {
        for client in clients() {
            let (http, _) = redirecting(302, "/", 0);
            let endpoint =
                TokenEndpoint::new(follow(http), "HTTPS://AS.example:443/token?x#y", client);
            let response = endpoint.oneshot(TokenRequest::client_credentials()).await;
            let expected = AccessToken::new("evil", TokenType::BEARER).unwrap();
            assert_eq!(response.unwrap().access_token(), &expected);
        }
    }
}

#[tokio::test]
async fn a_redirect_that_is_not_followed_is_an_error() {
    for follow in followers() {
        for status in [307, 308] {
            let (http, seen) = redirecting(status, ELSEWHERE[0], 1);
            let [client, _] = clients();
            let endpoint = TokenEndpoint::new(follow(http), TOKEN_ENDPOINT, client);
            let request = TokenRequest::client_credentials();
            let error = endpoint.oneshot(request).await.unwrap_err();
            assert_eq!(error.status(), Some(StatusCode::from_u16(status).unwrap()));
            check(Err::<(), _>(error));
            assert_eq!(seen.len(), 1);
        }
    }
}

/// The docs of `TokenEndpoint` warn of tower-http 0.6. If this fails because it was fixed there, the docs can say so.
#[tokio::test]
async fn tower_http_0_6_sends_the_secret_again_with_a_second_redirect() {
    for (follow, expected) in followers().into_iter().zip([true, false]) {
        let (http, seen) = redirecting(302, "https://evil.example/token", 2);
        let client = ClientAuthentication::client_secret_basic("c", "s");
        let endpoint = TokenEndpoint::new(follow(http), TOKEN_ENDPOINT, client);
        check(endpoint.oneshot(TokenRequest::client_credentials()).await);
        assert_eq!(*seen.0.lock().unwrap(), [true, false, expected]);
    }
}
