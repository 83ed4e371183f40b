//! What goes with [`TokenEndpoint`](crate::TokenEndpoint): its future, and a policy that retries token requests.

mod call;
mod decode;
mod defaults;
mod discover;
mod from_json;
mod id_token;
pub(crate) mod refusal;
#[cfg(feature = "retry")]
mod retry_transient;
pub(crate) mod service;
pub(crate) mod stack;

#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub use self::retry_transient::{Pause, RetryTransient};
pub use self::service::ResponseFuture;
