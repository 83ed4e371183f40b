//! The parts of a call that are specific to the registration endpoint.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::Request;

use super::decode;
use crate::{
    authorization_server::{
        endpoint::{self, EndpointCall, EndpointNames, Obtained, Target},
        metadata::AuthenticationLists,
    },
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::{Answer, ErrorCode, TokenError},
    message::{
        AccessToken, ClientMetadata, Form, Parameter, RegistrationRequest, RegistrationResponse,
    },
};

/// A call of the registration endpoint.
#[derive(Clone)]
pub(crate) struct RegistrationCall {
    metadata: Arc<ClientMetadata>,
    access_token: Option<AccessToken>,
}

impl RegistrationCall {
    pub(super) fn of(request: &RegistrationRequest) -> Self {
        Self {
            metadata: Arc::new(request.metadata().clone()),
            access_token: request.authorization().cloned(),
        }
    }
}

impl EndpointCall for RegistrationCall {
    type Response = RegistrationResponse;

    const NAMES: EndpointNames = EndpointNames {
        metadata_member: "registration_endpoint",
        authentication_lists: AuthenticationLists::NONE,
        endpoint: "registration endpoint",
        request: "registration request",
        service: "RegistrationEndpoint",
    };

    const ONCE: &'static [&'static str] = &[];

    const READS_CHALLENGES: bool = true;

    fn access_token(&self) -> Option<&AccessToken> {
        self.access_token.as_ref()
    }

    fn check_value(_: &Parameter, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn explain(code: &ErrorCode) -> Option<&'static str> {
        Some(match *code {
            ErrorCode::INVALID_REDIRECT_URI => {
                "the registration endpoint does not accept a redirect URI of the client"
            }
            ErrorCode::INVALID_CLIENT_METADATA => {
                "the registration endpoint does not accept the metadata of the client; check what the server supports"
            }
            ErrorCode::INVALID_SOFTWARE_STATEMENT => {
                "the registration endpoint does not accept the software statement"
            }
            ErrorCode::UNAPPROVED_SOFTWARE_STATEMENT => {
                "the server does not trust the issuer of the software statement"
            }
            ErrorCode::INVALID_TOKEN => {
                "the registration endpoint does not accept the initial access token; obtain a new one"
            }
            ErrorCode::INSUFFICIENT_SCOPE => {
                "the initial access token does not allow to register a client"
            }
            _ => return None,
        })
    }

    fn what_to_check(&self, _: &ClientAuthentication) -> &'static str {
        match self.access_token {
            Some(_) => {
                "the initial access token: it may be wrong, expired, or used up by an earlier registration"
            }
            None => "whether the server requires an initial access token",
        }
    }

    fn encode(
        &self,
        form: &Form,
        target: &Target<'_>,
        _: Option<&Obtained<'_>>,
    ) -> Result<Request<Bytes>, TokenError> {
        let document = serde_json::to_vec(self.metadata.members());
        let document = document.map_err(|_| Self::NAMES.refuse("its metadata are not JSON"))?;
        Ok(endpoint::json(self, document, form, target))
    }

    fn decode(
        &self,
        answer: Answer,
        _: Option<&DpopKey>,
        now: SystemTime,
    ) -> Result<RegistrationResponse, TokenError> {
        match decode::registered(&answer, &self.metadata) {
            Ok((client, members)) => Ok(RegistrationResponse::new(client, members, answer)),
            Err(bad) => Err(bad.into_error(answer, now)),
        }
    }
}
