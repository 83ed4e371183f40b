//! A layer that obtains a token for any API that demands one.
//!
//! TODO

mod authorizer;
mod by_issuer;
mod candidate;
mod choose_server;
mod demand;
mod discovered;
mod error;
mod http;
mod identity;
mod identity_provider;
mod layer;
mod obtain;
mod registration;
mod scope_choice;
mod server;
mod service;
#[cfg(feature = "authorization-code")]
mod sign_in;
mod step;
mod table;

#[cfg(feature = "authorization-code")]
#[cfg_attr(docsrs, doc(cfg(feature = "authorization-code")))]
pub use self::sign_in::{AuthorizationUrl, SignIn};
pub use self::{
    candidate::IssuerCandidate,
    error::{NotAuthorized, NotAuthorizedKind},
    identity::Identity,
    identity_provider::IdentityProvider,
    layer::AuthorizeAnywhereLayer,
    service::AuthorizeAnywhere,
};
