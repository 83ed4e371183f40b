//! A layer that adds access tokens to outgoing requests.
//!
//! [`AddAccessTokenLayer`](crate::AddAccessTokenLayer) wraps an outbound client. It takes the token from a
//! [`TokenSource`](crate::TokenSource) and puts the `Authorization` header on each request, or
//! [another](crate::AddAccessTokenLayer::header).
//!
//! 1. A request that already has this header, or the mark [`NoAccessToken`](crate::NoAccessToken) in its extensions,
//!    is sent unchanged.
//! 2. A token goes only to the [origins](crate::AddAccessTokenLayer::origin) that are named. A request to any other origin is sent
//!    without a token. If none is named, the request is an error ([`NoOriginNamed`]), unless
//!    [`danger_any_https_origin`](crate::AddAccessTokenLayer::danger_any_https_origin) is set. A request that would carry a token over
//!    plain `http` to another machine is an error ([`InsecureTransport`]), unless
//!    [`danger_allow_http`](crate::AddAccessTokenLayer::danger_allow_http) is set.
//! 3. While there is a usable token, it is put on the request, and the inner service that was made ready is called at once.
//! 4. Otherwise the ready inner service is dropped, which gives back what it has reserved. The request waits for the token. Then a
//!    clone of the inner service is made ready and called. Without a token nothing is sent: the error is a boxed
//!    [`TokenError`](crate::TokenError), or a status for a [gRPC](#grpc) request. [`TokenError::find_in_chain`](crate::TokenError::find_in_chain)
//!    finds it in either.
//! 5. A response that [refuses the token](#refusals) invalidates exactly that token, and gets the mark [`AccessTokenRefused`].
//! 6. With [`resend`](crate::AddAccessTokenLayer::resend), the request is then resent once with another token. If there is no
//!    other token, it is not sent again.
//! 7. A token that is bound to a DPoP key is sent with a proof for that one request. A service that sends requests again by itself,
//!    such as tower's `Retry`, therefore belongs above this layer. A 401 that [demands another nonce](#refusals) in the proof keeps the
//!    token; with `resend`, the request is resent once with a new proof.
//!
//! 8. With [`step_up`](crate::AddAccessTokenLayer::step_up), a challenge that demands more than the token grants (a wider scope, other claims,
//!    a user who has signed in again) is answered with a stronger token, which later requests carry, too.
//!
//! # Refusals
//!
//! A response to a request that carried a token of this layer is judged in this order:
//!
//! 1. A 401 with a `DPoP-Nonce` that the proof of the request did not contain demands that nonce, and refuses no token, whatever its
//!    challenge says. There are two exceptions. A request that was already resent for a nonce demands no second one: its answer is judged by
//!    the rules below. A request that cannot be resent demands the nonce only if its proof had none, or if the challenge is about the
//!    proof.
//! 2. A 4xx whose `WWW-Authenticate` says `invalid_token` refuses the token, under whatever scheme and in whatever syntax.
//! 3. A 401 with an error that would remain with another token refuses nothing: `insufficient_scope`, `insufficient_user_authentication`,
//!    `insufficient_claims`, `invalid_request`, `invalid_dpop_proof`, `use_dpop_nonce`. Some of them demand a stronger token: see
//!    [`step_up`](crate::AddAccessTokenLayer::step_up).
//! 4. Every other 401 refuses the token, with or without a challenge. So does a gRPC response with the status `UNAUTHENTICATED` in its
//!    headers; for one in the trailers, see [`WatchTrailersLayer`].
//! 5. Other responses refuse the token if [`refused_when`](crate::AddAccessTokenLayer::refused_when) says so, or if a service below this
//!    layer has inserted [`AccessTokenRefused`] into the extensions of the response.
//!
//! With `Proxy-Authorization` as the header, the status is 407 and the challenge is in `Proxy-Authenticate`.
//!
//! A wrong guess costs little: if tokens are refused soon after they were issued, the cache [keeps](crate::TokenSource::invalidate) them.
//!
//! # Per request
//!
//! A request may carry a [`TokenRequest`](crate::TokenRequest) or a [`TokenSource`](crate::TokenSource) in its extensions. It
//! replaces the source of the layer for this request: for another scope, for another tenant, or on behalf of a user. The layer can
//! also choose the source of each request, or make its token request, with a function: see
//! [`token_source_for`](crate::AddAccessTokenLayer::token_source_for) and
//! [`token_request_for`](crate::AddAccessTokenLayer::token_request_for).
//!
//! The [origins](crate::AddAccessTokenLayer::origin) apply to these requests, too.
//!
//! If every request must name its token, make the layer with [`per_request`](crate::AddAccessTokenLayer::per_request). A request whose
//! tenant was forgotten is then an error ([`NoTokenNamed`]), and does not get the token of another.
//!
//! If a request passes two of these layers, the first one that gives it a token takes both out of its extensions. The other layer puts the
//! token of its own source on it, in another [header](crate::AddAccessTokenLayer::header).
//!
//! # gRPC
//!
//! With the feature `tonic`, the clients that tonic generates need nothing but the layer. A request is gRPC if its `content-type` starts
//! with `application/grpc`. If such a request is not sent, the error is a boxed [`tonic::Status`](https://docs.rs/tonic/0.14/tonic/struct.Status.html), whose source is the actual error:
//!
//! | why the request is not sent | status |
//! |---|---|
//! | no token, and a later call may succeed: the authorization server fails or cannot be reached, or there is no runtime | `UNAVAILABLE` |
//! | no token, and something must change first: the secret, the registration, the user's sign-in | `UNAUTHENTICATED` |
//! | [`NoOriginNamed`], [`InsecureTransport`], [`NoTokenNamed`] | `UNAUTHENTICATED` |
//! | the deadline of the call passed while it waited | `DEADLINE_EXCEEDED`, without a source |
//!
//! tonic finds this status below other layers, such as `Timeout` and `Buffer`. Errors of the inner service are unchanged.
//!
//! **Deadlines.** `Request::set_timeout` (the header `grpc-timeout`) also limits the wait for a token, for a proof and for the inner
//! service. Nothing is sent after the deadline. A request that waited is sent with the time that remains in its header, because tonic's
//! channel counts from when it gets the request; so does the server. A request that is resent has the deadline of the first one. If that
//! passes, the caller gets the refusal, as after any other failure before the second request is sent. The fetch continues for others.
//!
//! The `timeout` of tonic's `Endpoint` does not limit the wait for a token, because it is below this layer: it counts from when the request
//! is sent. To limit the wait of calls without a deadline, set the [`fetch_timeout`](crate::token_cache::TokenCacheBuilder::fetch_timeout)
//! of the cache. A time limit of a tower layer above works, too, but its error is `UNKNOWN` to tonic.
//!
//! ```
//! use tonic::transport::Channel;
//! use tonic_health::pb::health_client::HealthClient;
//! use tower::ServiceBuilder;
//! use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::BufferBody};
//!
//! # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
//! let api = "https://api.example";
//! let layer = AddAccessTokenLayer::new(source)
//!     .origin(api)? // where the channel goes: the calls themselves contain only a path
//!     .resend(BufferBody::tonic(64 * 1024));
//! let channel = Channel::from_static(api).connect_lazy();
//! let client = HealthClient::new(ServiceBuilder::new().layer(layer).service(channel));
//! # Ok(())
//! # }
//! ```
//!
//! To box such a stack, for example as a [`BoxCloneSyncService`](https://docs.rs/tower/0.5/tower/util/struct.BoxCloneSyncService.html), put
//! `.map_err(tonic::Status::from_error)` above the layer, which keeps the status. Otherwise a task that is spawned may not compile
//! ("implementation of `From` is not general enough"), because rustc does not see that its future is `Send`.
//!
//! Where only an interceptor fits, it can add the token of a source, too. It is synchronous, so it takes the token that is there, and a
//! background task renews that one in time:
//!
//! ```
//! use http::header::AUTHORIZATION;
//! use tonic::{Request, Status, transport::Channel};
//! use tonic_health::pb::health_client::HealthClient;
//! use tower_oauth2_client::{BoxError, TokenSource};
//!
//! # async fn example(source: TokenSource, channel: Channel) -> Result<(), BoxError> {
//! source.keep_warm()?;
//! source.warm_up().await?;
//! let add_token = move |mut request: Request<()>| -> Result<Request<()>, Status> {
//!     let token = source.peek();
//!     let header = token.as_ref().and_then(|token| token.authorization());
//!     let header = header.ok_or_else(|| Status::unavailable("there is no access token yet"))?;
//!     request.metadata_mut().as_mut().insert(AUTHORIZATION, header.clone());
//!     Ok(request)
//! };
//! let client = HealthClient::with_interceptor(channel, add_token);
//! # Ok(())
//! # }
//! ```
//!
//! Compared with the layer, an interceptor does not wait for a token, so calls fail while there is none. It does not notice that a token
//! is refused: `keep_warm` replaces it only when it is due. It resends nothing, does not check where the calls go, and makes no proofs
//! for tokens that are bound to a DPoP key. Code that is async can put the token on a call itself: a
//! [`TokenError`](crate::TokenError) converts to a `Status`, so `source.token().await?` works where a `Status` is returned.
//!
//! # Where the token goes
//!
//! The URI of a request decides. Its `Host` header does not: a caller who sends it to another virtual host sends it to the same server.
//!
//! * **Redirects above this layer**, such as tower-http's `FollowRedirect`: the request to another origin goes without a token. If that
//!   one leads back to a named origin, the request there carries the token again.
//! * **Redirects below this layer**, such as those that `reqwest::Client` follows by default: this layer does not see them. A 401 from
//!   another origin counts as a refusal. Such clients remove only the headers that they know from a request to another origin, and send a
//!   [header of another name](crate::AddAccessTokenLayer::header) to it. tower-http 0.6, and reqwest 0.13 that uses it, remove the token from the first request to
//!   another origin, but not from the next one, if that origin then redirects to another of its own URLs. Turn redirects off below, for
//!   example with `reqwest::redirect::Policy::none()`, and put `FollowRedirect` above this layer.
//! * **Proxies**: the token is in the request, wherever it passes. A client that reaches an `https` origin through a proxy uses a tunnel,
//!   and the proxy sees nothing. A `CONNECT` request that passes this layer itself (its URI is `host:port`) goes without a token, because
//!   its headers are for the proxy.
//! * **Several APIs with different tokens**: use one layer for each, with its own origins, one above the other. A request gets its token
//!   from the layer that names its origin.
//!
//! A request that goes without a token is logged with `tracing` at the level `DEBUG`, with the target
//! `tower_oauth2_client::add_access_token` and its origin.

