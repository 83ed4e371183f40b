//! Token requests and token responses, with their tokens and scopes.

mod access_token;
mod accessors;
mod authorization_detail;
#[cfg(feature = "authorization-code")]
mod authorization_request;
mod backchannel_authentication_request;
mod backchannel_authentication_response;
pub(crate) mod challenge;
mod client_id_metadata_document;
mod client_metadata;
mod device_authorization_request;
mod device_authorization_response;
#[cfg(feature = "dpop")]
mod dpop_proof;
mod form;
mod id_token_checks;
mod introspection_request;
mod introspection_response;
mod json_time;
mod other_schemes;
mod parameter;
mod polling_terms;
#[cfg(feature = "authorization-code")]
mod pushed_authorization;
mod registered_client;
mod registration_request;
mod registration_response;
mod revocation_request;
pub(crate) mod scope;
mod secret_names;
mod token_request;
mod token_response;
mod userinfo_request;
mod userinfo_response;

pub(crate) use self::{
    access_token::TokenMark,
    device_authorization_response::DeviceFields,
    form::{CalledSlot, Form},
    json_time::json_time,
    parameter::{Parameter, is_code_verifier, is_first_only},
    polling_terms::{PollingTerms, PollingTimes},
    registration_response::{AUTH_METHOD, IssuedClient},
    token_response::Fields,
};
pub use self::{
    access_token::{AccessToken, InvalidAccessToken, NoAccessToken, TokenType},
    authorization_detail::AuthorizationDetail,
    backchannel_authentication_request::BackchannelAuthenticationRequest,
    backchannel_authentication_response::BackchannelAuthenticationResponse,
    challenge::Challenge,
    client_id_metadata_document::ClientIdMetadataDocument,
    client_metadata::{ClientMetadata, InvalidClientMetadata},
    device_authorization_request::DeviceAuthorizationRequest,
    device_authorization_response::DeviceAuthorizationResponse,
    id_token_checks::{IdTokenChecks, IdTokenClaims},
    introspection_request::IntrospectionRequest,
    introspection_response::IntrospectionResponse,
    registration_request::RegistrationRequest,
    registration_response::RegistrationResponse,
    revocation_request::RevocationRequest,
    scope::{InvalidScope, Scope},
    token_request::TokenRequest,
    token_response::{TokenResponse, TokenResponseBuilder},
    userinfo_request::UserinfoRequest,
    userinfo_response::UserinfoResponse,
};
#[cfg(feature = "authorization-code")]
pub use self::{
    authorization_request::AuthorizationRequest,
    pushed_authorization::{PushedAuthorizationRequest, PushedAuthorizationResponse},
};
