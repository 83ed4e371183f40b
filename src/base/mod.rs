//! Helpers that do not depend on OAuth: clocks, URIs, certificates, panics, text from servers.

#[cfg(any(feature = "jwt", feature = "rustls"))]
pub(crate) mod certificate;
pub(crate) mod clock;
pub(crate) mod panic;
mod quoted;
pub(crate) mod uri;

pub(crate) use self::quoted::Quoted;
