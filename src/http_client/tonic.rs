//! Support for tonic: a buffer for request bodies.

use tonic::body::Body;

use crate::add_access_token::BufferBody;

impl BufferBody<Body> {
    /// Buffers the bodies of tonic's requests, up to `limit` bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::BufferBody};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .resend(BufferBody::tonic(64 * 1024));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tonic(limit: usize) -> Self {
        Self::new(limit, Body::new)
    }
}
