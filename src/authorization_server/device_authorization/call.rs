//! The parts of a call that are specific to the device authorization endpoint.

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
    message::{DeviceAuthorizationResponse, Parameter},
};

/// A call of the device authorization endpoint.
#[derive(Clone, Copy)]
pub(crate) struct DeviceAuthorizationCall;

impl EndpointCall for DeviceAuthorizationCall {
    type Response = DeviceAuthorizationResponse;

    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "device_authorization_endpoint",
        // "The client authentication requirements of Section 3.2.1 of [RFC6749] apply" (RFC 8628 §3.1).
        authentication_lists: AuthenticationLists::OF_TOKEN_ENDPOINT,
        endpoint: "device authorization endpoint",
        request: "device authorization request",
        service: "DeviceAuthorizationEndpoint",
    };

    const ONCE: &'static [&'static str] = &[];

    fn check_value(parameter: &Parameter, value: &str) -> Result<(), String> {
        match parameter.checked {
            true => check_not_empty(&parameter.name, value),
            false => Ok(()),
        }
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        Some(match *code {
            ErrorCode::INVALID_SCOPE => {
                "the device authorization endpoint does not accept the scope; check it"
            }
            ErrorCode::INVALID_TARGET => {
                "the device authorization endpoint does not accept the resource or audience; check it"
            }
            ErrorCode::UNAUTHORIZED_CLIENT | ErrorCode::UNSUPPORTED_GRANT_TYPE => {
                "the client may not use the device flow; change its registration"
            }
            _ => return None,
        })
    }

    fn decode(
        &self,
        answer: Answer,
        _: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<DeviceAuthorizationResponse, TokenError> {
        let received_at = tokio_now();
        match decode::fields(&answer) {
            Ok(fields) => Ok(DeviceAuthorizationResponse::new(
                fields,
                received_at,
                answer,
            )),
            Err(bad) => Err(bad.into_error(answer, now)),
        }
    }
}
