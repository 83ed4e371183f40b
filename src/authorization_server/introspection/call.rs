//! The parts of a call that are specific to the introspection endpoint.

use std::time::SystemTime;

use super::decode::{self, State};
use crate::{
    authorization_server::{
        endpoint::{EndpointCall, EndpointNames, check_not_empty},
        metadata::AuthenticationLists,
    },
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::{AccessToken, IntrospectionRequest, IntrospectionResponse, Parameter},
};

/// A call of the introspection endpoint.
#[derive(Clone)]
pub(crate) struct IntrospectionCall {
    wants_jwt: bool,
    access_token: Option<AccessToken>,
}

impl IntrospectionCall {
    pub(super) fn of(request: &IntrospectionRequest) -> Self {
        Self {
            wants_jwt: request.wants_jwt(),
            access_token: request.authorization().cloned(),
        }
    }
}

impl EndpointCall for IntrospectionCall {
    type Response = IntrospectionResponse;

    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "introspection_endpoint",
        authentication_lists: AuthenticationLists {
            methods: "introspection_endpoint_auth_methods_supported",
            algorithms: "introspection_endpoint_auth_signing_alg_values_supported",
        },
        endpoint: "introspection endpoint",
        request: "introspection request",
        service: "IntrospectionEndpoint",
    };

    const ONCE: &'static [&'static str] = &["token", "token_type_hint"];

    const READS_CHALLENGES: bool = true;

    fn access_token(&self) -> Option<&AccessToken> {
        self.access_token.as_ref()
    }

    fn check_value(parameter: &Parameter, value: &str) -> Result<(), String> {
        match Self::ONCE.contains(&&*parameter.name) {
            true => check_not_empty(&parameter.name, value),
            false => Ok(()),
        }
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        match *code {
            ErrorCode::INVALID_TOKEN => Some(
                "the introspection endpoint does not accept the access token that authorizes the request",
            ),
            _ => None,
        }
    }

    fn decode(
        &self,
        answer: Answer,
        _: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<IntrospectionResponse, TokenError> {
        match decode::state(&answer, self.wants_jwt) {
            Ok(State::Json(is_active, members)) => {
                Ok(IntrospectionResponse::checked(is_active, members, answer))
            }
            Ok(State::Jwt(jwt)) => Ok(IntrospectionResponse::jwt(jwt, answer)),
            Err(bad) => Err(bad.into_error(answer, now)),
        }
    }
}
