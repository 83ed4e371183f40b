//! The parts of a call that are specific to the token endpoint.

use std::{sync::Arc, time::SystemTime};

use super::decode;
use crate::{
    authorization_server::{
        endpoint::{EndpointCall, EndpointNames, check_not_empty},
        metadata::AuthenticationLists,
    },
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::{IdTokenChecks, Parameter, TokenResponse, is_code_verifier},
};

/// A call of the token endpoint.
#[derive(Clone, Default)]
pub(crate) struct TokenCall {
    /// Whether a `Bearer` token is accepted although a token that is bound to a key was requested.
    pub(super) allow_bearer: bool,
    /// Whether a token of an unknown type is sent as a `Bearer` token.
    pub(super) unknown_as_bearer: bool,
    /// Whether the ID token is used as the access token.
    pub(super) use_id_token: bool,
    /// What this request wants an ID token to say.
    pub(super) id_token_checks: Option<Arc<IdTokenChecks>>,
}

#[cfg(feature = "token-store")]
impl TokenCall {
    /// Says what is made of a response.
    pub(crate) fn use_of_response(&self) -> String {
        let Self {
            allow_bearer,
            unknown_as_bearer,
            use_id_token,
            ..
        } = self;
        format!("{allow_bearer} {unknown_as_bearer} {use_id_token}")
    }
}

impl EndpointCall for TokenCall {
    type Response = TokenResponse;

    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "token_endpoint",
        authentication_lists: AuthenticationLists::OF_TOKEN_ENDPOINT,
        endpoint: "token endpoint",
        request: "token request",
        service: "TokenEndpoint",
    };

    const ONCE: &'static [&'static str] = &[
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "username",
        "password",
        "refresh_token",
        "device_code",
        "auth_req_id",
        "assertion",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "authorization_details",
        "requested_token_type",
    ];

    fn check_value(parameter: &Parameter, value: &str) -> Result<(), String> {
        match &*parameter.name {
            // A user may have no password.
            "password" => Ok(()),
            "code_verifier" if parameter.checked => check_code_verifier(value),
            name if parameter.checked || Self::ONCE.contains(&name) => check_not_empty(name, value),
            _ => Ok(()),
        }
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        Some(match *code {
            ErrorCode::INVALID_GRANT => {
                "the token endpoint does not accept the grant; it is wrong, expired or used up, so obtain a new one"
            }
            ErrorCode::INVALID_SCOPE => "the token endpoint does not accept the scope; check it",
            ErrorCode::INVALID_TARGET => {
                "the token endpoint does not accept the resource or audience; check it"
            }
            ErrorCode::INVALID_AUTHORIZATION_DETAILS => {
                "the token endpoint does not accept the authorization details; check them"
            }
            ErrorCode::UNAUTHORIZED_CLIENT => {
                "the client may not use this grant; change its registration, or the grant"
            }
            ErrorCode::UNSUPPORTED_GRANT_TYPE => {
                "the token endpoint does not support this grant type"
            }
            ErrorCode::AUTHORIZATION_PENDING => "the user has not decided yet; try again later",
            ErrorCode::SLOW_DOWN => {
                "the requests to the token endpoint are too frequent; try again five seconds later"
            }
            _ => return None,
        })
    }

    fn decode(
        &self,
        answer: Answer,
        dpop: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<TokenResponse, TokenError> {
        match decode::fields(self, &answer, dpop, now) {
            Ok(fields) => Ok(TokenResponse::new(fields, answer)),
            Err(bad) => Err(bad.into_error(answer, now)),
        }
    }
}

fn check_code_verifier(verifier: &str) -> Result<(), String> {
    check_not_empty("code_verifier", verifier)?;
    match is_code_verifier(verifier) {
        true => Ok(()),
        false => Err(
            "the `code_verifier` must have 43 to 128 letters, digits or -._~ (RFC 7636 section 4.1); \
             for a server that takes another form, use `.parameter(\"code_verifier\", ..)`"
                .into(),
        ),
    }
}
