//! The endpoints of an authorization server.

pub(crate) mod endpoint;
pub(crate) mod http_service;
pub(crate) mod issuer;
pub(crate) mod metadata;
pub mod revocation;
pub mod token_endpoint;
