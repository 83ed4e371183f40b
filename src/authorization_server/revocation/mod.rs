//! The future of [`RevocationEndpoint`](crate::RevocationEndpoint).

mod call;
mod discover;
pub(crate) mod service;

pub use self::service::ResponseFuture;
