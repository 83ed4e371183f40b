//! What goes with [`RevocationEndpoint`](crate::RevocationEndpoint), which revokes tokens: its future.

mod call;
pub(crate) mod service;

pub use self::service::ResponseFuture;
