//! A small internet in this process: hosts that answer requests, and a record of what each of them got.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test file uses only some of it"
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt};
use tower_oauth2_client::{
    BoxError,
    authorization_code::AuthorizationResponse,
    authorize_anywhere::{
        AuthorizationUrl, AuthorizeAnywhere, AuthorizeAnywhereLayer, Identity, NotAuthorized,
        SignIn,
    },
    test_util::{AuthorizationServer, AuthorizationServerBuilder},
};

pub const URL: &str = "https://api.test/mcp";
pub const AT_PATH: &str = "/.well-known/oauth-protected-resource/mcp";
pub const ISSUER: &str = "https://as.test";

/// The client that each [`new_server`] knows.
pub fn secret() -> Identity {
    Identity::new().client_secret("client", "secret")
}

type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// See the [module](self).
#[derive(Clone, Default)]
pub struct World {
    hosts: Arc<Mutex<HashMap<String, Handler>>>,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl World {
    pub fn host(
        &self,
        host: &str,
        answers: impl Fn(Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) {
        let handler: Handler = Arc::new(move |request| {
            let response = answers(request);
            // Lets other requests go on, as a network would.
            Box::pin(async move {
                tokio::task::yield_now().await;
                response
            })
        });
        self.hosts.lock().unwrap().insert(host.to_owned(), handler);
    }

    /// Adds an authorization server. `first` may answer in its place.
    pub fn server_with(
        &self,
        host: &str,
        server: &AuthorizationServer,
        first: impl Fn(&Request<Bytes>) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) {
        let server = server.clone();
        let handler: Handler = Arc::new(move |request| {
            let first = first(&request);
            let server = server.clone();
            Box::pin(async move {
                if let Some(response) = first {
                    return response;
                }
                let response = server.oneshot(request.map(Full::new)).await.unwrap();
                let (parts, body) = response.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                Response::from_parts(parts, body)
            })
        });
        self.hosts.lock().unwrap().insert(host.to_owned(), handler);
    }

    pub fn server(&self, host: &str, server: &AuthorizationServer) {
        self.server_with(host, server, |_| None);
    }

    /// Returns what a host got.
    pub fn seen(&self, host: &str) -> Vec<Request<Bytes>> {
        let seen = self.seen.lock().unwrap();
        let is_it = |request: &&Request<Bytes>| request.uri().host() == Some(host);
        seen.iter().filter(is_it).cloned().collect()
    }

    /// Returns what was sent to a path of any host.
    pub fn seen_at(&self, path: &str) -> Vec<Request<Bytes>> {
        let seen = self.seen.lock().unwrap();
        let is_it = |request: &&Request<Bytes>| request.uri().path() == path;
        seen.iter().filter(is_it).cloned().collect()
    }

    /// Returns the names of all hosts that got anything.
    pub fn hosts(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let mut hosts: Vec<_> = seen
            .iter()
            .map(|it| it.uri().host().unwrap().to_owned())
            .collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Returns everything that was sent to a host, as one text.
    pub fn text_for(&self, host: &str) -> String {
        let requests = self.seen(host);
        let texts = requests.iter().map(|request| {
            let body = String::from_utf8_lossy(request.body()).into_owned();
            let headers = request.headers().iter();
            let headers: String = headers
                .map(|(name, value)| {
                    format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
                })
                .collect();
            format!(
                "{} {}\n{headers}\n{body}\n",
                request.method(),
                request.uri()
            )
        });
        texts.collect()
    }

    /// A layer over this world that allows nothing yet.
    pub fn layer(&self) -> AuthorizeAnywhereLayer {
        AuthorizeAnywhereLayer::new(self.clone())
    }

    /// A layer that allows one issuer, at which this user signs in.
    pub fn layer_with_sign_in(&self, user: &User) -> AuthorizeAnywhereLayer {
        let identity = secret().sign_in(user.sign_in());
        self.layer().issuer(ISSUER, identity)
    }

    pub fn client<R: Clone>(
        &self,
        layer: AuthorizeAnywhereLayer<R>,
    ) -> AuthorizeAnywhere<World, R> {
        layer.layer(self.clone())
    }
}

impl Service<Request<Full<Bytes>>> for World {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Full<Bytes>>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let world = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let request = Request::from_parts(parts, body);
            world.seen.lock().unwrap().push(request.clone());
            let host = request.uri().host().unwrap_or_default().to_owned();
            let handler = world.hosts.lock().unwrap().get(&host).cloned();
            match handler {
                Some(handler) => Ok(handler(request).await.map(Full::new)),
                None => Ok(not_found().map(Full::new)),
            }
        })
    }
}

