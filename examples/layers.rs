//! Layers between a token cache and a token endpoint.
//!
//! The cache sends each token request through a stack of tower services, of which the endpoint is only the last one. Each function below is
//! one layer: it routes each tenant to an authorization server of its own, counts what happens for each label, keeps responses in a store, or
//! uses the ID token as the bearer. The guide "Layers below the cache" explains the rules.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenResponse, TokenType, test_util::AuthorizationServer,
};

/// A token endpoint with layers around it.
type Stack = BoxCloneSyncService<TokenRequest, TokenResponse, BoxError>;

/// Sends each request to the endpoint of its tenant.
///
/// It chooses by the partition, which is a part of the key of the cache. So no tenant gets the token of another.
fn route(tenants: HashMap<&'static str, Stack>) -> Stack {
    Stack::new(service_fn(move |request: TokenRequest| {
        let tenant = request.get_partition();
        let endpoint = tenant.and_then(|tenant| tenants.get(tenant)).cloned();
        async move {
            // An error of this kind is final. Any other error of a layer may be gone a moment later.
            let error = TokenError::builder(TokenErrorKind::Request);
            let unknown = || error.message("there is no such tenant").build();
            endpoint.ok_or_else(unknown)?.oneshot(request).await
        }
    }))
}

type Counts = Arc<Mutex<BTreeMap<String, [usize; 2]>>>;

/// Counts successes and failures for each label.
fn count(inner: Stack, counts: Counts) -> Stack {
    Stack::new(service_fn(move |request: TokenRequest| {
        let label = request.get_label().unwrap_or("no label").to_owned();
        let (inner, counts) = (inner.clone(), counts.clone());
        async move {
            let result = inner.oneshot(request).await;
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.entry(label).or_default()[usize::from(result.is_err())] += 1;
            result
        }
    }))
}

/// A store of your own. Encrypt what leaves the process.
type Store = Arc<Mutex<HashMap<TokenRequest, (Bytes, SystemTime)>>>;

/// Answers with a stored response, if its token is good for a while and is not the one that the cache wants to replace.
fn store(inner: Stack, store: Store) -> Stack {
    Stack::new(service_fn(move |request: TokenRequest| {
        let (inner, store) = (inner.clone(), store.clone());
        async move {
            // The response to a code or a refresh token is for one source alone.
            if request.carries_one_time_credential() {
                return inner.oneshot(request).await;
            }
            if let Some(stored) = look_up(&store, &request) {
                return Ok(stored);
            }
            let since = now();
            let response = inner.oneshot(request.clone()).await?;
            let stored = response.to_builder().without_refresh_token().build();
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.insert(request, (stored.raw().clone(), since));
            Ok(response)
        }
    }))
}

fn look_up(store: &Store, request: &TokenRequest) -> Option<TokenResponse> {
    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let (json, since) = store.get(request)?.clone();
    // What is damaged is not used.
    let stored = TokenResponse::from_json(json).ok()?;
    let age = now().duration_since(since).unwrap_or_default();
    let response = stored.to_builder().age(age).build();
    let is_good = response.expires_in() > Some(Duration::from_secs(60));
    (is_good && !request.replaces(response.access_token())).then_some(response)
}

/// Uses the ID token as the bearer. `TokenEndpoint::use_id_token` does the same for all requests of an endpoint.
fn use_id_token(inner: Stack) -> Stack {
    Stack::new(inner.and_then(async |response: TokenResponse| {
        let id_token = response.id_token().ok_or("there is no ID token")?;
        let token = AccessToken::new(id_token.expose_secret(), TokenType::BEARER)?;
        Ok(response.to_builder().access_token(token).build())
    }))
}

#[allow(clippy::disallowed_methods, reason = "the rule is for the library")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn endpoint(server: &AuthorizationServer) -> Stack {
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    Stack::new(endpoint.map_err(BoxError::from))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!(
        "layers: two tenants, each with an authorization server, and a store for all processes"
    );
    let blue = AuthorizationServer::new();
    let red = AuthorizationServer::builder().response_field("id_token", "e30.e30.c2ln");
    let red = red.build();

    let (counts, stored) = (Counts::default(), Store::default());
    let process = || {
        let tenants = [
            ("blue", endpoint(&blue)),
            ("red", use_id_token(endpoint(&red))),
        ];
        let stack = count(route(HashMap::from(tenants)), counts.clone());
        TokenCache::new(store(stack, stored.clone()))
    };
    let request = |tenant: &'static str| {
        let request = TokenRequest::client_credentials().scope("orders");
        request.partition(tenant).label(tenant)
    };

    let tokens = process();
    let token = tokens.source(request("blue")).token().await?;
    assert!(blue.is_active(token.expose_secret()));
    let id_token = tokens.source(request("red")).token().await?;
    assert_eq!(id_token.expose_secret(), "e30.e30.c2ln");
    let error = tokens.source(request("green")).token().await.unwrap_err();
    println!("{error}");

    // Another process finds the token in the store, with what remains of its lifetime.
    let other = process();
    let source = other.source(request("blue"));
    assert_eq!(source.token().await?, token);
    assert!(source.token().await?.expires_in() <= token.expires_in());

    // A token that an API refused is not taken from the store again.
    source.invalidate(&token);
    assert_ne!(source.token().await?, token);

    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    for (label, [successes, failures]) in &*counts {
        println!("{label}: {successes} token requests, {failures} failed");
    }
    assert_eq!(counts["blue"], [2, 0]);
    assert_eq!(counts["green"], [0, 1]);
    Ok(())
}
