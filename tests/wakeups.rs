//! Callers on many threads that wait for discovery, which they drive themselves.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    task::{Context, Poll, Wake},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tower::service_fn;
use tower_oauth2_client::{BoxError, ClientAuthentication, TokenEndpoint};

/// `WAKEUP_ROUNDS=N` sets another number.
const ROUNDS: usize = 8000;
const THREADS: usize = 4;
/// Enough callers to keep all threads busy at the same time.
const CALLERS_PER_THREAD: usize = 100;
const DOCUMENT: &str = r#"{"issuer":"https://as.test","token_endpoint":"https://as.test/token"}"#;

/// Far longer than a round takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

struct Call(SyncSender<()>);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        // One call that has not been received yet is enough.
        let _ = self.0.try_send(());
    }
}

/// Returns `None` if nobody calls the waker. No timer polls the future, so a lost wakeup does not heal.
fn block_on<F: Future>(future: F) -> Option<F::Output> {
    let (call, called) = sync_channel(1);
    let waker = Arc::new(Call(call)).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending => called.recv_timeout(PATIENCE).ok()?,
        }
    }
}

#[test]
fn whoever_waits_for_discovery_is_woken() {
    let rounds = std::env::var("WAKEUP_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    for round in 0..rounds {
        let allowed = Arc::new(Semaphore::new(0));
        let answer = allowed.clone();
        let http = service_fn(move |_: Request<Full<Bytes>>| {
            let allowed = answer.clone();
            async move {
                let _permit = allowed.acquire().await?;
                Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(DOCUMENT)))
            }
        });
        let client = ClientAuthentication::none("client");
        let endpoint = TokenEndpoint::discover(http, "https://as.test", client);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let callers: FuturesUnordered<_> = (0..CALLERS_PER_THREAD)
                        .map(|_| endpoint.metadata())
                        .collect();
                    let all = block_on(callers.try_collect::<Vec<_>>());
                    let all = all.unwrap_or_else(|| panic!("not woken in round {round}"));
                    assert_eq!(all.unwrap().len(), CALLERS_PER_THREAD);
                });
            }
            allowed.add_permits(1);
        });
    }
}