pub type Client = AuthorizeAnywhere<World>;

pub async fn call<C>(client: &C, url: &str) -> Result<u16, BoxError>
where
    C: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = BoxError> + Clone,
{
    let request = Request::post(url).body(Full::from("hello")).unwrap();
    let response = client.clone().oneshot(request).await?;
    Ok(response.status().as_u16())
}

pub async fn refused(client: &Client, url: &str) -> NotAuthorized {
    let error = call(client, url).await.unwrap_err();
    error
        .downcast_ref::<NotAuthorized>()
        .unwrap_or_else(|| panic!("{error:?}"))
        .clone()
}

pub fn not_found() -> Response<Bytes> {
    let page = Bytes::from_static(b"<html>not found</html>");
    Response::builder().status(404).body(page).unwrap()
}

pub fn json_answer(document: &Value) -> Response<Bytes> {
    Response::new(document.to_string().into())
}

pub fn challenge(status: u16, challenge: &str) -> Response<Bytes> {
    let response = Response::builder().status(status);
    response
        .header(WWW_AUTHENTICATE, challenge)
        .body(Bytes::new())
        .unwrap()
}

/// Returns a field of a form, or of the query of a URL.
pub fn field(form: impl AsRef<[u8]>, name: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(form.as_ref());
    pairs
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

pub fn token_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("authorization")?.to_str().ok()?;
    Some(value.split_once(' ')?.1.to_owned())
}

/// The metadata of the API at [`URL`].
pub fn metadata_of_api(issuers: &[&str]) -> Value {
    json!({ "resource": URL, "authorization_servers": issuers })
}

/// An API at [`URL`] that accepts the tokens of `server`, and says so by the challenge of `demand`.
pub fn add_api(world: &World, server: &AuthorizationServer, metadata: Value, demand: &'static str) {
    let server = server.clone();
    world.host("api.test", move |request| match request.uri().path() {
        AT_PATH => json_answer(&metadata),
        _ if accepts(&server, request.headers()) => Response::new(Bytes::from_static(b"ok")),
        _ => challenge(401, demand),
    });
}

pub fn accepts(server: &AuthorizationServer, headers: &HeaderMap) -> bool {
    token_of(headers).is_some_and(|token| server.is_active(&token))
}

pub fn status(code: u16) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

pub fn new_server() -> AuthorizationServerBuilder {
    AuthorizationServer::builder()
        .issuer(ISSUER)
        .client("client", "secret")
}

/// A user who agrees to everything, and the URLs that the browser was sent to.
#[derive(Clone)]
pub struct User {
    pub urls: Arc<Mutex<Vec<AuthorizationUrl>>>,
    servers: Arc<Vec<AuthorizationServer>>,
}

impl User {
    pub fn of(servers: &[&AuthorizationServer]) -> Self {
        let servers = servers.iter().map(|&server| server.clone()).collect();
        Self {
            urls: Arc::default(),
            servers: Arc::new(servers),
        }
    }

    pub fn sign_in(&self) -> SignIn {
        let user = self.clone();
        SignIn::new(
            "http://127.0.0.1:7777/callback",
            move |url: AuthorizationUrl| {
                let user = user.clone();
                async move {
                    tokio::task::yield_now().await;
                    let is_it = |server: &&AuthorizationServer| server.issuer() == url.issuer();
                    let server = user.servers.iter().find(is_it).ok_or("unknown server")?;
                    let returned_to = server.authorize(url.as_str()).ok_or("no redirect")?;
                    user.urls.lock().unwrap().push(url);
                    Ok::<_, BoxError>(AuthorizationResponse::from_uri(returned_to))
                }
            },
        )
    }

    pub fn signed_in(&self) -> usize {
        self.urls.lock().unwrap().len()
    }
}
