//! What goes with [`BackchannelAuthenticationEndpoint`](crate::BackchannelAuthenticationEndpoint), which asks a user on a device of their own:
//! its future.

mod call;
mod decode;
pub(crate) mod service;

pub use self::service::ResponseFuture;
