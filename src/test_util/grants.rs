//! The token endpoint: one function a grant.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Shared,
    answer::{Refusal, json_response},
    builder::Config,
    client::{Authenticated, authenticate},
    form, polling,
    recorded::RecordedRequest,
    state::{Grant, PollKind, State, TokenKind, TokenStatus},
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

/// What a grant comes to: for whom, in which family, and what stands in the answer beside the token.
pub(super) struct Granted {
    pub(super) grant: Grant,
    pub(super) family: u64,
    pub(super) refresh: Refresh,
    pub(super) members: Vec<(&'static str, Value)>,
}

pub(super) enum Refresh {
    None,
    IfIssued,
    Rotated { scope: Option<String> },
}

pub(super) struct Asked<'a> {
    pub(super) config: &'a Config,
    pub(super) request: &'a RecordedRequest,
    pub(super) client: Option<String>,
    pub(super) scope: Option<String>,
}

pub(super) fn token(
    shared: &Shared,
    request: &RecordedRequest,
) -> Result<Response<Bytes>, Refusal> {
    let config = &shared.config;
    form::check(request)?;
    let client = authenticate(shared, request)?;
    let grant_type = form::require(request, "grant_type", "grant_type is missing")?;
    let client = admit(client, grant_type)?;
    let scope = form::scope(config, request)?;
    form::targets(config, request)?;

    let mut state = shared.lock();
    let asked = Asked {
        config,
        request,
        client: client.map(|client| client.id),
        scope,
    };
    let granted = match grant_type {
        "client_credentials" => asked.plain(&mut state),
        "password" => asked.password(&mut state)?,
        "authorization_code" => asked.authorization_code(&mut state)?,
        "refresh_token" => asked.refresh_token(&mut state)?,
        DEVICE_CODE => {
            let code = form::require(request, "device_code", "device_code is missing")?;
            asked.polled(&mut state, PollKind::Device, code)?
        }
        CIBA => {
            let id = form::require(request, "auth_req_id", "auth_req_id is missing")?;
            asked.polled(&mut state, PollKind::Ciba, id)?
        }
        TOKEN_EXCHANGE => asked.token_exchange(&mut state)?,
        JWT_BEARER | SAML2_BEARER => asked.assertion(&mut state, grant_type)?,
        _ if config.custom_grants.contains(grant_type) => asked.plain(&mut state),
        _ => return Err(Refusal::new("unsupported_grant_type", "no such grant type")),
    };
    Ok(respond(config, &mut state, granted))
}

/// An assertion can stand for the client too (RFC 7521 §4.1); every other grant needs one.
fn admit(
    client: Option<Authenticated>,
    grant_type: &str,
) -> Result<Option<Authenticated>, Refusal> {
    match &client {
        None if grant_type != JWT_BEARER && grant_type != SAML2_BEARER => Err(
            Refusal::invalid_client(false, "the request names no client"),
        ),
        Some(client) if client.public && grant_type == "client_credentials" => Err(Refusal::new(
            "unauthorized_client",
            "a public client has no credentials of its own",
        )),
        _ => Ok(client),
    }
}

fn respond(config: &Config, state: &mut State, granted: Granted) -> Response<Bytes> {
    let Granted {
        grant,
        family,
        refresh,
        members,
    } = granted;
    let mut response = state.token_response(config, &grant, family);
    let refresh_scope = match refresh {
        Refresh::IfIssued if config.issue_refresh_tokens => Some(grant.scope.clone()),
        Refresh::Rotated { scope } => Some(scope),
        Refresh::IfIssued | Refresh::None => None,
    };
    if let Some(scope) = refresh_scope {
        let refresh_token = state.issue_refresh_token(Grant { scope, ..grant }, family);
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

impl Asked<'_> {
    pub(super) fn grant(&self, subject: Option<String>) -> Grant {
        Grant {
            client: self.client.clone(),
            subject,
            scope: self.scope.clone(),
        }
    }

    fn plain(&self, state: &mut State) -> Granted {
        let family = state.family();
        Granted {
            grant: self.grant(None),
            family,
            refresh: Refresh::None,
            members: Vec::new(),
        }
    }

    fn password(&self, state: &mut State) -> Result<Granted, Refusal> {
        let user = form::require(self.request, "username", "username is missing")?;
        let password = form::require(self.request, "password", "password is missing")?;
        if self
            .config
            .users
            .get(user)
            .is_none_or(|expected| expected != password)
        {
            return Err(Refusal::invalid_grant("wrong username or password"));
        }
        Ok(Granted {
            grant: self.grant(Some(user.to_owned())),
            family: state.family(),
            refresh: Refresh::IfIssued,
            members: Vec::new(),
        })
    }

    fn refresh_token(&self, state: &mut State) -> Result<Granted, Refusal> {
        let name = form::require(self.request, "refresh_token", "refresh_token is missing")?;
        let refused = |why| Err(Refusal::invalid_grant(why));

        let found = state
            .tokens
            .get_mut(name)
            .filter(|token| token.kind == TokenKind::Refresh);
        let Some(found) = found else {
            return refused("no such refresh token");
        };
        if found.grant.client != self.client {
            return refused("the refresh token was issued to another client");
        }
        let family = found.family;
        match found.status {
            TokenStatus::Valid => {}
            TokenStatus::Revoked => return refused("the refresh token is revoked"),
            TokenStatus::Replaced => {
                state.revoke_family(family);
                return refused("the refresh token was used before");
            }
        }
        let whole = found.grant.scope.clone();
        if self
            .scope
            .as_ref()
            .is_some_and(|asked| !form::is_within(asked, whole.as_deref()))
        {
            return Err(Refusal::new("invalid_scope", "the scope was not granted"));
        }
        let scope = self.scope.clone().or_else(|| whole.clone());
        let grant = Grant {
            scope,
            ..found.grant.clone()
        };
        let refresh = if self.config.rotate_refresh_tokens {
            found.status = TokenStatus::Replaced;
            // "the refresh token scope MUST be identical to that of the refresh token included by the client
            // in the request" (RFC 6749 §6)
            Refresh::Rotated { scope: whole }
        } else {
            Refresh::None
        };
        Ok(Granted {
            grant,
            family,
            refresh,
            members: Vec::new(),
        })
    }

    fn polled(&self, state: &mut State, kind: PollKind, id: &str) -> Result<Granted, Refusal> {
        let scope = polling::poll(state, kind, id, self.client.as_deref())?;
        Ok(Granted {
            grant: Grant {
                client: self.client.clone(),
                subject: None,
                scope,
            },
            family: state.family(),
            refresh: Refresh::IfIssued,
            members: Vec::new(),
        })
    }

    fn assertion(&self, state: &mut State, grant_type: &str) -> Result<Granted, Refusal> {
        let assertion = form::require(self.request, "assertion", "assertion is missing")?;
        let known = if grant_type == JWT_BEARER {
            &self.config.jwt_bearer_assertions
        } else {
            &self.config.saml2_bearer_assertions
        };
        if !known.contains(assertion) {
            return Err(Refusal::invalid_grant("the assertion is not accepted"));
        }
        Ok(self.plain(state))
    }
}
