//! axum handlers that call another API, each with the token of the tenant on whose behalf it acts.
//!
//! It starts an authorization server, the API, and the service with the handlers. Then it calls the service for two tenants.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, Request, StatusCode, header::RETRY_AFTER, request::Parts};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, TokenCache, TokenEndpoint,
    TokenError, TokenRequest,
    test_util::{AuthorizationServer, Failure},
};

/// Each tenant has its own client at the authorization server.
const TENANTS: [(&str, &str); 2] = [("acme", "secret of acme"), ("globex", "secret of globex")];
const X_TENANT: &str = "x-tenant";
const CALLS: usize = 20;

type Http = Client<HttpConnector, Body>;

/// The state shared by all handlers.
#[derive(Clone)]
struct App {
    api: AddAccessToken<Http>,
    origin: Arc<str>,
}

/// The tenant on whose behalf a handler acts. In production, derive it from the authenticated caller, not from a header alone.
struct Tenant(&'static str, ClientAuthentication);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let known = TENANTS
            .into_iter()
            .find(|(name, _)| parts.headers.get(X_TENANT).is_some_and(|sent| sent == name));
        let (name, secret) = known.ok_or(StatusCode::NOT_FOUND)?;
        Ok(Self(
            name,
            ClientAuthentication::client_secret_basic(name, secret),
        ))
    }
}

/// The layer chooses the token by a header of the request.
async fn orders(State(app): State<App>, Tenant(name, _): Tenant) -> Result<Response, ApiError> {
    let request = Request::get(format!("{}/orders", app.origin)).header(X_TENANT, name);
    app.send(request).await
}

/// The request carries the wanted token request in its extensions.
async fn reports(State(app): State<App>, Tenant(_, client): Tenant) -> Result<Response, ApiError> {
    let token = TokenRequest::client_credentials()
        .client_authentication(client)
        .scope("reports");
    let request = Request::get(format!("{}/reports", app.origin)).extension(token);
    app.send(request).await
}

impl App {
    async fn send(self, request: http::request::Builder) -> Result<Response, ApiError> {
        let request = request
            .body(Body::empty())
            .map_err(|error| ApiError(error.into()))?;
        let response = self.api.oneshot(request).await.map_err(ApiError)?;
        Ok(response.map(Body::new))
    }
}

/// An error of a call to the API, and the response that the caller of the handler gets for it.
struct ApiError(BoxError);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        eprintln!("the call to the API failed: {}", self.0);
        match TokenError::find_in_chain(&*self.0) {
            Some(error) if error.is_transient() => {
                let wait = error.retry_after().map_or(1, |wait| wait.as_secs());
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    [(RETRY_AFTER, wait.to_string())],
                )
                    .into_response()
            }
            _ => StatusCode::BAD_GATEWAY.into_response(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut server = AuthorizationServer::builder().client("service", "secret");
    for (name, secret) in TENANTS {
        server = server.client(name, secret);
    }
    let server = server.build();
    let listening = server.listen().await?;
    let api_address = serve(api(server.clone())).await?;

    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let endpoint = TokenEndpoint::new(
        http.clone(),
        listening.token_endpoint(),
        ClientAuthentication::client_secret_basic("service", "secret"),
    )
    .request_body(Body::from);
    let tokens = TokenCache::builder(endpoint).max_entries(1_000).build();

    let base = TokenRequest::client_credentials();
    let origin = format!("http://{api_address}");
    let layer = AddAccessTokenLayer::new(tokens.source(base.clone()))
        .origin(&origin)?
        .token_request_for(move |request| {
            match request.headers.get(X_TENANT).map(|name| name.to_str()) {
                Some(Ok(name)) => base.clone().scope(format!("tenant:{name}")),
                _ => base.clone(),
            }
        });
    let app = App {
        api: ServiceBuilder::new().layer(layer).service(http.clone()),
        origin: origin.into(),
    };
    let router = Router::new()
        .route("/orders", get(orders))
        .route("/reports", get(reports))
        .with_state(app);
    let origin = format!("http://{}", serve(router).await?);

    let mut calls = JoinSet::new();
    for (name, _) in TENANTS {
        for (path, answer) in [
            ("/orders", format!("service, tenant:{name}")),
            ("/reports", format!("{name}, reports")),
        ] {
            println!("{path} for {name}: expecting client and scope {answer}");
            for _ in 0..CALLS {
                let (call, answer) = (call(&http, &origin, path, name), answer.clone());
                calls.spawn(async move { call.await.map(|got| (got, (StatusCode::OK, answer))) });
            }
        }
    }
    while let Some(done) = calls.join_next().await {
        let (got, expected) = done??;
        assert_eq!(got, expected);
    }
    assert_eq!(server.token_requests(), 4, "one per token");

    let (status, _) = call(&http, &origin, "/orders", "nobody").await?;
    assert_eq!(status, StatusCode::NOT_FOUND);
    tokens.invalidate_all();
    server.fail_until_told(Failure::status(503));
    let (status, _) = call(&http, &origin, "/orders", "acme").await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    Ok(())
}

/// Calls the service as a user would.
fn call(
    http: &Http,
    origin: &str,
    path: &str,
    tenant: &str,
) -> impl Future<Output = Result<(StatusCode, String), BoxError>> + Send + use<> {
    let request = Request::get(format!("{origin}{path}")).header(X_TENANT, tenant);
    let http = http.clone();
    async move {
        let response = http.request(request.body(Body::empty())?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8(body.into())?))
    }
}

/// The API: it answers with the client and the scope of the token.
fn api(server: AuthorizationServer) -> Router {
    Router::new().fallback(
        async move |headers: HeaderMap| -> Result<String, Response> {
            server
                .check_bearer(&headers)
                .map_err(|refusal| refusal.map(Body::new))?;
            let bearer = headers["authorization"].to_str().unwrap_or_default();
            let state = server.introspect(bearer.trim_start_matches("Bearer "));
            let text = |name| state[name].as_str().unwrap_or_default();
            Ok(format!("{}, {}", text("client_id"), text("scope")))
        },
    )
}

/// Serves on a free loopback port.
async fn serve(router: Router) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}
