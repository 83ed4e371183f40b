//! An axum handler that calls another API with the token of the tenant on whose behalf it acts.
//!
//! It starts an authorization server, the API, and the service with the handler. Then it calls the service for two tenants, for an unknown
//! one, and while the authorization server fails. The example `tenants` shows tenants that change.

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, Request, StatusCode, header::RETRY_AFTER};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, HttpsClient, TokenCache,
    TokenEndpoint, TokenError, TokenRequest, TokenSources,
    test_util::{AuthorizationServer, Failure},
};

/// Each tenant has its own client at the authorization server.
const TENANTS: [(&str, &str); 2] = [("acme", "secret of acme"), ("globex", "secret of globex")];

/// The state shared by all handlers.
#[derive(Clone)]
struct App {
    api: AddAccessToken<HttpsClient<Body>>,
    origin: String,
    /// The source of each tenant, by its name.
    sources: TokenSources<String, Option<TokenRequest>>,
}

/// Forwards the orders of a tenant. In production, derive the tenant from the authenticated caller, not from the path alone.
async fn orders(
    State(app): State<App>,
    Path(tenant): Path<String>,
) -> Result<Response, CallFailed> {
    let Some(source) = app.sources.get(&tenant) else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    // The layer takes the token of this source.
    let request = Request::get(format!("{}/orders", app.origin))
        .extension(source)
        .body(Body::empty())?;
    let response = app.api.oneshot(request).await?;
    Ok(response.map(Body::new))
}

/// The token request of a tenant, which is made once. `None` if there is no such tenant.
fn token_request(tenant: &String) -> Option<TokenRequest> {
    let (name, secret) = TENANTS.into_iter().find(|(name, _)| name == tenant)?;
    let request = TokenRequest::client_credentials()
        .client_authentication(ClientAuthentication::client_secret_basic(name, secret))
        .scope("orders")
        .label(name);
    Some(request)
}

/// A call to the API failed. The caller of the handler gets 503 if a later call may succeed.
struct CallFailed(BoxError);

impl<E: Into<BoxError>> From<E> for CallFailed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for CallFailed {
    fn into_response(self) -> Response {
        eprintln!("the call to the API failed: {:#}", self.0);
        match TokenError::find_in_chain(&*self.0) {
            Some(error) if error.is_transient() => {
                let wait = error.retry_after().map_or(1, |wait| wait.as_secs());
                let retry_after = [(RETRY_AFTER, wait.to_string())];
                (StatusCode::SERVICE_UNAVAILABLE, retry_after).into_response()
            }
            _ => StatusCode::BAD_GATEWAY.into_response(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!("axum: a service calls an API for two tenants, each with a token of its own");
    let mut server = AuthorizationServer::builder().client("service", "secret");
    for (name, secret) in TENANTS {
        server = server.client(name, secret);
    }
    let server = server.build();
    let listening = server.listen().await?;
    let api_origin = serve(api(server.clone())).await?;

    // An application only needs this part.
    let endpoint = TokenEndpoint::new(
        HttpsClient::new()?,
        listening.token_endpoint(),
        ClientAuthentication::client_secret_basic("service", "secret"),
    );
    let tokens = TokenCache::builder(endpoint).max_entries(1_000).build();
    // The token of the service itself, for requests that name no other.
    let source = tokens.source(TokenRequest::client_credentials().scope("orders"));
    let layer = AddAccessTokenLayer::new(source).origin(&api_origin)?;
    let app = App {
        api: ServiceBuilder::new()
            .layer(layer)
            .service(HttpsClient::new()?),
        origin: api_origin,
        sources: tokens.sources_by(token_request),
    };
    let router = Router::new()
        .route("/{tenant}/orders", get(orders))
        .with_state(app);

    let origin = serve(router).await?;
    let user = reqwest::Client::builder().no_proxy().build()?;
    let mut calls = JoinSet::new();
    for (name, _) in TENANTS.repeat(20) {
        let call = user.get(format!("{origin}/{name}/orders")).send();
        calls.spawn(async move {
            let response = call.await?.error_for_status()?;
            assert_eq!(response.text().await?, format!("orders of {name}"));
            Ok::<_, BoxError>(())
        });
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    assert_eq!(server.token_requests(), 2, "one per tenant");
    println!("40 calls: {} token requests", server.token_requests());

    let call = user.get(format!("{origin}/nobody/orders"));
    let response = call.send().await?;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    tokens.invalidate_all();
    server.fail_until_told(Failure::status(503));
    let call = user.get(format!("{origin}/acme/orders"));
    let response = call.send().await?;
    println!("the authorization server fails: {}", response.status());
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    Ok(())
}

/// The API: it answers with the client of the token.
fn api(server: AuthorizationServer) -> Router {
    let orders = async move |headers: HeaderMap| -> Result<String, Response> {
        let checked = server.check_bearer(&headers);
        checked.map_err(|refusal| refusal.map(Body::new))?;
        let bearer = headers["authorization"].to_str().unwrap_or_default();
        let state = server.introspect(bearer.trim_start_matches("Bearer "));
        let client = state["client_id"].as_str().unwrap_or_default();
        Ok(format!("orders of {client}"))
    };
    Router::new().route("/orders", get(orders))
}

/// Serves on a free loopback port, and returns the origin.
async fn serve(router: Router) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(origin)
}
