//! API calls that are authenticated by the layer while their tokens expire and are revoked.
//!
//! It starts an authorization server, whose tokens are valid for two seconds, and an API that accepts only tokens that are valid at
//! that moment. Then 50 tasks make 2,000 calls over about six seconds. Halfway through, the server revokes the token in use.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    add_access_token::CloneBody, test_util::AuthorizationServer,
};
use tracing::Level;
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

const TASKS: usize = 50;
const CALLS: usize = 2_000;
const PACE: Duration = Duration::from_millis(150);
const MAX_TOKEN_REQUESTS: usize = 12;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    println!(
        "quickstart: {TASKS} tasks make {CALLS} calls, while tokens expire after two seconds and one is revoked"
    );
    print_cache_events();
    let server = AuthorizationServer::builder()
        .client("client", "secret")
        .access_token_lifetime(Duration::from_secs(2))
        .build();
    let listening = server.listen().await?;
    let api_address = start_api(server.clone()).await?;

    // An application only needs this part.
    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let endpoint = TokenEndpoint::new(
        http.clone(),
        listening.token_endpoint(),
        ClientAuthentication::client_secret_basic("client", "secret"),
    );
    let tokens = TokenCache::new(endpoint);
    let source = tokens.source(TokenRequest::client_credentials().scope("api1"));
    let uri: Uri = format!("http://{api_address}/hello").parse()?;
    let layer = AddAccessTokenLayer::new(source)
        .origin(&uri)? // the only origin that receives the token
        .resend(CloneBody);
    let api = ServiceBuilder::new().layer(layer).service(http);

    let failed = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (mut api, uri, failed) = (api.clone(), uri.clone(), failed.clone());
        tasks.spawn(async move {
            let mut tick = time::interval(PACE);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..CALLS / TASKS {
                tick.tick().await;
                if let Err(error) = call(&mut api, &uri).await {
                    failed.fetch_add(1, Ordering::Relaxed);
                    eprintln!("a call failed: {error:#}");
                }
            }
        });
    }
    time::sleep(PACE * (CALLS / TASKS / 2) as u32).await;
    println!("the server revokes the current token");
    server.revoke_all();
    while let Some(task) = tasks.join_next().await {
        task?;
    }

    let failed = failed.load(Ordering::Relaxed);
    let token_requests = server.token_requests();
    println!(
        "{} API calls ok, {failed} failed, {token_requests} token requests",
        CALLS - failed
    );
    Ok(if failed == 0 && token_requests <= MAX_TOKEN_REQUESTS {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the `tracing` events of the cache: the first token, renewals before a token expires, refused tokens.
fn print_cache_events() {
    let events = Targets::new().with_target("tower_oauth2_client::token_cache", Level::DEBUG);
    let printer = fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false);
    tracing_subscriber::registry()
        .with(printer.with_filter(events))
        .init();
}

/// Makes one call as an application does, without handling tokens.
async fn call<S, B>(api: &mut S, uri: &Uri) -> Result<(), BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    let request = Request::get(uri).body(Full::default())?;
    let response = api.ready().await.map_err(Into::into)?.call(request);
    match response.await.map_err(Into::into)?.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("the API answered {status}").into()),
    }
}

/// Starts an API on loopback that checks each token with the authorization server.
async fn start_api(server: AuthorizationServer) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            let hello = service_fn(move |request: Request<Incoming>| {
                let response = match server.check_bearer(request.headers()) {
                    Ok(()) => Response::new(Full::from("hello")),
                    Err(refusal) => refusal,
                };
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), hello));
        }
    });
    Ok(address)
}
