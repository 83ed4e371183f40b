//! The cost per request while the token is fresh: for this crate, other crates and hand-written code, compared with tower-http's fixed
//! header.

#[path = "../../support/mod.rs"]
mod support;

use std::{hint::black_box, sync::Arc, time::Duration};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use peers::{
    Peer,
    aws::Aws,
    azure::{Azure, AzureClient},
    by_hand::{Coarse, Locked, Precise, Swap},
    endpoint::Endpoint,
    google::Google,
    huskarl::Huskarl,
    kube,
    ours::Ours,
    yup::Yup,
};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};
use tower_http::auth::AddAuthorizationLayer;
use tower_oauth2_client::AddAccessTokenLayer;

use self::support::{
    Case, bench,
    calls::{self, API, Body, BoxError, Usage, answer, on_threads, wait},
};

const TOKEN_LENGTH: usize = 800;
const CALLS_PER_ROUND: u32 = 2_000;
const USAGES: [Usage; 2] = [Usage::OneThread, Usage::TwoThreads];

const BARE: &str = "bare";
const FLOOR: &str = "fixed token";
const AZURE_BARE: &str = "azure_core bare";

fn main() -> support::Result<()> {
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?,
    );
    let cases = runtime.block_on(cases(&runtime))?;
    bench(&cases)
}

async fn cases(runtime: &Arc<Runtime>) -> Result<Vec<Case>, BoxError> {
    let token = "x".repeat(TOKEN_LENGTH);
    let endpoint = Endpoint::new(&token, Duration::ZERO);
    let inner = service_fn(answer);
    let mut cases = Vec::new();

    service(&mut cases, BARE, inner);
    let fixed = AddAuthorizationLayer::bearer(&token).as_sensitive(true);
    service(&mut cases, FLOOR, fixed.layer(inner));
    let ours = Ours::new(&endpoint);
    ours.0.warm_up().await?;
    service(
        &mut cases,
        "this crate",
        AddAccessTokenLayer::new(ours.0).origin(API)?.layer(inner),
    );

    let mut peers = Peers {
        cases,
        runtime: runtime.clone(),
    };
    peers
        .add(
            "hand-written: ArcSwap, coarse clock",
            Swap::<Coarse>::new(&endpoint),
        )
        .await?;
    peers
        .add(
            "hand-written: ArcSwap, Instant",
            Swap::<Precise>::new(&endpoint),
        )
        .await?;
    peers
        .add(
            "hand-written: tokio RwLock, Instant",
            Locked::new(&endpoint),
        )
        .await?;
    let huskarl = Huskarl::new(&endpoint)?;
    peers
        .add_with("huskarl", huskarl.clone(), move |headers| {
            huskarl.process_response(headers)
        })
        .await?;
    let google = Google::new(&endpoint).await?;
    peers.add("google-cloud-auth", google.clone()).await?;
    peers
        .add("google-cloud-auth, entity tag", google.tagged().await?)
        .await?;
    let azure = Azure::new(&endpoint)?;
    peers
        .add("azure_identity, credential", azure.clone())
        .await?;
    peers.add("yup-oauth2", Yup::new(&endpoint).await?).await?;
    peers
        .add("aws-smithy-runtime", Aws::new(&endpoint)?)
        .await?;
    let Peers { mut cases, .. } = peers;

    let layer = kube::layer(&endpoint).await?;
    service(&mut cases, "kube-client", layer.layer(inner));
    azure_policy(&mut cases, &azure).await?;
    Ok(cases)
}

/// Adds a tower service, which is called directly.
fn service<S>(cases: &mut Vec<Case>, name: &str, service: S)
where
    S: Service<Request<Body>> + Clone + Send + 'static,
{
    for usage in USAGES {
        let service = service.clone();
        let run = move |calls| usage.run(&service, calls);
        cases.push(case(name, usage, BARE, run));
    }
}

fn case(
    name: &str,
    usage: Usage,
    bare: &str,
    run: impl Fn(u32) -> support::Cost + 'static,
) -> Case {
    let of = |name: &str| format!("{name}, {}", usage.name());
    let case = Case::new(of(name), CALLS_PER_ROUND, run);
    case.over(of(bare)).relative_to(of(FLOOR))
}

struct Peers {
    cases: Vec<Case>,
    /// Some peers create timers even while they have a token.
    runtime: Arc<Runtime>,
}

impl Peers {
    async fn add(&mut self, name: &str, peer: impl Peer) -> Result<(), BoxError> {
        self.add_with(name, peer, |_| {}).await
    }

    /// Adds a peer that is not a layer, around the same inner service. `after` receives the headers of each response.
    async fn add_with(
        &mut self,
        name: &str,
        peer: impl Peer,
        after: impl Fn(&HeaderMap) + Clone + Send + 'static,
    ) -> Result<(), BoxError> {
        let length = peer.authorization().await?.len();
        assert_eq!(
            length,
            "Bearer ".len() + TOKEN_LENGTH,
            "{name} returned another token"
        );
        for usage in USAGES {
            let (peer, runtime, after) = (peer.clone(), self.runtime.clone(), after.clone());
            let run = move |calls| {
                let make = || {
                    let (peer, runtime, after) = (peer.clone(), runtime.clone(), after.clone());
                    move || {
                        let _runtime = runtime.enter();
                        let response = wait(call(&peer, black_box(calls::request())));
                        after(response.expect("an answer").headers());
                    }
                };
                on_threads(usage.threads(), make, calls)
            };
            self.cases.push(case(name, usage, BARE, run));
        }
        Ok(())
    }
}

async fn call(peer: &impl Peer, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let value = peer.authorization().await?;
    request.headers_mut().insert(AUTHORIZATION, value);
    answer(request).await
}

/// `azure_core` has its own request type, so its policy is compared with a pipeline without it.
async fn azure_policy(cases: &mut Vec<Case>, azure: &Azure) -> Result<(), BoxError> {
    let client = azure.policy();
    client.call().await?;
    let mut add = |name: &str, call: fn(&AzureClient)| {
        for usage in USAGES {
            let client = client.clone();
            let run = move |calls| {
                let make = || {
                    let client = client.clone();
                    move || call(&client)
                };
                on_threads(usage.threads(), make, calls)
            };
            cases.push(case(name, usage, AZURE_BARE, run));
        }
    };
    add(AZURE_BARE, |client| {
        wait(client.call_bare()).expect("an answer")
    });
    add("azure_core, policy", |client| {
        wait(client.call()).expect("an answer")
    });
    Ok(())
}
