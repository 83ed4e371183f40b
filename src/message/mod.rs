//! Token requests and token responses, with their tokens and scopes.

mod access_token;
pub(crate) mod challenge;
#[cfg(feature = "dpop")]
mod dpop_proof;
mod form;
mod other_schemes;
mod parameter;
mod readable;
mod revocation_request;
pub(crate) mod scope;
mod secret_names;
mod token_request;
mod token_response;

pub use self::{
    access_token::{AccessToken, InvalidAccessToken, NoAccessToken, TokenType},
    challenge::Challenge,
    revocation_request::RevocationRequest,
    scope::{InvalidScope, Scope},
    token_request::TokenRequest,
    token_response::{TokenResponse, TokenResponseBuilder},
};
pub(crate) use self::{
    form::Form,
    parameter::{Parameter, is_code_verifier},
    readable::CalledSlot,
    token_response::Fields,
};
