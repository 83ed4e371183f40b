//! Endpoints and caches over the HTTP services that people have, without type annotations.

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, HttpService, RevocationRequest, TokenCache, TokenEndpoint,
    TokenRequest, test_util::AuthorizationServer,
};

const ISSUER: &str = "https://as.test";

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

async fn fetches(tokens: TokenCache) {
    let source = tokens.source(TokenRequest::client_credentials());
    source.token().await.unwrap();
}

#[tokio::test]
async fn a_hyper_client_with_the_body_of_axum() {
    let listening = AuthorizationServer::new().listen().await.unwrap();
    let http: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
    let uri = listening.token_endpoint();
    let issuer = format!("http://{}", uri.authority().unwrap());

    let known = TokenEndpoint::new(http.clone(), uri, client()).request_body(Body::from);
    fetches(TokenCache::new(known)).await;
    let discovered =
        TokenEndpoint::discover(http.clone(), &issuer, client()).request_body(Body::from);
    fetches(TokenCache::builder(discovered).max_entries(1).build()).await;

    let revocation = TokenEndpoint::discover(http, &issuer, client())
        .revocation()
        .request_body(Body::from);
    revocation
        .oneshot(RevocationRequest::new("t"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_router_with_any_body() {
    let server = AuthorizationServer::new();
    let handler = async move |request: Request<Body>| {
        let response = server.oneshot(request).await.unwrap();
        response.map(Body::new)
    };
    let router = Router::<()>::new().fallback(handler);
    fetches(TokenCache::new(TokenEndpoint::discover(
        router.clone(),
        ISSUER,
        client(),
    )))
    .await;
    let endpoint = TokenEndpoint::discover(router, ISSUER, client()).request_body(Body::from);
    fetches(TokenCache::new(endpoint)).await;
}

#[tokio::test]
async fn a_function_and_a_stack_of_layers() {
    let server = AuthorizationServer::new();
    let http = service_fn(move |request: Request<Full<Bytes>>| server.clone().oneshot(request));
    fetches(TokenCache::new(TokenEndpoint::discover(
        http.clone(),
        ISSUER,
        client(),
    )))
    .await;
    let stack = ServiceBuilder::new()
        .concurrency_limit(1)
        .buffer(1)
        .service(http.clone());
    fetches(TokenCache::new(TokenEndpoint::discover(
        stack,
        ISSUER,
        client(),
    )))
    .await;
    let boxed = BoxCloneService::new(http);
    fetches(TokenCache::new(TokenEndpoint::discover(
        boxed,
        ISSUER,
        client(),
    )))
    .await;
}

#[tokio::test]
async fn a_generic_function_needs_one_bound() {
    fn tokens(http: impl HttpService<Full<Bytes>>) -> TokenCache {
        TokenCache::new(TokenEndpoint::discover(http, ISSUER, client()))
    }
    fn tokens_over<S>(http: S, uri: Uri) -> TokenCache
    where
        S: tower::Service<Request<Body>, Response = http::Response<Body>, Error = BoxError>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        TokenCache::new(TokenEndpoint::new(http, uri, client()).request_body(Body::from))
    }
    let server = AuthorizationServer::new();
    fetches(tokens(server.clone())).await;
    let uri = server.token_endpoint();
    let http = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(Body::new))
        .map_err(BoxError::from)
        .service(server);
    fetches(tokens_over(http, uri)).await;
}

#[tokio::test]
async fn each_kind_of_uri_is_taken_without_conversion() {
    let server = AuthorizationServer::new();
    let (uri, text) = (server.token_endpoint(), server.token_endpoint().to_string());
    let url = url::Url::parse(&text).unwrap();
    let request = TokenRequest::client_credentials;
    for request in [
        request().token_endpoint("https://as.test/token"),
        request().token_endpoint(&text),
        request().token_endpoint(text.clone()),
        request().token_endpoint(&uri),
        request().token_endpoint(uri.clone()),
        request().token_endpoint(&url),
        request().token_endpoint(url.clone()),
    ] {
        assert_eq!(
            request,
            TokenRequest::client_credentials().token_endpoint(uri.clone())
        );
    }
    for endpoint in [
        TokenEndpoint::new(server.clone(), &text, client()),
        TokenEndpoint::new(server.clone(), text.clone(), client()),
        TokenEndpoint::new(server.clone(), &uri, client()),
        TokenEndpoint::new(server.clone(), &url, client()),
        TokenEndpoint::new(server.clone(), url.clone(), client()),
    ] {
        assert_eq!(endpoint.uri(), Some(&uri));
        endpoint.oneshot(request()).await.unwrap();
    }
}
