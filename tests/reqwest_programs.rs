//! Programs over `ReqwestService` as a newcomer writes them. None of them names a type that the compiler could infer.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use reqwest::redirect::Policy;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};
use tower_oauth2_client::{
    AccessToken, AddAccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication,
    ReqwestService, TokenCache, TokenEndpoint, TokenRequest, TokenSource, TokenType,
    add_access_token::{BufferBody, CloneBody},
};

use self::support::{GOOD, Loopback, Script};

/// A server that is the token endpoint and the API in one.
async fn start() -> (Loopback, Uri) {
    let server = Loopback::start(|_| Script::good()).await;
    let uri = server.uri();
    (server, uri)
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}

fn client() -> reqwest::Client {
    builder().redirect(Policy::none()).build().unwrap()
}

fn credentials() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

fn layer(uri: &Uri) -> AddAccessTokenLayer {
    let token = AccessToken::new("t", TokenType::BEARER).unwrap();
    let layer = AddAccessTokenLayer::new(TokenSource::fixed(token));
    layer.origin(uri).unwrap()
}

/// Whether the last request that the server got had the token of [`layer`].
fn has_token(server: &Loopback) -> bool {
    let requests = server.requests();
    requests
        .last()
        .unwrap()
        .contains("authorization: Bearer t\r\n")
}

#[tokio::test]
async fn one_client_serves_the_token_endpoint_and_the_api() -> Result<(), BoxError> {
    let (server, uri) = start().await;
    let client = client();
    let endpoint = TokenEndpoint::new(
        ReqwestService::new(client.clone()),
        uri.clone(),
        credentials(),
    );
    let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    let mut api = ServiceBuilder::new()
        .layer(AddAccessTokenLayer::new(source).origin(&uri)?)
        .service(ReqwestService::new(client.clone()));
    let request = http::Request::try_from(client.post(uri.to_string()).body("hello").build()?)?;
    let response = reqwest::Response::from(api.ready().await?.call(request).await?);
    assert_eq!(response.text().await?, GOOD);
    assert!(server.requests()[1].contains("authorization: Bearer "));
    Ok(())
}

