//! The token endpoint: one function per grant.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Core,
    answer::{OAuthError, json_response},
    builder::Config,
    client::{Authenticated, authenticate},
    endpoints, form, polling,
    recorded::RecordedRequest,
    state::{Permission, PollKind, ServerState},
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SAML2_BEARER: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const CIBA: &str = "urn:openid:params:grant-type:ciba";

pub(super) const GRANT_TYPES: [&str; 9] = [
    "client_credentials",
    "password",
    "authorization_code",
    "refresh_token",
    DEVICE_CODE,
    TOKEN_EXCHANGE,
    JWT_BEARER,
    SAML2_BEARER,
    CIBA,
];

/// The result of a grant: who may do what, in which token family, and additional members of the response.
pub(super) struct GrantOutcome {
    pub(super) permission: Permission,
    pub(super) family: u64,
    pub(super) refresh: Refresh,
    pub(super) members: Vec<(&'static str, Value)>,
}

pub(super) enum Refresh {
    None,
    IfIssued,
    Rotated { scope: Option<String> },
}

pub(super) struct GrantRequest<'a> {
    pub(super) config: &'a Config,
    pub(super) request: &'a RecordedRequest,
    pub(super) issuer: String,
    pub(super) client: Option<String>,
    pub(super) scope: Option<String>,
    /// The thumbprint of the key of the DPoP proof.
    pub(super) key: Option<String>,
}

pub(super) fn token(core: &Core, request: &RecordedRequest) -> Result<Response<Bytes>, OAuthError> {
    let config = &core.config;
    form::check(request)?;
    // First, so that a demand for a nonce uses up no client assertion.
    #[cfg(feature = "dpop")]
    let key = super::dpop::check_token_request(core, request)?;
    #[cfg(not(feature = "dpop"))]
    let key = None;
    let client = authenticate(core, request)?;
    let grant_type = form::require(request, "grant_type", "grant_type is missing")?;
    let client = require_client(config, client, grant_type)?;
    let is_public = client.as_ref().is_some_and(|client| client.public);
    let scope = form::scope(config, request)?;
    form::targets(config, request)?;

    let mut state = core.lock();
    let grant_request = GrantRequest {
        config,
        request,
        issuer: endpoints::base(core, request),
        client: client.map(|client| client.id),
        scope,
        key,
    };
    let outcome = match grant_type {
        "client_credentials" => grant_request.without_user(&mut state),
        "password" => grant_request.password(&mut state)?,
        "authorization_code" => grant_request.authorization_code(&mut state)?,
        "refresh_token" => grant_request.refresh_token(&mut state)?,
        DEVICE_CODE => {
            let code = form::require(request, "device_code", "device_code is missing")?;
            grant_request.polling(&mut state, PollKind::Device, code)?
        }
        CIBA => {
            let id = form::require(request, "auth_req_id", "auth_req_id is missing")?;
            grant_request.polling(&mut state, PollKind::Ciba, id)?
        }
        TOKEN_EXCHANGE => grant_request.token_exchange(&mut state)?,
        JWT_BEARER | SAML2_BEARER => grant_request.assertion(&mut state, grant_type)?,
        _ if config.custom_grants.contains(grant_type) => grant_request.without_user(&mut state),
        _ => {
            return Err(OAuthError::new(
                "unsupported_grant_type",
                "the grant type is not supported",
            ));
        }
    };
    Ok(respond(config, &mut state, outcome, is_public))
}

/// An assertion can identify the client as well (RFC 7521 §4.1), and RFC 8693 §2.1 leaves it to the server whether it exchanges
/// the tokens of anonymous clients. Every other grant requires a client.
fn require_client(
    config: &Config,
    client: Option<Authenticated>,
    grant_type: &str,
) -> Result<Option<Authenticated>, OAuthError> {
    let may_be_anonymous = match grant_type {
        JWT_BEARER | SAML2_BEARER => true,
        TOKEN_EXCHANGE => config.anonymous_token_exchange,
        _ => false,
    };
    match &client {
        None if !may_be_anonymous => Err(OAuthError::invalid_client(
            false,
            "the request does not identify a client",
        )),
        Some(client) if client.public && grant_type == "client_credentials" => Err(
            OAuthError::new("unauthorized_client", "a public client has no credentials"),
        ),
        _ => Ok(client),
    }
}

fn respond(
    config: &Config,
    state: &mut ServerState,
    outcome: GrantOutcome,
    is_public: bool,
) -> Response<Bytes> {
    let GrantOutcome {
        permission,
        family,
        refresh,
        members,
    } = outcome;
    let mut response = state.token_response(config, &permission, family);
    let refresh_scope = match refresh {
        Refresh::IfIssued if config.issue_refresh_tokens => Some(permission.scope.clone()),
        Refresh::Rotated { scope } => Some(scope),
        Refresh::IfIssued | Refresh::None => None,
    };
    if let Some(scope) = refresh_scope {
        let refresh_token = state.issue_refresh_token(
            Permission {
                scope,
                // Only the refresh tokens of public clients are bound (RFC 9449 §5).
                key: permission.key.filter(|_| is_public),
                ..permission
            },
            family,
        );
        response.insert("refresh_token".to_owned(), json!(refresh_token));
    }
    for (name, value) in members {
        response.insert(name.to_owned(), value);
    }
    for (name, value) in &config.response_fields {
        response.insert(name.clone(), value.clone());
    }
    json_response(StatusCode::OK, &Value::Object(response))
}

impl GrantRequest<'_> {
    pub(super) fn permission(&self, subject: Option<String>) -> Permission {
        Permission {
            client: self.client.clone(),
            subject,
            scope: self.scope.clone(),
            key: self.key.clone(),
        }
    }

    fn without_user(&self, state: &mut ServerState) -> GrantOutcome {
        let family = state.new_family();
        GrantOutcome {
            permission: self.permission(None),
            family,
            refresh: Refresh::None,
            members: Vec::new(),
        }
    }

    fn password(&self, state: &mut ServerState) -> Result<GrantOutcome, OAuthError> {
        let user = form::require(self.request, "username", "username is missing")?;
        let password = form::require(self.request, "password", "password is missing")?;
        if self
            .config
            .users
            .get(user)
            .is_none_or(|expected| expected != password)
        {
            return Err(OAuthError::invalid_grant("wrong username or password"));
        }
        Ok(GrantOutcome {
            permission: self.permission(Some(user.to_owned())),
            family: state.new_family(),
            refresh: Refresh::IfIssued,
            members: Vec::new(),
        })
    }

    fn polling(
        &self,
        state: &mut ServerState,
        kind: PollKind,
        id: &str,
    ) -> Result<GrantOutcome, OAuthError> {
        let scope = polling::poll(state, kind, id, self.client.as_deref())?;
        Ok(GrantOutcome {
            permission: Permission {
                client: self.client.clone(),
                subject: None,
                scope,
                key: self.key.clone(),
            },
            family: state.new_family(),
            refresh: Refresh::IfIssued,
            members: Vec::new(),
        })
    }

    fn assertion(
        &self,
        state: &mut ServerState,
        grant_type: &str,
    ) -> Result<GrantOutcome, OAuthError> {
        let assertion = form::require(self.request, "assertion", "assertion is missing")?;
        let known = if grant_type == JWT_BEARER {
            &self.config.jwt_bearer_assertions
        } else {
            &self.config.saml2_bearer_assertions
        };
        if !known.contains(assertion) {
            return Err(OAuthError::invalid_grant("the assertion is not accepted"));
        }
        Ok(self.without_user(state))
    }
}
