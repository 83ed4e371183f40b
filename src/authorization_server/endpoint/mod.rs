//! The road that all endpoints of an authorization server share. Each endpoint implements [`EndpointCall`].
//!
//! A call takes these steps:
//!
//! 1. [`check`]: refuse an invalid request before anything is obtained or sent. Pure.
//! 2. [`place`]: find the URI of the endpoint, if only its issuer is known.
//! 3. [`preparation`]: obtain credentials and sign, again for every attempt.
//! 4. [`encode`]: make the HTTP request. Pure.
//! 5. [`future`]: send it, and collect the response.
//! 6. [`decode`]: read the response. Pure.

mod about;
mod call;
mod challenge_error;
mod check;
mod decode;
mod encode;
mod endpoint_core;
mod future;
mod json;
mod members;
mod own_words;
mod place;
mod preparation;
mod sent_secrets;
mod server_words;
mod service;

use std::time::SystemTime;

use bytes::Bytes;
use http::Request;

pub(crate) use self::{
    check::check_not_empty,
    decode::{BadAnswer, ERROR_MEMBERS, error_response},
    encode::{Obtained, Target, get, json},
    endpoint_core::EndpointCore,
    future::{CallFuture, response_future},
    json::{JsonObject, JsonValue},
    members::{compact_jwt, members, members_except},
    server_words::{Said, is_no_error},
    service::{
        endpoint_service, endpoint_service_parts, inner_service, protected_endpoint_service,
    },
};
use crate::{
    authorization_server::metadata::AuthenticationLists,
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::{AccessToken, Form, Parameter},
};

/// The parts of a call that differ from endpoint to endpoint. A value stands for one call.
pub(crate) trait EndpointCall: Clone + Send + Sync + 'static {
    /// What a successful call returns.
    type Response;

    const NAMES: EndpointNames;

    /// The parameters of this endpoint that the RFCs allow once, even where the caller may repeat parameters.
    const ONCE: &'static [&'static str];

    /// Whether an error may be in a challenge instead of the body (RFC 6750 §3), because an access token may authorize the request.
    const READS_CHALLENGES: bool = false;

    /// The access token that authorizes the request, in place of a client.
    fn access_token(&self) -> Option<&AccessToken> {
        None
    }

    /// Checks the value of a parameter that this endpoint defines.
    ///
    /// # Errors
    ///
    /// If the value is invalid. The error is a sentence.
    fn check_value(parameter: &Parameter, value: &str) -> Result<(), String>;

    /// Explains an error code, if this endpoint gives it a meaning of its own.
    fn explain(_: &ErrorCode) -> Option<&'static str> {
        None
    }

    /// What to check if the server refuses whoever sends the request: the rest of a sentence that begins with "check".
    fn what_to_check(&self, client: &ClientAuthentication) -> &'static str {
        match self.access_token() {
            Some(_) => "the access token: whether it is meant for this endpoint, and still valid",
            None => client.what_to_check(),
        }
    }

    /// Makes the HTTP request. Default is a form that is sent by `POST`.
    fn encode(
        &self,
        form: &Form,
        target: &Target<'_>,
        obtained: Option<&Obtained<'_>>,
    ) -> Result<Request<Bytes>, TokenError> {
        encode::form(self, form, target, obtained)
    }

    /// Reads the response to a request that the server accepted (any 2xx). `dpop` is the key that the request was sent with; `now` is
    /// the time that a `Retry-After` date is compared with.
    fn decode(
        &self,
        answer: Answer,
        dpop: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<Self::Response, TokenError>;

    /// The result of a request that the server accepted, if the body of the response does not matter.
    fn decode_without_body(&self) -> Option<Self::Response> {
        None
    }
}

/// What an endpoint is called, in the metadata of its issuer and in messages.
#[derive(Clone, Copy)]
pub(crate) struct EndpointNames {
    /// `token_endpoint`
    pub(crate) metadata_member: &'static str,
    pub(crate) authentication_lists: AuthenticationLists,
    /// `token endpoint`
    pub(crate) endpoint: &'static str,
    /// `token request`
    pub(crate) request: &'static str,
    /// `TokenEndpoint`
    pub(crate) service: &'static str,
}

impl EndpointNames {
    /// The error of a request that is not sent.
    pub(crate) fn refuse(&self, reason: impl AsRef<str>) -> TokenError {
        let reason = reason.as_ref();
        TokenError::request(format!("the {} was not sent: {reason}", self.request))
    }
}
