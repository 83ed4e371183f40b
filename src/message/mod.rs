//! Token requests and token responses, with their tokens and scopes.

mod access_token;
mod authorization_detail;
#[cfg(feature = "authorization-code")]
mod authorization_request;
pub(crate) mod challenge;
#[cfg(feature = "dpop")]
mod dpop_proof;
mod form;
mod id_token_checks;
mod other_schemes;
mod parameter;
#[cfg(feature = "authorization-code")]
mod pushed_authorization;
mod revocation_request;
pub(crate) mod scope;
mod token_request;
mod token_response;

pub use self::{
    access_token::{AccessToken, InvalidAccessToken, NoAccessToken, TokenType},
    authorization_detail::AuthorizationDetail,
    challenge::Challenge,
    id_token_checks::{IdTokenChecks, IdTokenClaims},
    revocation_request::RevocationRequest,
    scope::{InvalidScope, Scope},
    token_request::TokenRequest,
    token_response::{TokenResponse, TokenResponseBuilder},
};
#[cfg(feature = "authorization-code")]
pub use self::{
    authorization_request::AuthorizationRequest,
    pushed_authorization::{PushedAuthorizationRequest, PushedAuthorizationResponse},
};
pub(crate) use self::{
    form::Form,
    parameter::{Parameter, is_code_verifier},
    token_response::Fields,
};
