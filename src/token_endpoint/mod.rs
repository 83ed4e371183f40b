//! A service that turns token requests into tokens.

mod check;
mod decode;
mod encode;
mod error;
mod future;
#[cfg(feature = "retry")]
mod retry_transient;
mod service;

#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub use self::retry_transient::{Pause, RetryTransient};
pub use self::{
    error::{TokenError, TokenErrorKind},
    future::ResponseFuture,
    service::TokenEndpoint,
};
