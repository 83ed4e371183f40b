//! A service with many tenants, each with its own authorization server, client and scope, and one cache for all of them.
//!
//! It starts two authorization servers. Then two tenants fetch tokens at the same time, one has a wrong secret that is corrected, and one is
//! deleted. The program knows a tenant by its id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::task::JoinSet;
use tower::{ServiceExt, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, HttpsClient, TokenCache, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenSource, TokenSources, test_util::AuthorizationServer,
};
use tracing_subscriber::filter::LevelFilter;

/// What an operator has configured for a tenant.
#[derive(Clone)]
struct Tenant {
    issuer: String,
    client_id: &'static str,
    secret: &'static str,
    scope: &'static str,
}

/// The tenants by their ids. In production this is a database, or a copy of it in memory.
#[derive(Clone, Default)]
struct Tenants(Arc<RwLock<HashMap<String, Tenant>>>);

impl Tenants {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Tenant>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Tenant>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the token request of a tenant, if there is such a tenant.
    ///
    /// The issuer is the partition, because nothing else in the request tells it.
    fn token_request(&self, id: &String) -> Option<TokenRequest> {
        let tenant = self.read().get(id)?.clone();
        let client = ClientAuthentication::client_secret_basic(tenant.client_id, tenant.secret);
        let request = TokenRequest::client_credentials()
            .client_authentication(client)
            .scope(tenant.scope)
            .partition(tenant.issuer)
            .label(format!("tenant {id}"));
        Some(request)
    }
}

/// The service: what its handlers share.
#[derive(Clone)]
struct Service {
    tenants: Tenants,
    tokens: TokenCache,
    sources: TokenSources<String, Option<TokenRequest>>,
}

impl Service {
    fn new(tenants: Tenants) -> Result<Self, BoxError> {
        let tokens = TokenCache::builder(by_issuer(HttpsClient::new()?))
            .max_entries(10_000)
            .build();
        let known = tenants.clone();
        let sources = tokens.sources_by(move |id: &String| known.token_request(id));
        Ok(Self {
            tenants,
            tokens,
            sources,
        })
    }

    /// Returns the source of a tenant. A handler gives it to the layer with `request.extensions_mut().insert(source)`.
    fn source(&self, id: &str) -> Result<TokenSource, BoxError> {
        let source = self.sources.get(id);
        source.ok_or_else(|| format!("there is no tenant {id}").into())
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Tenant)) {
        if let Some(tenant) = self.tenants.write().get_mut(id) {
            change(tenant);
        }
        // After the change, so that the next request is made of what holds now.
        self.sources.remove(id);
    }

    fn delete(&self, id: &str) {
        self.tenants.write().remove(id);
        self.sources.remove(id);
    }

    fn print_status(&self) {
        for token in self.tokens.status() {
            let whose = token.label().unwrap_or("a token without a label");
            println!("  {whose}: {:?}, host {:?}", token.state(), token.host());
        }
    }
}

/// Sends each token request to the issuer that its partition names. Each issuer is discovered once.
fn by_issuer(
    http: HttpsClient,
) -> impl tower::Service<
    TokenRequest,
    Response = tower_oauth2_client::TokenResponse,
    Error = TokenError,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let endpoints = Arc::new(Mutex::new(
        HashMap::<String, TokenEndpoint<HttpsClient>>::new(),
    ));
    service_fn(move |request: TokenRequest| {
        let endpoint = request.get_partition().map(|issuer| {
            let mut endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            let discover = || {
                // Each request has its own client.
                let client = ClientAuthentication::anonymous();
                TokenEndpoint::discover(http.clone(), issuer, client)
            };
            let endpoint = endpoints.entry(issuer.to_owned());
            endpoint.or_insert_with(discover).clone()
        });
        async move {
            let error = TokenError::builder(TokenErrorKind::Request);
            let unnamed = || error.message("the request names no issuer").build();
            endpoint.ok_or_else(unnamed)?.oneshot(request).await
        }
    })
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!("tenants: three tenants at two authorization servers");
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(std::io::stdout)
        .without_time()
        .init();
    let shared = AuthorizationServer::builder()
        .client("acme-client", "secret of acme")
        .client("globex-client", "secret of globex");
    let shared = shared.start().await?;
    let own = AuthorizationServer::builder().client("initech-client", "secret of initech");
    let own = own.start().await?;

    let tenant = |issuer: String, client_id, secret, scope| Tenant {
        issuer,
        client_id,
        secret,
        scope,
    };
    let tenants = Tenants::default();
    tenants.write().extend([
        (
            "acme".to_owned(),
            tenant(shared.issuer(), "acme-client", "secret of acme", "orders"),
        ),
        (
            "globex".to_owned(),
            tenant(shared.issuer(), "globex-client", "a typo", "orders bills"),
        ),
        (
            "initech".to_owned(),
            tenant(
                own.issuer(),
                "initech-client",
                "secret of initech",
                "orders",
            ),
        ),
    ]);

    // An application only needs this part.
    let service = Service::new(tenants)?;

    println!("\n40 calls for each of two tenants");
    let mut calls = JoinSet::new();
    for id in ["acme", "initech"].repeat(40) {
        let source = service.source(id)?;
        calls.spawn(async move { source.token().await.map(drop) });
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    assert_eq!((shared.token_requests(), own.token_requests()), (1, 1));
    service.print_status();

    println!("\nthe secret of a tenant is wrong, until somebody corrects it");
    let error = service.source("globex")?.token().await.unwrap_err();
    println!("  {error}");
    assert_eq!(error.label(), Some("tenant globex"));
    service.change("globex", |tenant| tenant.secret = "secret of globex");
    let token = service.source("globex")?.token().await?;
    println!("  globex has a token for {:?}", token.scope());
    assert_eq!(service.tokens.health().failing(), 0);

    println!("\na tenant is deleted, and its token is kept warm no longer");
    service.source("initech")?.keep_warm()?;
    service.delete("initech");
    println!("  {}", service.source("initech").unwrap_err());
    service.print_status();
    assert_eq!(service.tokens.status().len(), 2);
    Ok(())
}
