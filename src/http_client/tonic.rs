//! Support for tonic: the gRPC status of a missing token, and a buffer for request bodies.

use tonic::{Code, Status, body::Body};

use crate::{
    add_access_token::BufferBody,
    error::{BoxError, TokenError, TokenErrorKind},
};

/// Converts an error of [`AddAccessToken`](crate::AddAccessToken) into a gRPC status.
///
/// Use it with `map_err` between a tonic client and the layer. Otherwise the tonic client returns `UNKNOWN` for a missing token.
///
/// A missing token becomes `UNAVAILABLE` if a later call may succeed, and `UNAUTHENTICATED` if something must change first (the secret,
/// the registration, the user's sign-in). Any other error is converted by [`Status::from_error`].
///
/// # Examples
///
/// ```
/// use tonic::transport::Channel;
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::{
///     AddAccessTokenLayer, TokenSource, add_access_token::BufferBody, grpc_status,
/// };
///
/// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
/// let api = "https://api.example";
/// let channel = ServiceBuilder::new()
///     .map_err(grpc_status)
///     .layer(
///         AddAccessTokenLayer::new(source)
///             .origin(api)?
///             .resend(BufferBody::tonic(64 * 1024)),
///     )
///     .service(Channel::from_static(api).connect_lazy());
/// # Ok(())
/// # }
/// ```
pub fn grpc_status(error: BoxError) -> Status {
    let Some(token_error) = TokenError::find_in_chain(&*error) else {
        return Status::from_error(error);
    };
    let is_passing = token_error.is_transient()
        || matches!(
            token_error.kind(),
            TokenErrorKind::NoRuntime | TokenErrorKind::ShutDown
        );
    let code = if is_passing {
        Code::Unavailable
    } else {
        Code::Unauthenticated
    };
    let message = format!("failed to fetch an access token: {token_error}");
    let mut status = Status::new(code, message);
    status.set_source(std::sync::Arc::from(error));
    status
}

impl BufferBody<Body> {
    /// Buffers the bodies of tonic's requests, up to `limit` bytes.
    #[must_use]
    pub fn tonic(limit: usize) -> Self {
        Self::new(limit, Body::new)
    }
}
