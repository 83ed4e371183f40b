//! What goes with [`PushedAuthorizationEndpoint`](crate::PushedAuthorizationEndpoint): its future.

mod call;
pub(crate) mod service;

pub use self::service::ResponseFuture;