#[tokio::test]
async fn one_service_serves_the_token_endpoint_and_an_api_with_the_same_bodies()
-> Result<(), BoxError> {
    let (server, uri) = start().await;
    let http = ReqwestService::new(client());
    let tokens = TokenCache::new(TokenEndpoint::new(http.clone(), uri.clone(), credentials()));
    let source = tokens.source(TokenRequest::client_credentials());
    let mut api = ServiceBuilder::new()
        .layer(
            AddAccessTokenLayer::new(source)
                .origin(&uri)?
                .resend(CloneBody),
        )
        .service(http);
    let request = Request::get(&uri).body(Full::default())?;
    let response = api.ready().await?.call(request).await?;
    assert_eq!(response.into_body().collect().await?.to_bytes(), GOOD);
    assert_eq!(server.requests().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_token_endpoint_is_called_by_oneshot_and_by_ready() -> Result<(), BoxError> {
    let (_server, uri) = start().await;
    let http = ReqwestService::from(client());
    let mut endpoint = TokenEndpoint::new(http, uri, credentials());
    let request = TokenRequest::client_credentials();
    let token = endpoint.clone().oneshot(request.clone()).await?;
    let again = endpoint.ready().await?.call(request).await?;
    assert_eq!(
        token.access_token().expose_secret(),
        again.access_token().expose_secret()
    );
    Ok(())
}

#[tokio::test]
async fn the_bare_service_is_called_by_ready() -> Result<(), BoxError> {
    let (_server, uri) = start().await;
    let mut http = ReqwestService::new(client());
    let request = Request::get(&uri).body(String::new())?;
    let response = http.ready().await?.call(request).await?;
    assert_eq!(response.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn the_body_type_comes_from_the_request() -> Result<(), BoxError> {
    let (server, uri) = start().await;
    macro_rules! send {
        ($body:expr) => {
            let mut api = ServiceBuilder::new()
                .layer(layer(&uri))
                .service(ReqwestService::new(client()));
            let request = Request::post(&uri).body($body)?;
            api.ready().await?.call(request).await?;
        };
    }
    send!(reqwest::Body::from("a"));
    send!(Full::new(Bytes::from("a")));
    send!("a".to_owned());
    send!(axum::body::Body::from("a"));
    assert_eq!(server.requests().len(), 4);
    assert!(has_token(&server));
    Ok(())
}

#[tokio::test]
async fn layers_above_and_below_need_no_annotation() -> Result<(), BoxError> {
    let (server, uri) = start().await;
    let mut api = ServiceBuilder::new()
        .concurrency_limit(8)
        .timeout(Duration::from_secs(10))
        .layer(layer(&uri))
        .timeout(Duration::from_secs(5))
        .service(ReqwestService::new(client()));
    for _ in 0..2 {
        let request = Request::get(&uri).body(reqwest::Body::default())?;
        let response = api.ready().await?.call(request).await?;
        assert_eq!(response.status(), StatusCode::OK);
    }
    let mut buffered = ServiceBuilder::new().buffer(8).service(api);
    let request = Request::get(&uri).body(reqwest::Body::default())?;
    buffered.ready().await?.call(request).await?;
    assert!(has_token(&server));
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_a_stream_can_be_resent() -> Result<(), BoxError> {
    let (server, uri) = start().await;
    let mut api = ServiceBuilder::new()
        .layer(layer(&uri).resend(BufferBody::reqwest(64 * 1024)))
        .service(ReqwestService::new(client()));
    let request = http::Request::try_from(client().post(uri.to_string()).body("hello").build()?)?;
    api.ready().await?.call(request).await?;
    assert!(server.requests()[0].ends_with("\r\n\r\nhello"));
    Ok(())
}

#[tokio::test]
async fn stacks_are_boxed_in_every_way() -> Result<(), BoxError> {
    let (server, uri) = start().await;
    let stack = || {
        ServiceBuilder::new()
            .layer(layer(&uri))
            .service(ReqwestService::new(client()))
    };
    let request = || Request::get(&uri).body(reqwest::Body::default());

    let mut boxed = BoxCloneSyncService::new(stack());
    boxed.ready().await?.call(request()?).await?;
    let mut boxed = BoxCloneService::new(stack());
    boxed.ready().await?.call(request()?).await?;
    let mut boxed = BoxService::new(stack());
    boxed.ready().await?.call(request()?).await?;
    let mut boxed = ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        .layer(layer(&uri))
        .service(ReqwestService::new(client()));
    boxed.ready().await?.call(request()?).await?;
    let mut boxed = stack().boxed_clone();
    boxed.ready().await?.call(request()?).await?;
    assert!(has_token(&server));
    assert_eq!(server.requests().len(), 5);
    Ok(())
}

/// The state of an application.
#[derive(Clone)]
struct App {
    api: AddAccessToken<ReqwestService>,
    uri: Uri,
}

impl App {
    async fn orders(&self) -> Result<String, BoxError> {
        let request = Request::get(&self.uri).body(reqwest::Body::default())?;
        let response = self.api.clone().oneshot(request).await?;
        Ok(reqwest::Response::from(response).text().await?)
    }
}

#[tokio::test]
async fn a_struct_holds_the_service_without_naming_a_body() -> Result<(), BoxError> {
    let (_server, uri) = start().await;
    let api = ServiceBuilder::new()
        .layer(layer(&uri))
        .service(ReqwestService::new(client()));
    let app = App { api, uri };
    assert_eq!(app.orders().await?, GOOD);
    let calling = tokio::spawn(async move { app.orders().await });
    assert_eq!(calling.await??, GOOD);
    Ok(())
}

#[tokio::test]
async fn a_client_without_redirects_follows_none() -> Result<(), BoxError> {
    let location = "location: /elsewhere\r\n";
    let server = Loopback::start(move |_| Script::answer(307, location, "")).await;
    let api = ServiceBuilder::new()
        .layer(layer(&server.uri()))
        .service(ReqwestService::without_redirects(builder())?);
    let request = Request::get(server.uri()).body(reqwest::Body::default())?;
    let response = api.oneshot(request).await?;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(server.requests().len(), 1);
    Ok(())
}

/// The builder's own policy does not matter.
#[tokio::test]
async fn a_client_without_redirects_overrides_the_policy_of_its_builder() -> Result<(), BoxError> {
    let server = Loopback::start(|_| Script::answer(302, "location: /elsewhere\r\n", "")).await;
    let builder = builder().redirect(Policy::limited(5));
    let http = ReqwestService::without_redirects(builder)?;
    let client = http.client().clone();
    let request = Request::get(server.uri()).body(reqwest::Body::default())?;
    assert_eq!(http.oneshot(request).await?.status(), StatusCode::FOUND);
    let response = client.get(server.uri().to_string()).send().await?;
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(server.requests().len(), 2);
    Ok(())
}
