//! The endpoints of an authorization server.

pub(crate) mod endpoint;
pub(crate) mod http_service;
pub(crate) mod issuer;
pub(crate) mod metadata;
#[cfg(feature = "authorization-code")]
pub mod pushed_authorization;
pub mod revocation;
pub mod token_endpoint;
