//! An API call: the request, a service that answers immediately, and ways to call it.

use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    panic,
    pin::{Pin, pin},
    sync::{Arc, Barrier, LazyLock},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use tower::Service;

use super::{Cost, time};

pub(crate) type Body = Full<Bytes>;
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const API: &str = "https://api.example/v1/items?limit=10";

/// Parsed only once, because parsing would cost more than everything that is measured here.
static URI: LazyLock<Uri> = LazyLock::new(|| Uri::from_static(API));

pub(crate) fn request() -> Request<Body> {
    let mut request = Request::new(Body::new(Bytes::from_static(b"{}")));
    *request.uri_mut() = URI.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("api.example"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("warm_path"));
    request
}

pub(crate) type Answer = Ready<Result<Response<Body>, BoxError>>;

/// The inner service. It answers immediately with the headers and the body of the request.
///
/// Its future is boxed, like that of hyper-util's client, so moving it is cheap.
pub(crate) fn answer(request: Request<Body>) -> Pin<Box<Answer>> {
    let (parts, body) = black_box(request).into_parts();
    let mut response = Response::new(body);
    *response.headers_mut() = parts.headers;
    Box::pin(ready(Ok(response)))
}

/// Returns the output of a future that never waits.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

/// Returns the output of a future that may wait for another thread.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    thread_local!(static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current()))));
    let mut future = pin!(future);
    WAKER.with(|waker| {
        loop {
            match future.as_mut().poll(&mut Context::from_waker(waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}

/// Readies the service, calls it, and polls the future to completion, with no other costs in between.
pub(crate) fn call_once<S: Service<Request<Body>>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    match now(service.call(black_box(request()))) {
        Ok(response) => drop(black_box(response)),
        Err(_) => panic!("the service answers"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// One service instance.
    OneThread,
    /// One instance on each of two threads, both from one layer.
    TwoThreads,
    /// A clone of the instance for each request.
    ClonePerRequest,
    /// A clone of the instance for each request, on two threads.
    ClonePerRequestTwoThreads,
}

impl Usage {
    pub(crate) const ALL: [Self; 4] = [
        Self::OneThread,
        Self::TwoThreads,
        Self::ClonePerRequest,
        Self::ClonePerRequestTwoThreads,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneThread => "one thread",
            Self::TwoThreads => "two threads",
            Self::ClonePerRequest => "clone per request",
            Self::ClonePerRequestTwoThreads => "clone per request, two threads",
        }
    }

    pub(crate) fn threads(self) -> usize {
        match self {
            Self::OneThread | Self::ClonePerRequest => 1,
            Self::TwoThreads | Self::ClonePerRequestTwoThreads => 2,
        }
    }

    fn clones(self) -> bool {
        matches!(
            self,
            Self::ClonePerRequest | Self::ClonePerRequestTwoThreads
        )
    }

    /// Calls a service `calls` times on each thread.
    pub(crate) fn run<S>(self, service: &S, calls: u32) -> Cost
    where
        S: Service<Request<Body>> + Clone + Send,
    {
        on_threads(
            self.threads(),
            || {
                let mut service = service.clone();
                move || match self.clones() {
                    true => call_once(&mut service.clone()),
                    false => call_once(&mut service),
                }
            },
            calls,
        )
    }
}

/// Runs `calls` calls on each thread, and returns the mean cost. `make` creates the call of each thread.
///
/// It starts a thread even if `threads` is one, because malloc treats the main thread differently.
pub(crate) fn on_threads<M, C>(threads: usize, make: M, calls: u32) -> Cost
where
    M: Fn() -> C,
    C: FnMut() + Send,
{
    on_threads_by(threads, make, |call| time(calls, call))
}

/// Like [`on_threads`], with a custom measurement of the cost of a thread.
pub(crate) fn on_threads_by<M, C, T>(threads: usize, make: M, cost: T) -> Cost
where
    M: Fn() -> C,
    C: FnMut() + Send,
    T: Fn(&mut dyn FnMut()) -> Cost + Sync,
{
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let (mut call, barrier, cost) = (make(), &barrier, &cost);
                scope.spawn(move || {
                    (0..100).for_each(|_| call());
                    barrier.wait();
                    cost(&mut call)
                })
            })
            .collect();
        let count = threads.len() as f64;
        let mut mean = Cost::default();
        for thread in threads {
            match thread.join() {
                Ok(cost) => {
                    mean.nanos += cost.nanos / count;
                    mean.allocations += cost.allocations / count;
                }
                Err(panic) => panic::resume_unwind(panic),
            }
        }
        mean
    })
}
