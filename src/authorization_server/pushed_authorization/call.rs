//! The parts of a call that are specific to the pushed authorization request endpoint.

use std::time::{Duration, SystemTime};

use crate::{
    authorization_server::{
        endpoint::{
            BadAnswer, ERROR_MEMBERS, EndpointCall, EndpointNames, JsonObject, JsonValue,
            check_not_empty, is_no_error,
        },
        metadata::AuthenticationLists,
    },
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::{Parameter, PushedAuthorizationResponse},
};

/// A call of the pushed authorization request endpoint.
#[derive(Clone, Copy)]
pub(crate) struct PushedAuthorizationCall;

impl EndpointCall for PushedAuthorizationCall {
    type Response = PushedAuthorizationResponse;

    /// "The rules for client authentication as defined in [RFC6749] for token endpoint requests, including the applicable authentication
    /// methods, apply for the PAR endpoint as well" (RFC 9126 §2).
    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "pushed_authorization_request_endpoint",
        authentication_lists: AuthenticationLists::OF_TOKEN_ENDPOINT,
        endpoint: "pushed authorization request endpoint",
        request: "pushed authorization request",
        service: "PushedAuthorizationEndpoint",
    };

    const ONCE: &'static [&'static str] = &[
        "response_type",
        "redirect_uri",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "dpop_jkt",
        "response_mode",
        "prompt",
        "max_age",
        "authorization_details",
        "request",
    ];

    fn check_value(parameter: &Parameter, value: &str) -> Result<(), String> {
        match &*parameter.name {
            // RFC 9126 §2.1.
            "request_uri" => Err("the parameter `request_uri` must not be pushed".into()),
            name @ ("response_type" | "redirect_uri") => check_not_empty(name, value),
            _ => Ok(()),
        }
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        Some(match *code {
            ErrorCode::INVALID_REQUEST => {
                "the pushed authorization request endpoint refused the request; check the redirect URI and the other parameters"
            }
            ErrorCode::INVALID_SCOPE => {
                "the pushed authorization request endpoint does not accept the scope; check it"
            }
            ErrorCode::INVALID_AUTHORIZATION_DETAILS => {
                "the pushed authorization request endpoint does not accept the authorization details; check them"
            }
            ErrorCode::UNAUTHORIZED_CLIENT => {
                "the client may not push authorization requests; change its registration, or call `pushed(false)`"
            }
            _ => return None,
        })
    }

    fn decode(
        &self,
        answer: Answer,
        _: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<PushedAuthorizationResponse, TokenError> {
        match reference(&answer) {
            Ok((request_uri, expires_in)) => Ok(PushedAuthorizationResponse::new(
                request_uri,
                expires_in,
                answer,
            )),
            Err(bad) => Err(bad.into_error(answer, now)),
        }
    }
}

/// A reference is part of a URL, and servers limit those.
const MAX_LENGTH: usize = 4096;

/// Reads the reference and its lifetime.
fn reference(answer: &Answer) -> Result<(String, Option<Duration>), BadAnswer> {
    type Call = PushedAuthorizationCall;
    let refusal = |what: &str| BadAnswer::refusal::<Call>(answer, what);
    let unusable = |what: String| BadAnswer::unusable::<Call>(what);
    let object = JsonObject::read(
        answer.text(),
        &[ERROR_MEMBERS[0], "request_uri", "expires_in"],
    )
    .map_err(|error| BadAnswer::unparsed::<Call>(answer, &error))?;
    let [error, request_uri, expires_in] = object.values;
    if !error.says_none() && !is_no_error(answer.text()) {
        return Err(refusal("returned an error with a status of success"));
    }
    if let Some(name) = object.repeated {
        return Err(unusable(format!("returned the member `{name}` twice")));
    }
    match request_uri {
        JsonValue::Text(text) if text.len() > MAX_LENGTH => Err(unusable(format!(
            "returned a `request_uri` of more than {MAX_LENGTH} bytes"
        ))),
        JsonValue::Text(text) if !text.is_empty() => Ok((text.into_owned(), expires_in.seconds())),
        JsonValue::Absent | JsonValue::Text(_) => Err(refusal("returned no `request_uri`")),
        _ => Err(unusable(
            "returned a `request_uri` that is not a string".into(),
        )),
    }
}
