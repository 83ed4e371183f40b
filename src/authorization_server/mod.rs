//! The endpoints of an authorization server.

pub mod backchannel_authentication;
pub mod device_authorization;
pub(crate) mod endpoint;
pub(crate) mod http_service;
pub(crate) mod issuer;
pub(crate) mod metadata;
pub(crate) mod polling;
pub mod revocation;
pub mod token_endpoint;
