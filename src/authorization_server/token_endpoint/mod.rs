//! What goes with [`TokenEndpoint`](crate::TokenEndpoint): its future, and a policy to send a request again.

mod check;
mod decode;
mod discover;
mod encode;
mod future;
mod place;
mod preparation;
#[cfg(feature = "retry")]
mod retry_transient;
pub(crate) mod service;

pub use self::future::ResponseFuture;
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub use self::retry_transient::{Pause, RetryTransient};
