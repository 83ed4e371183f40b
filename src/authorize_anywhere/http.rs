//! `ErasedHttp`: the HTTP client that metadata, registrations and tokens are fetched through, without its type.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower_service::Service;

use crate::{
    authorization_server::http_service::HttpService,
    base::erased_service::{ErasedService, ready},
    error::BoxError,
};

type Received = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

/// See the [module](self). Unlike the client, it is `Sync`.
#[derive(Clone)]
pub(super) struct ErasedHttp(Arc<ErasedService<Request<Full<Bytes>>, Received>>);

impl ErasedHttp {
    pub(super) fn new(http: impl HttpService<Full<Bytes>>) -> Self {
        Self(Arc::new(ErasedService::new(http, send)))
    }
}

async fn send<S: HttpService<Full<Bytes>>>(mut http: S, request: Request<Full<Bytes>>) -> Received {
    ready(&mut http).await.map_err(Into::into)?;
    let response = http.call(request).await.map_err(Into::into)?;
    Ok(response.map(|body| {
        body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            .map_err(Into::into)
            .boxed_unsync()
    }))
}

impl Service<Request<Full<Bytes>>> for ErasedHttp {
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Received> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        self.0.call(request)
    }
}

impl fmt::Debug for ErasedHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasedHttp").finish_non_exhaustive()
    }
}
