//! Helpers that do not depend on OAuth: clocks, URIs, certificates and PEM, services, single flights, published values, text from servers.

pub(crate) mod authority;
pub(crate) mod back_off;
#[cfg(any(feature = "jwt", feature = "rustls"))]
pub(crate) mod certificate;
pub(crate) mod clock;
pub(crate) mod clone_service;
mod decoded;
pub(crate) mod erased_service;
pub(crate) mod mask;
pub(crate) mod origin;
pub(crate) mod origin_id;
pub(crate) mod panic;
#[cfg(any(feature = "jwt", feature = "rustls"))]
pub(crate) mod pem;
pub(crate) mod per_server;
pub(crate) mod public_address;
pub(crate) mod published;
mod quoted;
pub(crate) mod request_headers;
pub(crate) mod secure_uri;
pub(crate) mod server_clock;
pub(crate) mod single_flight;
pub(crate) mod sync;
pub(crate) mod timer;
pub(crate) mod uri;

pub(crate) use self::quoted::{ForeignText, Quoted, is_printable};
