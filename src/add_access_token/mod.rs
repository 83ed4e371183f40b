//! A layer that authenticates outgoing requests.
//!
//! [`AddAccessTokenLayer`](crate::AddAccessTokenLayer) wraps an outbound service client, takes the token from a
//! [`TokenSource`](crate::TokenSource), and puts the `Authorization` header on each request.
//!
//! 1. A request that bears an `Authorization` of its own, or the mark [`NoAccessToken`](crate::NoAccessToken), is left
//!    alone.
//! 2. A request that goes by plain `http` beyond this machine is an error, unless
//!    [`danger_allow_http`](crate::AddAccessTokenLayer::danger_allow_http) says otherwise. Where
//!    [origins](crate::AddAccessTokenLayer::origin) are named, a request to another one goes without a token.
//! 3. While there is a token that can be used, it is put on the request, and the inner service that was made ready is called
//!    at once.
//! 4. Else the ready inner service is dropped, so that what it has reserved is given back; the token is awaited; then a clone is
//!    made ready and called. No token, no request: the error is a [`TokenError`](crate::TokenError) in a box.
//! 5. A response that refuses the token (a 401 whose challenge says `invalid_token`, no error or nothing at all; for gRPC the
//!    status `UNAUTHENTICATED` in the headers) invalidates that very token, and bears the mark [`AccessTokenRefused`].
//! 6. If [`resend`](crate::AddAccessTokenLayer::resend) is on, the request is then sent once more, with another token or not at all.
//! 7. A token that is bound to a DPoP key goes with a proof for that one request. So what sends a request again by itself, such as
//!    tower's `Retry`, belongs above this layer. A 401 that demands another nonce in the proof keeps the token; with `resend`, the
//!    request is sent once more with a new proof.
//!
//! # Per request
//!
//! A request may bear a [`TokenRequest`](crate::TokenRequest) or a [`TokenSource`](crate::TokenSource) in its extensions, which
//! takes the place of the layer's own: for another scope, another tenant, or on behalf of a user. Or the layer is given a function
//! that makes the token request out of each request: see
//! [`token_request_for`](crate::AddAccessTokenLayer::token_request_for).

mod auth_headers;
mod destination;
mod error;
mod follow_up;
mod future;
mod headers;
pub(crate) mod layer;
mod needs;
mod proof;
mod recheck;
mod refusal;
mod resend;
pub(crate) mod service;
mod token_choice;
mod unsent;
mod watch_trailers;
mod www_authenticate;

pub use self::{
    error::{InsecureTransport, InvalidOrigin},
    future::ResponseFuture,
    resend::{BufferBody, Buffered, BufferedBody, CloneBody, NoResend, Resend},
    watch_trailers::{WatchTrailers, WatchTrailersFuture, WatchTrailersLayer, WatchedBody},
};

/// A mark in the extensions of a response: it refused the access token that the request bore. See the
/// [module](self) for what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTokenRefused;