// The way of one request through the files of this module:
//
//   service                                        AddAccessToken::call
//   token_choice                                   Which token does the request get?
//   destination                                    Where may a token go?
//      │
//      ├─ It goes without a token. ──────────────────────────┐
//      │                                                     │
//      ├─ There is a usable token.                           │
//      │     proof, auth_headers ──────────── follow_up ────▶├───▶ inner service
//      │                                   keeps a copy      │          │
//      │                                   of the request    │          ▼
//      └─ It has to wait for a token,                        │        future       ResponseFuture
//         or for a proof.                                    │        refusal      Does the response refuse the token?
//            unsent   waits                                  │          │     │
//            deadline for how long? (gRPC)                   │          │     │
//            needs    for what?                              │          │     └─ no, or not resent ──▶ caller
//            recheck  Is the token still good?               │          │
//              ▲  └── auth_headers ────────── follow_up ────▶┘          │ yes
//              │                                                        │
//              └───────────── resend ── restores the request ◀──────────┘
//
// `step_up` answers a response that demands a stronger token: `future` asks it for the source of that token, `token_choice` uses this
// source for later requests, and `unsent` tells it whether the token could be fetched.
//
// `watch_trailers` is a layer of its own, below this one.

mod auth_headers;
mod deadline;
mod destination;
mod error;
mod follow_up;
mod future;
mod grpc;
mod headers;
pub(crate) mod layer;
mod needs;
mod proof;
mod recheck;
mod refusal;
mod request_copy;
pub(crate) mod resend;
mod route;
pub(crate) mod service;
pub(crate) mod step_up;
mod token_choice;
mod unsent;
mod watch_trailers;
mod www_authenticate;

