//! What goes with [`RevocationEndpoint`](crate::RevocationEndpoint), which revokes tokens: its future.

mod call;
mod discover;
pub(crate) mod service;

pub use self::service::ResponseFuture;
