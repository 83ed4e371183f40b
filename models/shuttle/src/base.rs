//! The room `base` with a clock that the model moves and the primitives of shuttle.

pub(crate) mod clock;
#[path = "../../../src/base/panic.rs"]
pub(crate) mod panic;
#[path = "../../../src/base/quoted.rs"]
mod quoted;
#[path = "../../../src/base/single_flight/mod.rs"]
pub(crate) mod single_flight;
pub(crate) mod sync;
#[path = "../../../src/base/uri.rs"]
pub(crate) mod uri;

pub(crate) use self::quoted::Quoted;
