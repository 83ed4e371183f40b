//! Token requests and token responses, with their tokens and scopes.

mod access_token;
mod backchannel_authentication_request;
mod backchannel_authentication_response;
pub(crate) mod challenge;
mod device_authorization_request;
mod device_authorization_response;
#[cfg(feature = "dpop")]
mod dpop_proof;
mod form;
mod other_schemes;
mod parameter;
mod polling_terms;
mod revocation_request;
pub(crate) mod scope;
mod token_request;
mod token_response;

pub use self::{
    access_token::{AccessToken, InvalidAccessToken, NoAccessToken, TokenType},
    backchannel_authentication_request::BackchannelAuthenticationRequest,
    backchannel_authentication_response::BackchannelAuthenticationResponse,
    challenge::Challenge,
    device_authorization_request::DeviceAuthorizationRequest,
    device_authorization_response::DeviceAuthorizationResponse,
    revocation_request::RevocationRequest,
    scope::{InvalidScope, Scope},
    token_request::TokenRequest,
    token_response::{TokenResponse, TokenResponseBuilder},
};
pub(crate) use self::{
    device_authorization_response::DeviceFields,
    form::Form,
    parameter::{Parameter, is_code_verifier},
    polling_terms::{PollingTerms, PollingTimes},
    token_response::Fields,
};
