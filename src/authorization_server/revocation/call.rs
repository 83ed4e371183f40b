//! The parts of a call that are specific to the revocation endpoint.

use std::time::SystemTime;

use crate::{
    authorization_server::{
        endpoint::{EndpointCall, EndpointNames, check_not_empty},
        metadata::AuthenticationLists,
    },
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::Parameter,
};

/// A call of the revocation endpoint.
#[derive(Clone, Copy)]
pub(crate) struct RevocationCall;

impl EndpointCall for RevocationCall {
    type Response = ();

    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "revocation_endpoint",
        authentication_lists: AuthenticationLists {
            methods: "revocation_endpoint_auth_methods_supported",
            algorithms: "revocation_endpoint_auth_signing_alg_values_supported",
        },
        endpoint: "revocation endpoint",
        request: "revocation request",
        service: "RevocationEndpoint",
    };

    const ONCE: &'static [&'static str] = &["token", "token_type_hint"];

    fn check_value(parameter: &Parameter, value: &str) -> Result<(), String> {
        match Self::ONCE.contains(&&*parameter.name) {
            true => check_not_empty(&parameter.name, value),
            false => Ok(()),
        }
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        match *code {
            ErrorCode::UNSUPPORTED_TOKEN_TYPE => Some(
                "the server does not revoke tokens of this type; revoke the refresh token instead, or let the token expire",
            ),
            _ => None,
        }
    }

    /// "The content of the response body is ignored by the client as all necessary information is conveyed in the response code" (RFC
    /// 7009 §2.2).
    fn decode(&self, _: Answer, _: Option<&DpopKey>, _: SystemTime) -> Result<(), TokenError> {
        Ok(())
    }

    fn decode_without_body(&self) -> Option<()> {
        Some(())
    }
}