pub use self::{
    error::{InsecureTransport, InvalidOrigin, InvalidScheme, NoOriginNamed, NoTokenNamed},
    future::ResponseFuture,
    resend::{BufferBody, BufferedBody, CloneBody, NoResend, Resend},
    step_up::StepUp,
    watch_trailers::{WatchTrailers, WatchTrailersFuture, WatchTrailersLayer, WatchedBody},
};

/// Marks a response that refused the access token of its request. It is in the extensions of the response.
///
/// The layer inserts it into each response that [refuses the token](self#refusals), for the services above.
///
/// A service below the layer can insert it, too, for example when it finds an error inside a 200 of a GraphQL API. The layer then
/// invalidates the token of that request. The request is resent only if the response has a 4xx status or a gRPC error, or with
/// [`resend_even_if_processed`](crate::AddAccessTokenLayer::resend_even_if_processed). If two of these layers put two tokens on a request,
/// the mark of a service counts for the lower one.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{BoxError, Service, ServiceBuilder};
/// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::AccessTokenRefused};
///
/// # fn example<S>(source: TokenSource, http: S) -> Result<(), Box<dyn std::error::Error>>
/// # where
/// #     S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = BoxError> + Clone,
/// # {
/// let api = ServiceBuilder::new()
///     .layer(AddAccessTokenLayer::new(source).origin("https://api.example")?)
///     .and_then(async |response: Response<Full<Bytes>>| {
///         let (mut head, body) = response.into_parts();
///         let body = body.collect().await?.to_bytes();
///         if has_error(&body, "UNAUTHENTICATED") {
///             head.extensions.insert(AccessTokenRefused);
///         }
///         Ok::<_, BoxError>(Response::from_parts(head, Full::new(body)))
///     })
///     .service(http);
/// # Ok(())
/// # }
/// # fn has_error(_: &Bytes, _: &str) -> bool { false }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTokenRefused;
