//! The room `base` as far as the models need it.

#[allow(dead_code)]
#[path = "../../../src/base/published.rs"]
pub(crate) mod published;
#[allow(dead_code)]
#[path = "../../../src/base/single_flight/mod.rs"]
pub(crate) mod single_flight;
pub(crate) mod sync;
