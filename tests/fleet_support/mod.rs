//! Helpers for the tests of fleets: instances of a service that share their tokens, and a store that fails when told.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of this module"
)]

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::time;
use tower_oauth2_client::{
    ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    test_util::{AuthorizationCode, AuthorizationServer},
    token_cache::TokenCacheBuilder,
    token_store::{
        EntryName, Fence, Found, LeaseOwner, MemoryTokenStore, Put, ShareTokens, StoreFuture,
        StoreKey, StoreKeys, TokenStore,
    },
};

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// It revokes everything if a replaced refresh token is sent again.
pub fn server(lifetime: Duration) -> AuthorizationServer {
    AuthorizationServer::builder()
        .access_token_lifetime(lifetime)
        .build()
}

/// Requests the next token of a sign-in.
pub fn first_request(server: &AuthorizationServer) -> TokenRequest {
    TokenRequest::refresh_token(server.issue_refresh_token("client", "api1")).sign_in("session 7")
}

/// Requests the first token of a sign-in.
pub fn code(server: &AuthorizationServer) -> TokenRequest {
    let code = server.issue_code(AuthorizationCode::new("client", "https://app.test"));
    TokenRequest::authorization_code(code, "https://app.test").sign_in("session 7")
}

/// Returns the refresh tokens that the server received.
pub fn spent(server: &AuthorizationServer) -> Vec<String> {
    let requests = server.requests();
    let spent = requests
        .iter()
        .filter_map(|request| request.get("refresh_token"));
    spent.map(Into::into).collect()
}

pub fn request() -> TokenRequest {
    TokenRequest::client_credentials().scope("api1")
}

pub fn key(first: u8) -> StoreKey {
    let bytes: Vec<u8> = (first..).take(32).collect();
    StoreKey::from_bytes(bytes).unwrap()
}

pub fn keys() -> StoreKeys {
    StoreKeys::new("orders", key(1))
}

pub fn endpoint(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    TokenEndpoint::new(server.clone(), server.token_endpoint(), client)
}

pub fn share(server: &AuthorizationServer, store: impl TokenStore) -> ShareTokens {
    ShareTokens::new(store, keys(), &endpoint(server))
}

/// Another instance of the service.
pub fn instance(server: &AuthorizationServer, store: &(impl TokenStore + Clone)) -> TokenCache {
    instance_with(server, store, |share| share, |builder| builder)
}

pub fn instance_with(
    server: &AuthorizationServer,
    store: &(impl TokenStore + Clone),
    set_up: impl FnOnce(ShareTokens) -> ShareTokens,
    configure: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
) -> TokenCache {
    let share = set_up(share(server, store.clone()));
    configure(TokenCache::builder(endpoint(server)).share(share)).build()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Look,
    Renew,
    Release,
    Put,
    Remove,
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error at once, before anything is done.
    Error,
    /// No answer, and nothing is done.
    Hang,
    /// The operation is carried out, but its answer is lost.
    LoseAnswer,
    /// The operation is carried out after a while.
    Slow(Duration),
    /// The entry is stored after a while, even if nobody waits for that any longer.
    LatePut(Duration),
}

type Rule = Box<dyn FnMut(Op) -> Option<Fault> + Send>;

/// A store in memory that counts, and fails when told.
#[derive(Clone)]
pub struct TestStore {
    pub inner: MemoryTokenStore,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    rule: Option<Rule>,
    /// What is returned in place of each entry.
    garbage: Option<Bytes>,
    entries: Vec<Bytes>,
    waits_return_at_once: bool,
}

impl TestStore {
    pub fn new() -> Self {
        Self::over(MemoryTokenStore::new())
    }

    /// The connection of another instance to the same data.
    pub fn over(inner: MemoryTokenStore) -> Self {
        Self {
            inner,
            state: Arc::default(),
        }
    }

    pub fn fail(&self, rule: impl FnMut(Op) -> Option<Fault> + Send + 'static) {
        self.state.lock().unwrap().rule = Some(Box::new(rule));
    }

    pub fn recover(&self) {
        self.state.lock().unwrap().rule = None;
    }

    pub fn return_garbage(&self, garbage: Option<Bytes>) {
        self.state.lock().unwrap().garbage = garbage;
    }

    pub fn return_from_waits_at_once(&self) {
        self.state.lock().unwrap().waits_return_at_once = true;
    }

    /// Returns the operations since the last call.
    pub fn take_ops(&self) -> Vec<Op> {
        std::mem::take(&mut self.state.lock().unwrap().ops)
    }

    /// Returns the entries that were put.
    pub fn entries(&self) -> Vec<Bytes> {
        self.state.lock().unwrap().entries.clone()
    }

    fn begin(&self, op: Op) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.ops.push(op);
        state.rule.as_mut().and_then(|rule| rule(op))
    }

    fn run<'a, T: Send + 'a>(&'a self, op: Op, future: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let fault = self.begin(op);
        carry_out(fault, future)
    }
}

fn carry_out<'a, T: Send + 'a>(
    fault: Option<Fault>,
    future: StoreFuture<'a, T>,
) -> StoreFuture<'a, T> {
    Box::pin(async move {
        match fault {
            None => future.await,
            Some(Fault::Error) => Err("the store fails, as told".into()),
            Some(Fault::Hang) => pending().await,
            Some(Fault::LoseAnswer) => {
                future.await?;
                pending().await
            }
            Some(Fault::Slow(time) | Fault::LatePut(time)) => {
                time::sleep(time).await;
                future.await
            }
        }
    })
}

impl TokenStore for TestStore {
    fn look<'a>(
        &'a self,
        name: &'a EntryName,
        newer_than: Option<Fence>,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, Found> {
        let look = self.inner.look(name, newer_than, owner, lease_for);
        let look = self.run(Op::Look, look);
        Box::pin(async move {
            let found = look.await?;
            let garbage = self.state.lock().unwrap().garbage.clone();
            Ok(match (found, garbage) {
                (Found::Entry { fence, age, .. }, Some(entry)) => {
                    Found::Entry { entry, fence, age }
                }
                (found, _) => found,
            })
        })
    }

    fn renew<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, bool> {
        self.run(Op::Renew, self.inner.renew(name, owner, lease_for))
    }

    fn release<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        pause: Duration,
    ) -> StoreFuture<'a, ()> {
        self.run(Op::Release, self.inner.release(name, owner, pause))
    }

    fn put<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> StoreFuture<'a, Put> {
        self.state.lock().unwrap().entries.push(entry.clone());
        let fault = self.begin(Op::Put);
        if let Some(Fault::LatePut(late)) = fault {
            let (inner, name, owner) = (self.inner.clone(), name.clone(), owner.clone());
            let put = tokio::spawn(async move {
                time::sleep(late).await;
                inner.put(&name, &owner, fence, entry, ttl).await
            });
            return Box::pin(async move { put.await? });
        }
        carry_out(fault, self.inner.put(name, owner, fence, entry, ttl))
    }

    fn remove<'a>(&'a self, name: &'a EntryName, fence: Fence) -> StoreFuture<'a, bool> {
        self.run(Op::Remove, self.inner.remove(name, fence))
    }

    fn wait<'a>(
        &'a self,
        name: &'a EntryName,
        lease: Fence,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let fault = self.begin(Op::Wait);
        let returns_at_once = self.state.lock().unwrap().waits_return_at_once;
        Box::pin(async move {
            if returns_at_once {
                return;
            }
            match fault {
                None => self.inner.wait(name, lease, at_most).await,
                Some(Fault::Hang) => pending().await,
                Some(_) => time::sleep(at_most.min(secs(1))).await,
            }
        })
    }
}
