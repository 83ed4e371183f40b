//! What goes with [`RegistrationEndpoint`](crate::RegistrationEndpoint), which registers clients: its future.

mod call;
mod decode;
pub(crate) mod service;

pub use self::service::ResponseFuture;
