//! `HttpService`: the HTTP clients that endpoints send requests through.

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::{base::clone_service::CloneService, error::BoxError};

/// An HTTP client that [`TokenEndpoint`](crate::TokenEndpoint) and the services of the other endpoints send requests with the body
/// `B` through.
///
/// It is implemented for every service that fits, which is a
/// [`Service<http::Request<B>, Response = http::Response<_>>`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) with these properties:
///
/// 1. It is `Clone + Send + 'static`, and its future is `Send`. See [`CloneService`] for a service that is not `Clone`.
/// 2. Its error is `Into<BoxError>`.
/// 3. The body of its response is an [`http_body::Body`](https://docs.rs/http-body/1/http_body/trait.Body.html) that is `Send + 'static`, with data that is `Send` and an error that is
///    `Into<BoxError>`.
///
/// `B` is `Full<Bytes>` unless the endpoint is told how to make another body:
/// [`TokenEndpoint::request_body`](crate::TokenEndpoint::request_body).
///
/// This trait is sealed: other types cannot implement it. Use it as the only bound of a generic function that makes an endpoint.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use tower_oauth2_client::{ClientAuthentication, HttpService, TokenCache, TokenEndpoint};
///
/// fn tokens(http: impl HttpService<Full<Bytes>>) -> TokenCache {
///     TokenCache::new(TokenEndpoint::discover(
///         http,
///         "https://as.example",
///         ClientAuthentication::client_secret_basic("client", "secret"),
///     ))
/// }
/// ```
pub trait HttpService<B>:
    sealed::AcceptsRequests<B, Sending: Send> + CloneService + Send + 'static
{
}

impl<S, B> HttpService<B> for S where
    S: sealed::AcceptsRequests<B, Sending: Send> + CloneService + Send + 'static
{
}

mod sealed {
    use super::{Body, BoxError, Request, Response, Service};

    /// The part of [`HttpService`](super::HttpService) that depends on the body, with an error of its own.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` does not accept HTTP requests with the body `{B}`",
        label = "not an HTTP service for this body",
        note = "if it accepts another body, tell the endpoint how to make that body from `Bytes`, with `.request_body(..)`; for \
                example `.request_body(axum::body::Body::from)`",
        note = "otherwise it must be a tower `Service<http::Request<{B}>>` that returns an `http::Response` whose body is an \
                `http_body::Body + Send + 'static`, or an error that is `Into<BoxError>`",
        note = "`reqwest::Client` becomes such a service in `ReqwestService` (feature `reqwest`)"
    )]
    pub trait AcceptsRequests<B>:
        Service<
            Request<B>,
            Response = Response<Self::ResponseBody>,
            Error: Into<BoxError>,
            Future = Self::Sending,
        >
    {
        /// The body of a response.
        type ResponseBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;

        /// The future of a response. The services name it as this, so that a missing implementation is reported with the message above.
        type Sending: Future<Output = Result<Response<Self::ResponseBody>, Self::Error>>;
    }

    #[diagnostic::do_not_recommend]
    impl<S, B, ResBody> AcceptsRequests<B> for S
    where
        S: Service<Request<B>, Response = Response<ResBody>, Error: Into<BoxError>>,
        ResBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        type ResponseBody = ResBody;
        type Sending = S::Future;
    }
}
