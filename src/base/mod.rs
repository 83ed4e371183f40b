//! What knows nothing of OAuth: clocks, URIs, panics, foreign text.

#[cfg(any(feature = "jwt", feature = "rustls"))]
pub(crate) mod certificate;
pub(crate) mod clock;
pub(crate) mod panic;
mod quoted;
pub(crate) mod uri;

pub(crate) use self::quoted::Quoted;
