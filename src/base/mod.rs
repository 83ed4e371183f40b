//! What knows nothing of OAuth: clocks, URIs, panics, foreign text, single flights.

#[cfg(any(feature = "jwt", feature = "rustls"))]
pub(crate) mod certificate;
pub(crate) mod clock;
pub(crate) mod panic;
mod quoted;
pub(crate) mod single_flight;
pub(crate) mod sync;
pub(crate) mod uri;

pub(crate) use self::quoted::Quoted;
