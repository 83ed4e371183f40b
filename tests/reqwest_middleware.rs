//! `AddAccessTokenLayer` as a middleware of reqwest-middleware.
#![cfg(feature = "reqwest-middleware")]

mod support;

use std::io;

use bytes::Bytes;
use http::{Extensions, HeaderName, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest::{Client, Request, Response, redirect::Policy};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next, Result};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, ClientAuthentication, DpopKey, NoAccessToken, TokenCache,
    TokenError, TokenErrorKind, TokenRequest, TokenSource, TokenType,
    add_access_token::{
        AccessTokenRefused, BufferBody, CloneBody, InsecureTransport, NoOriginNamed, NoResend,
        Resend,
    },
};

use self::support::{GOOD, Loopback, Recorder, Script, answer, unreachable_uri};

type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

const REFUSAL: &str = "www-authenticate: Bearer error=\"invalid_token\"\r\n";

fn client() -> Client {
    let builder = Client::builder().no_proxy().redirect(Policy::none());
    builder.build().unwrap()
}

fn with(middleware: impl Middleware) -> ClientWithMiddleware {
    ClientBuilder::new(client()).with(middleware).build()
}

/// The tokens are `t0`, `t1` and so on.
fn source() -> TokenSource {
    let issuing = Recorder::new(|number| {
        let token = format!(r#"{{"access_token":"t{number}","token_type":"Bearer"}}"#);
        answer(200, token)
    });
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    TokenCache::new(issuing.endpoint(client)).source(TokenRequest::client_credentials())
}

fn layer(server: &Loopback) -> AddAccessTokenLayer {
    AddAccessTokenLayer::new(source())
        .origin(server.uri())
        .unwrap()
}

fn url(server: &Loopback) -> String {
    server.uri().to_string()
}

/// The tokens of the requests that the server got.
fn tokens(server: &Loopback) -> Vec<Option<String>> {
    let token = |request: &String| {
        let (_, rest) = request.split_once("authorization: Bearer ")?;
        rest.split_once("\r\n").map(|(token, _)| token.to_owned())
    };
    server.requests().iter().map(token).collect()
}

fn some(tokens: &[&str]) -> Vec<Option<String>> {
    tokens.iter().map(|token| Some((*token).into())).collect()
}

async fn refusing(refused: usize) -> Loopback {
    Loopback::start(move |number| match number < refused {
        true => Script::answer(401, REFUSAL, "no"),
        false => Script::good(),
    })
    .await
}

fn stream() -> reqwest::Body {
    let chunks = ["one ", "two"].map(|text| Ok::<_, io::Error>(Frame::data(Bytes::from(text))));
    reqwest::Body::wrap(StreamBody::new(tokio_stream::iter(chunks)))
}

#[tokio::test]
async fn every_request_gets_the_token_and_the_response_is_unchanged() {
    let server = Loopback::start(|_| Script::answer(200, "x-kind: good\r\n", GOOD)).await;
    let api = with(layer(&server));
    for _ in 0..2 {
        let url = format!("{}?a=b", url(&server));
        let request = api
            .post(format!("{url}#c"))
            .header("x-asked", "yes")
            .body("hello");
        let response = request.send().await.unwrap();
        assert_eq!(response.url().as_str(), url);
        assert_eq!(response.headers()["x-kind"], "good");
        assert_eq!(response.content_length(), Some(GOOD.len() as u64));
        assert!(response.remote_addr().is_some());
        assert_eq!(response.text().await.unwrap(), GOOD);
    }
    assert_eq!(tokens(&server), some(&["t0", "t0"]));
    for request in server.requests() {
        assert!(
            request.starts_with("POST /token?a=b HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("x-asked: yes\r\n"), "{request}");
        assert!(request.contains("content-length: 5\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    }
}

#[tokio::test]
async fn other_origins_and_own_headers_go_without_a_token() {
    let (server, other) = (refusing(0).await, refusing(0).await);
    let api = with(layer(&server));
    api.get(url(&other)).send().await.unwrap();
    assert_eq!(tokens(&other), [None]);
    let own = api.get(url(&server)).bearer_auth("own");
    own.send().await.unwrap();
    assert_eq!(tokens(&server), some(&["own"]));
}

#[tokio::test]
async fn two_layers_serve_two_apis() {
    let (one, two) = (refusing(0).await, refusing(0).await);
    let fixed = |text: &str, server: &Loopback| {
        let token = AccessToken::new(text, TokenType::BEARER).unwrap();
        let layer = AddAccessTokenLayer::new(TokenSource::fixed(token));
        layer.origin(server.uri()).unwrap()
    };
    let api = ClientBuilder::new(client())
        .with(fixed("one", &one))
        .with(fixed("two", &two))
        .build();
    for server in [&one, &two] {
        api.get(url(server)).send().await.unwrap();
    }
    assert_eq!(tokens(&one), some(&["one"]));
    assert_eq!(tokens(&two), some(&["two"]));
}

#[tokio::test]
async fn a_refused_request_is_resent_once_with_another_token() {
    let server = refusing(1).await;
    let api = with(layer(&server).resend(CloneBody));
    let response = api.post(url(&server)).body("hello").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(tokens(&server), some(&["t0", "t1"]));
    for request in server.requests() {
        assert!(request.contains("content-length: 5\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    }
    let response = api.get(url(&server)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);

    let server = refusing(usize::MAX).await;
    let api = with(layer(&server).resend(CloneBody));
    let response = api.get(url(&server)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(tokens(&server), some(&["t0", "t1"]));
}

/// reqwest cannot clone a stream. The next request gets another token.
#[tokio::test]
async fn a_stream_is_not_resent_but_its_refusal_counts() {
    let server = refusing(1).await;
    let api = with(layer(&server).resend(CloneBody));
    let post = || api.post(url(&server)).body(stream()).send();
    let response = post().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.extensions().get::<AccessTokenRefused>().is_some());
    assert_eq!(response.text().await.unwrap(), "no");
    assert_eq!(post().await.unwrap().status(), StatusCode::OK);
    assert_eq!(tokens(&server), some(&["t0", "t1"]));
}

#[tokio::test]
async fn a_buffered_stream_is_resent_once_with_another_token() {
    let server = refusing(1).await;
    let api = with(layer(&server).resend(BufferBody::reqwest(100)));
    let post = api.post(url(&server)).header("x-order", "7").body(stream());
    assert_eq!(post.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(tokens(&server), some(&["t0", "t1"]));
    let requests = server.requests();
    let bodies = requests.iter().map(|request| {
        assert!(request.contains("x-order: 7\r\n"), "{request}");
        request.split_once("\r\n\r\n").unwrap().1
    });
    let bodies: Vec<_> = bodies.collect();
    assert!(bodies[0].contains("one ") && bodies[0].contains("two"));
    // What was recorded whole has a known length.
    assert_eq!(bodies[1], "one two");

    // Requests without a body, and with one that is known, are resent as with `CloneBody`.
    for body in [None, Some("hello")] {
        let server = refusing(1).await;
        let api = with(layer(&server).resend(BufferBody::reqwest(100)));
        let mut post = api.post(url(&server));
        if let Some(body) = body {
            post = post.body(body);
        }
        assert_eq!(post.send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(tokens(&server), some(&["t0", "t1"]));
        for request in server.requests() {
            assert!(request.ends_with(body.unwrap_or("\r\n\r\n")), "{request}");
        }
    }

    // A stream above the limit is sent once.
    let server = refusing(usize::MAX).await;
    let api = with(layer(&server).resend(BufferBody::reqwest(6)));
    let response = api.post(url(&server)).body(stream()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(tokens(&server), some(&["t0"]));
}

#[tokio::test]
async fn the_refusal_is_returned_without_resending() {
    let server = refusing(1).await;
    let api = with(layer(&server));
    let response = api.get(url(&server)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.extensions().get::<AccessTokenRefused>().is_some());
    api.get(url(&server)).send().await.unwrap();
    assert_eq!(tokens(&server), some(&["t0", "t1"]));
}

#[tokio::test]
async fn extensions_of_a_request_choose_its_token() {
    let server = refusing(0).await;
    let api = with(layer(&server));
    let get = || api.get(url(&server));
    let token = AccessToken::new("mine", TokenType::BEARER).unwrap();
    let mine = TokenSource::fixed(token);
    get().with_extension(mine).send().await.unwrap();
    get().with_extension(NoAccessToken).send().await.unwrap();
    let scoped = TokenRequest::client_credentials().scope("other");
    get().with_extension(scoped).send().await.unwrap();
    get().send().await.unwrap();
    let expected = [Some("mine"), None, Some("t0"), Some("t1")].map(|it| it.map(String::from));
    assert_eq!(tokens(&server), expected);
}

#[tokio::test]
async fn a_proof_is_made_for_a_token_that_is_bound_to_a_key() {
    let server = refusing(0).await;
    let token = AccessToken::new("bound", TokenType::DPOP).unwrap();
    let source = TokenSource::fixed(token.bound_to(DpopKey::generate().unwrap()));
    let layer = AddAccessTokenLayer::new(source)
        .origin(server.uri())
        .unwrap();
    with(layer).get(url(&server)).send().await.unwrap();
    let request = &server.requests()[0];
    assert!(
        request.contains("authorization: DPoP bound\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\ndpop: ey"), "{request}");
}

/// The error of a request that must not be sent.
async fn error_of<R>(layer: AddAccessTokenLayer<R>, url: String) -> Error
where
    AddAccessTokenLayer<R>: Middleware,
{
    let error = with(layer).get(url).send().await.unwrap_err();
    assert!(error.is_middleware());
    error
}

fn find<E: std::error::Error + 'static>(error: &Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).any(|error| error.is::<E>())
}

#[tokio::test]
async fn nothing_is_sent_without_a_token_and_the_error_is_found() {
    let server = refusing(0).await;
    let issuing = Recorder::new(|_| answer(401, r#"{"error":"invalid_client"}"#));
    let client = ClientAuthentication::client_secret_basic("client", "hush-hush");
    let source =
        TokenCache::new(issuing.endpoint(client)).source(TokenRequest::client_credentials());
    let layer = AddAccessTokenLayer::new(source).origin(server.uri());
    let error = error_of(layer.unwrap(), url(&server)).await;
    let token_error = TokenError::find_in_chain(&error).unwrap();
    assert_eq!(token_error.kind(), TokenErrorKind::ErrorResponse);
    assert!(
        error.to_string().contains(&token_error.to_string()),
        "{error}"
    );
    let printed = format!("{error} {error:?} {error:#?}");
    assert!(!printed.contains("hush-hush"), "{printed}");

    let unnamed = AddAccessTokenLayer::new(self::source());
    let error = error_of(unnamed.resend(CloneBody), url(&server)).await;
    assert!(find::<NoOriginNamed>(&error), "{error:?}");
    let http = AddAccessTokenLayer::new(self::source()).origin("http://api.example");
    let error = error_of(http.unwrap(), "http://api.example".into()).await;
    assert!(find::<InsecureTransport>(&error), "{error:?}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn errors_of_reqwest_are_unchanged() {
    let uri = unreachable_uri().await;
    let layer = AddAccessTokenLayer::new(source()).origin(&uri).unwrap();
    let error = with(layer).get(uri.to_string()).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert!(error.url().is_some());
}

#[derive(Clone, Debug, PartialEq)]
struct Note(&'static str);

/// Leaves a note, and fails if another one asks for it.
fn note<'a>(
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
) -> BoxFuture<'a, Result<Response>> {
    Box::pin(async move {
        if extensions.get() == Some(&Note("fail")) {
            let error = io::Error::other("below");
            return Err(Error::middleware(error));
        }
        let response = next.run(request, extensions).await?;
        extensions.insert(Note("sent"));
        Ok(response)
    })
}

/// Sends a request until it succeeds. Requires that the middlewares below have left a note.
fn retry<'a>(
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
) -> BoxFuture<'a, Result<Response>> {
    Box::pin(async move {
        loop {
            let request = request.try_clone().unwrap();
            let response = next.clone().run(request, extensions).await?;
            assert_eq!(extensions.get(), Some(&Note("sent")));
            if response.status() == StatusCode::OK {
                return Ok(response);
            }
        }
    })
}

#[tokio::test]
async fn middlewares_above_and_below_work_together() {
    async fn check<R: Resend<()>>(layer: AddAccessTokenLayer<R>, refused: usize)
    where
        AddAccessTokenLayer<R>: Middleware,
    {
        let server = refusing(refused).await;
        let layer = layer.origin(server.uri()).unwrap();
        let api = ClientBuilder::new(client())
            .with(retry)
            .with(layer)
            .with(note)
            .build();
        api.post(url(&server)).body("hello").send().await.unwrap();
        assert_eq!(tokens(&server), some(&["t0", "t1"]));
        let error = api.get(url(&server)).with_extension(Note("fail"));
        let Error::Middleware(error) = error.send().await.unwrap_err() else {
            panic!("it is an error of a middleware");
        };
        let error: &io::Error = error.downcast_ref().unwrap();
        assert_eq!(error.to_string(), "below");
    }
    check(AddAccessTokenLayer::new(source()).resend(NoResend), 1).await;
    check(AddAccessTokenLayer::new(source()).resend(CloneBody), 1).await;
}

/// It is for the upper layer, also when a middleware above sends the request again.
#[tokio::test]
async fn the_source_of_a_request_is_not_for_a_second_layer() {
    let server = refusing(1).await;
    let name = HeaderName::from_static("x-serverless-authorization");
    let api = ClientBuilder::new(client())
        .with(retry)
        .with(layer(&server))
        .with(note)
        .with(layer(&server).header(name))
        .build();
    let mine = TokenSource::fixed(AccessToken::new("mine", TokenType::BEARER).unwrap());
    let get = api.get(url(&server)).with_extension(mine);
    get.send().await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for (request, lower) in requests.iter().zip(["t0", "t1"]) {
        for (name, token) in [("", "mine"), ("x-serverless-", lower)] {
            let line = format!("\r\n{name}authorization: Bearer {token}\r\n");
            assert!(request.contains(&line), "{request}");
        }
    }
}

/// reqwest would follow it below the layer.
#[tokio::test]
async fn a_redirect_is_returned_if_the_client_follows_none() {
    let other = refusing(0).await;
    let location = format!("location: {}\r\n", other.uri());
    let server = Loopback::start(move |_| Script::answer(307, &location, "")).await;
    let api = with(layer(&server));
    let response = api.get(url(&server)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn concurrent_requests_share_one_fetch() {
    let server = refusing(0).await;
    let api = with(layer(&server).resend(CloneBody));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (api, url) = (api.clone(), url(&server));
        calls.spawn(async move { api.get(url).send().await.unwrap().status() });
    }
    let statuses = calls.join_all().await;
    assert!(statuses.iter().all(|status| status.is_success()));
    assert_eq!(tokens(&server), some(&["t0"; 20]));
}
