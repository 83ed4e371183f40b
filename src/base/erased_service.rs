//! A service without its type.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use tower_service::Service;

/// A function over a service whose type is erased. Each call gets a clone of the service.
///
/// The service does not have to be `Sync`: it is cloned under a lock, which is held for nothing else.
pub(crate) struct ErasedService<Req, Out>(Box<dyn Fn(Req) -> Calling<Out> + Send + Sync>);

type Calling<Out> = Pin<Box<dyn Future<Output = Out> + Send>>;

impl<Req, Out> ErasedService<Req, Out> {
    /// Erases the type of `service`. For each request, `call` gets a clone of the service.
    pub(crate) fn new<S, F, Fut>(service: S, call: F) -> Self
    where
        S: Clone + Send + 'static,
        F: Fn(S, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Out> + Send + 'static,
    {
        let service = Mutex::new(service);
        Self(Box::new(move |request| {
            let clone = service
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            Box::pin(call(clone, request))
        }))
    }

    pub(crate) fn call(&self, request: Req) -> Calling<Out> {
        (self.0)(request)
    }
}

/// Waits until the service is ready.
pub(crate) async fn ready<S, Req>(service: &mut S) -> Result<(), S::Error>
where
    S: Service<Req>,
{
    poll_fn(|cx| service.poll_ready(cx)).await
}
