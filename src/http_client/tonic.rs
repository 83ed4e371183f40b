//! What tonic makes of a missing token.

use tonic::{Code, Status, body::Body};

use crate::{
    add_access_token::BufferBody,
    error::{BoxError, TokenError, TokenErrorKind},
};

/// The status of an error of [`AddAccessToken`](crate::AddAccessToken) below a tonic client, which would else see `Unknown`.
///
/// A missing token is `UNAVAILABLE` if a later call may get one, and `UNAUTHENTICATED` if nothing but a change (of the secret, the
/// registration, the sign-in) brings one. Whatever else it is, it is what tonic makes of it.
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
/// # fn example(source: TokenSource, channel: Channel) {
/// let channel = ServiceBuilder::new()
///     .map_err(grpc_status)
///     .layer(AddAccessTokenLayer::new(source).resend(BufferBody::tonic(64 * 1024)))
///     .service(channel);
/// # }
/// ```
pub fn grpc_status(error: BoxError) -> Status {
    let Some(token_error) = TokenError::find_in_chain(&*error) else {
        return Status::from_error(error);
    };
    let is_passing = token_error.is_transient() || token_error.kind() == TokenErrorKind::NoRuntime;
    let code = if is_passing {
        Code::Unavailable
    } else {
        Code::Unauthenticated
    };
    let message = format!("no access token: {token_error}");
    let mut status = Status::new(code, message);
    status.set_source(std::sync::Arc::from(error));
    status
}

impl BufferBody<Body> {
    /// Keeps bodies of tonic's requests of up to `limit` bytes.
    #[must_use]
    pub fn tonic(limit: usize) -> Self {
        Self::new(limit, Body::new)
    }
}
