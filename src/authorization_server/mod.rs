//! The endpoints of an authorization server.

pub mod backchannel_authentication;
pub mod device_authorization;
pub(crate) mod endpoint;
pub(crate) mod http_service;
pub mod introspection;
pub(crate) mod issuer;
pub(crate) mod metadata;
pub(crate) mod polling;
#[cfg(feature = "authorization-code")]
pub mod pushed_authorization;
pub mod registration;
pub mod revocation;
pub mod token_endpoint;
pub mod userinfo;
