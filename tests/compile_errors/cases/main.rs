//! Code that must not compile, one mistake in each file.

mod boxed_service;
mod boxed_service_below_the_layer;
mod buffered_body_that_is_no_body;
mod discovery_with_another_body;
mod error_that_is_no_error;
mod local_service;
mod reqwest_client;
mod resent_stream;
mod revocation_with_another_body;
