//! Discovery: the callers drive the fetch of the metadata themselves.

use std::{
    future::{Future, poll_fn},
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{spawn, task::yield_now};
use tower::service_fn;

use crate::{
    BoxError, ClientAuthentication, ServerMetadata, TokenEndpoint, TokenError, base::clock, model,
    pause, polled_at_random,
};

const ISSUER: &str = "https://as.test";
const DOCUMENT: &str = r#"{"issuer":"https://as.test","token_endpoint":"https://as.test/token"}"#;

type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;
type Metadata = Result<Arc<ServerMetadata>, TokenError>;

/// Answers as many requests as the model allows.
#[derive(Clone)]
struct Server {
    allowed: Arc<Allowed>,
    requests: Arc<AtomicUsize>,
    panics_at_first: bool,
}

impl Server {
    fn new(panics_at_first: bool) -> Self {
        Self {
            allowed: Arc::default(),
            requests: Arc::default(),
            panics_at_first,
        }
    }

    fn answer(&self) -> Answering {
        let is_first = self.requests.fetch_add(1, SeqCst) == 0;
        let this = self.clone();
        Box::pin(async move {
            poll_fn(|cx| this.allowed.poll_take(cx)).await;
            pause().await;
            if this.panics_at_first && is_first {
                resume_unwind(Box::new("told to"));
            }
            Ok(Response::new(Full::from(DOCUMENT)))
        })
    }

    /// Asks for the metadata of one endpoint, again and again.
    fn discover(&self) -> impl Fn() -> Pin<Box<dyn Future<Output = Metadata> + Send>> + use<> {
        let this = self.clone();
        let endpoint = TokenEndpoint::discover(
            service_fn(move |_: Request<Full<Bytes>>| this.answer()),
            ISSUER,
            ClientAuthentication::none("client"),
        );
        move || Box::pin(endpoint.metadata())
    }

    fn allow(&self, answers: usize) {
        self.allowed.add(answers);
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

/// A semaphore. shuttle has one, but it calls wakers while it is borrowed, and the waker of a driven flight may switch tasks.
#[derive(Default)]
struct Allowed(Mutex<(usize, Vec<Waker>)>);

impl Allowed {
    fn add(&self, permits: usize) {
        let wakers = {
            let mut allowed = self.0.lock().unwrap();
            allowed.0 += permits;
            std::mem::take(&mut allowed.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut allowed = self.0.lock().unwrap();
        if let Some(left) = allowed.0.checked_sub(1) {
            allowed.0 = left;
            return Poll::Ready(());
        }
        // The last waker is enough, as for a socket.
        allowed.1 = vec![cx.waker().clone()];
        Poll::Pending
    }
}

fn poll_once(waiter: &mut (impl Future + Unpin)) {
    // Nobody listens to it: a waiter that is not polled again, whatever wakes it.
    let _ = pin!(waiter).poll(&mut Context::from_waker(Waker::noop()));
}

pub fn every_caller_is_woken_whoever_of_them_is_dropped() {
    model(|| async {
        let server = Server::new(false);
        let metadata = server.discover();
        // Begins the fetch, and keeps it alive.
        let mut idle = metadata();
        poll_once(&mut idle);
        let aborted = spawn(metadata());
        let dropped = spawn(polled_at_random(metadata()));
        let callers = [0; 3].map(|_| spawn(metadata()));
        server.allow(9);
        aborted.abort();
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        let _ = dropped.await;
        assert_eq!(server.requests(), 1);
    });
}

pub fn a_panic_of_the_http_client_reaches_every_caller_and_discovery_recovers() {
    model(|| async {
        let server = Server::new(true);
        let metadata = server.discover();
        let dropped = spawn(polled_at_random(metadata()));
        let callers = [0; 2].map(|_| spawn(metadata()));
        server.allow(9);
        let mut failed = 0;
        for caller in callers {
            // One that comes after the panic fetches again.
            failed += usize::from(caller.await.unwrap().is_err());
        }
        let dropped = dropped.await.unwrap();
        failed += usize::from(dropped.is_some_and(|outcome| outcome.is_err()));
        assert!(failed > 0 || server.requests() > 1);
        assert!(metadata().await.is_ok());
        assert!(server.requests() <= 3);
    });
}

pub fn a_fetch_that_everybody_left_does_not_hinder_the_next() {
    model(|| async {
        let server = Server::new(false);
        let metadata = server.discover();
        let left = [0; 2].map(|_| spawn(polled_at_random(metadata())));
        pause().await;
        let caller = spawn(metadata());
        server.allow(9);
        caller.await.unwrap().unwrap();
        for left in left {
            let _ = left.await;
        }
    });
}

pub fn stale_metadata_serve_while_one_task_renews_them() {
    model(|| async {
        let server = Server::new(false);
        let metadata = server.discover();
        server.allow(1);
        let old = metadata().await.unwrap();

        clock::advance(Duration::from_secs(3601));
        let callers = [0; 2].map(|_| spawn(metadata()));
        for caller in callers {
            let served = caller.await.unwrap().unwrap();
            assert!(Arc::ptr_eq(&served, &old));
        }
        server.allow(1);
        while Arc::ptr_eq(&metadata().await.unwrap(), &old) {
            yield_now().await;
        }
        assert_eq!(server.requests(), 2);
    });
}
