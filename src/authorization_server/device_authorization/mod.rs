//! What goes with [`DeviceAuthorizationEndpoint`](crate::DeviceAuthorizationEndpoint), which begins a device login: its future.

mod call;
mod decode;
pub(crate) mod service;

pub use self::service::ResponseFuture;
