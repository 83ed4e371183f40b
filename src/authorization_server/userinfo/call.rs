//! The parts of a call that are specific to the userinfo endpoint.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::Request;

use super::decode::{self, User};
use crate::{
    authorization_server::{
        endpoint::{self, EndpointCall, EndpointNames, Obtained, Target},
        metadata::AuthenticationLists,
    },
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::{AccessToken, Form, Parameter, UserinfoRequest, UserinfoResponse},
};

/// A call of the userinfo endpoint.
#[derive(Clone)]
pub(crate) struct UserinfoCall {
    access_token: AccessToken,
    expected_subject: Option<Arc<str>>,
}

impl UserinfoCall {
    pub(super) fn of(request: &UserinfoRequest) -> Self {
        Self {
            access_token: request.token().clone(),
            expected_subject: request.expected_subject().map(Into::into),
        }
    }
}

impl EndpointCall for UserinfoCall {
    type Response = UserinfoResponse;

    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "userinfo_endpoint",
        authentication_lists: AuthenticationLists::NONE,
        endpoint: "userinfo endpoint",
        request: "userinfo request",
        service: "UserinfoEndpoint",
    };

    const ONCE: &'static [&'static str] = &[];

    const READS_CHALLENGES: bool = true;

    fn access_token(&self) -> Option<&AccessToken> {
        Some(&self.access_token)
    }

    fn check_value(_: &Parameter, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        Some(match *code {
            ErrorCode::INVALID_TOKEN => {
                "the userinfo endpoint does not accept the access token; it is wrong, expired or revoked, so obtain a new one"
            }
            ErrorCode::INSUFFICIENT_SCOPE => {
                "the scope of the access token is not enough for the userinfo endpoint; request the scope `openid`"
            }
            _ => return None,
        })
    }

    /// OpenID Connect Core §5.3.1 recommends `GET` and the header `Authorization`.
    fn encode(
        &self,
        form: &Form,
        target: &Target<'_>,
        _: Option<&Obtained<'_>>,
    ) -> Result<Request<Bytes>, TokenError> {
        Ok(endpoint::get(self, form, target))
    }

    fn decode(
        &self,
        answer: Answer,
        _: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<UserinfoResponse, TokenError> {
        match decode::user(&answer, self.expected_subject.as_deref()) {
            Ok(User::Claims(claims)) => Ok(UserinfoResponse::checked(claims, answer)),
            Ok(User::Jwt(jwt)) => Ok(UserinfoResponse::jwt(jwt, answer)),
            Err(bad) => Err(bad.into_error(answer, now)),
        }
    }
}
