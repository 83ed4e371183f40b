//! What goes with [`IntrospectionEndpoint`](crate::IntrospectionEndpoint), which says whether a token is active: its future.

mod call;
mod decode;
pub(crate) mod service;

pub use self::service::ResponseFuture;
