//! The parts of a call that are specific to the backchannel authentication endpoint.

use std::time::SystemTime;

use super::decode;
use crate::{
    authorization_server::{
        endpoint::{EndpointCall, EndpointNames, check_not_empty},
        metadata::AuthenticationLists,
    },
    base::clock::tokio_now,
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::{BackchannelAuthenticationResponse, Parameter},
};

/// A call of the backchannel authentication endpoint.
#[derive(Clone, Copy)]
pub(crate) struct BackchannelAuthenticationCall;

impl EndpointCall for BackchannelAuthenticationCall {
    type Response = BackchannelAuthenticationResponse;

    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "backchannel_authentication_endpoint",
        // "The Client MUST authenticate to the Backchannel Authentication Endpoint using the authentication method registered for its
        // client_id, such as the authentication methods from Section 9 of [OpenID.Core]" (CIBA §7.1).
        authentication_lists: AuthenticationLists::OF_TOKEN_ENDPOINT,
        endpoint: "backchannel authentication endpoint",
        request: "backchannel authentication request",
        service: "BackchannelAuthenticationEndpoint",
    };

    const ONCE: &'static [&'static str] = &[
        "login_hint",
        "login_hint_token",
        "id_token_hint",
        "request",
        "binding_message",
        "user_code",
        "requested_expiry",
        "acr_values",
        "client_notification_token",
    ];

    fn check_value(parameter: &Parameter, value: &str) -> Result<(), String> {
        match parameter.checked || Self::ONCE.contains(&&*parameter.name) {
            true => check_not_empty(&parameter.name, value),
            false => Ok(()),
        }
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        Some(match *code {
            ErrorCode::INVALID_SCOPE => {
                "the backchannel authentication endpoint does not accept the scope; check it"
            }
            ErrorCode::UNAUTHORIZED_CLIENT | ErrorCode::UNSUPPORTED_GRANT_TYPE => {
                "the client may not use backchannel authentication; change its registration"
            }
            ErrorCode::UNKNOWN_USER_ID => "the server does not know the user of the hint",
            ErrorCode::EXPIRED_LOGIN_HINT_TOKEN => {
                "the token that identifies the user has expired; obtain a new one"
            }
            ErrorCode::MISSING_USER_CODE => {
                "the server requires the user code of the user; ask the user for it"
            }
            ErrorCode::INVALID_USER_CODE => "the user code of the user is wrong",
            ErrorCode::INVALID_BINDING_MESSAGE => {
                "the server does not show such a binding message; shorten or simplify it"
            }
            _ => return None,
        })
    }

    fn decode(
        &self,
        answer: Answer,
        _: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<BackchannelAuthenticationResponse, TokenError> {
        let received_at = tokio_now();
        match decode::fields(&answer) {
            Ok((auth_req_id, times)) => Ok(BackchannelAuthenticationResponse::new(
                auth_req_id,
                times,
                received_at,
                answer,
            )),
            Err(bad) => Err(bad.into_error(answer, now)),
        }
    }
}
