//! What goes with [`UserinfoEndpoint`](crate::UserinfoEndpoint), which returns claims about a user: its future.

mod call;
mod decode;
pub(crate) mod service;

pub use self::service::ResponseFuture;
