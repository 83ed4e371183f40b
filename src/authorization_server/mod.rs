//! The endpoints of an authorization server.

pub(crate) mod endpoint;
pub(crate) mod metadata;
pub mod token_endpoint;
