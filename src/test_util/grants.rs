//! The token endpoint: one function a grant.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Shared,
    answer::{Refusal, json_response},
    builder::Config,
    client::{Authenticated, authenticate},
    form, polling,
    recorded::RecordedRequest,
    state::{Grant, PollKind, State, TokenKind, TokenStatus, is_over},
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
struct Granted {
    grant: Grant,
    family: u64,
    refresh: Refresh,
    members: Vec<(&'static str, Value)>,
}

enum Refresh {
    None,
    IfIssued,
    Rotated { scope: Option<String> },
}

struct Asked<'a> {
    config: &'a Config,
    request: &'a RecordedRequest,
    client: Option<String>,
    scope: Option<String>,
}

pub(super) fn token(
    shared: &Shared,
    request: &RecordedRequest,
) -> Result<Response<Bytes>, Refusal> {
    let config = &shared.config;
    form::check(request)?;
    let client = authenticate(config, request)?;
    let grant_type = form::require(request, "grant_type", "grant_type is missing")?;
    let client = admit(client, grant_type)?;
    let scope = form::scope(config, request)?;
    form::targets(config, request)?;

    let mut state = shared.lock();
    if let Some(client) = &client {
        client.spend_assertion(config, &mut state)?;
    }
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
    fn grant(&self, subject: Option<String>) -> Grant {
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

    fn authorization_code(&self, state: &mut State) -> Result<Granted, Refusal> {
        let name = form::require(self.request, "code", "code is missing")?;
        let redirect_uri = form::require(self.request, "redirect_uri", "redirect_uri is missing")?;
        let verifier = self.request.get("code_verifier");
        let refused = |why| Err(Refusal::invalid_grant(why));

        let Some(issued) = state.codes.get_mut(name) else {
            return refused("no such code");
        };
        if self.client.as_ref() != Some(&issued.code.client) {
            return refused("the code was issued to another client");
        }
        // "If an authorization code is used more than once, the authorization server MUST deny the request
        // and SHOULD revoke … all tokens previously issued based on that authorization code." (§4.1.2)
        if issued.redeemed {
            let family = issued.family;
            state.revoke_family(family);
            return refused("the code was redeemed before");
        }
        if is_over(issued.expires_at) {
            return refused("the code has expired");
        }
        if issued.code.redirect_uri != redirect_uri {
            return refused("redirect_uri is not that of the code");
        }
        match (&issued.code.challenge, verifier) {
            (None, None) => {}
            (None, Some(_)) => return refused("a code_verifier for a code without a challenge"),
            (Some(_), None) => return refused("code_verifier is missing"),
            (Some(challenge), Some(verifier)) if proves(verifier, challenge) => {}
            (Some(_), Some(_)) => return refused("code_verifier does not match the challenge"),
        }
        issued.redeemed = true;
        let grant = Grant {
            client: self.client.clone(),
            subject: issued.code.subject.clone(),
            scope: issued.code.scope.clone(),
        };
        let family = issued.family;
        Ok(Granted {
            grant,
            family,
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

    fn token_exchange(&self, state: &mut State) -> Result<Granted, Refusal> {
        const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
        const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

        let subject = form::require(self.request, "subject_token", "subject_token is missing")?;
        form::require(
            self.request,
            "subject_token_type",
            "subject_token_type is missing",
        )?;
        self.check_presented(state, subject, "subject_token is not valid")?;
        let actor = self.request.get("actor_token");
        if actor.is_some() != self.request.get("actor_token_type").is_some() {
            return Err(Refusal::invalid_request(
                "actor_token and actor_token_type come together",
            ));
        }
        if let Some(actor) = actor {
            self.check_presented(state, actor, "actor_token is not valid")?;
        }
        let kind = self
            .request
            .get("requested_token_type")
            .unwrap_or(ACCESS_TOKEN);
        let mut members = vec![("issued_token_type", json!(kind))];
        // "If the issued token is not an access token or usable as an access token, then the token_type
        // value N_A is used" (RFC 8693 §2.2.1)
        if kind != ACCESS_TOKEN && kind != JWT {
            members.push(("token_type", json!("N_A")));
        }
        let of = state
            .active(subject)
            .and_then(|token| token.grant.subject.clone());
        let (grant, family) = (self.grant(of), state.family());
        Ok(Granted {
            grant,
            family,
            refresh: Refresh::None,
            members,
        })
    }

    fn check_presented(
        &self,
        state: &State,
        token: &str,
        invalid: &'static str,
    ) -> Result<(), Refusal> {
        if self.config.subject_tokens.contains(token) || state.active(token).is_some() {
            return Ok(());
        }
        // RFC 8693 §2.2.2 wants `invalid_request` here, not `invalid_grant`.
        Err(Refusal::invalid_request(invalid))
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

/// RFC 7636 §4.6, after the syntax of §4.1.
fn proves(verifier: &str, challenge: &str) -> bool {
    (43..=128).contains(&verifier.len())
        && verifier
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        && URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge
}
