//! The room `base` with clocks and timers that the model moves, and the primitives of shuttle.

#[path = "../../../src/base/authority.rs"]
pub(crate) mod authority;
#[path = "../../../src/base/back_off.rs"]
pub(crate) mod back_off;
pub(crate) mod clock;
#[path = "../../../src/base/clone_service.rs"]
pub(crate) mod clone_service;
#[path = "../../../src/base/decoded.rs"]
mod decoded;
#[path = "../../../src/base/erased_service.rs"]
pub(crate) mod erased_service;
#[path = "../../../src/base/mask.rs"]
pub(crate) mod mask;
#[path = "../../../src/base/origin.rs"]
pub(crate) mod origin;
#[path = "../../../src/base/origin_id.rs"]
pub(crate) mod origin_id;
#[path = "../../../src/base/panic.rs"]
pub(crate) mod panic;
#[path = "../../../src/base/public_address.rs"]
pub(crate) mod public_address;
#[path = "../../../src/base/published.rs"]
pub(crate) mod published;
#[path = "../../../src/base/quoted.rs"]
mod quoted;
#[path = "../../../src/base/request_headers.rs"]
pub(crate) mod request_headers;
#[path = "../../../src/base/secure_uri.rs"]
pub(crate) mod secure_uri;
#[path = "../../../src/base/server_clock.rs"]
pub(crate) mod server_clock;
#[path = "../../../src/base/single_flight/mod.rs"]
pub(crate) mod single_flight;
pub(crate) mod sync;
pub(crate) mod timer;
#[path = "../../../src/base/uri.rs"]
pub(crate) mod uri;

pub(crate) use self::quoted::{ForeignText, Quoted, is_printable};
