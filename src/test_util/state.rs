//! The state of an authorization server: issued tokens and codes, polled requests, counters.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

#[cfg(feature = "dpop")]
use super::dpop::DpopState;
use super::{
    authorization::PushedRequest, authorization_code::AuthorizationCode, builder::Config,
    manual_clock::ManualClock, recorded::RecordedRequest, script::Script,
};

pub(super) struct ServerState {
    pub(super) clock: ManualClock,
    pub(super) script: Script,
    #[cfg(feature = "dpop")]
    pub(super) dpop: DpopState,
    pub(super) lifetime: Duration,
    pub(super) same_token: bool,
    pub(super) tokens: HashMap<String, IssuedToken>,
    pub(super) codes: HashMap<String, IssuedCode>,
    pub(super) polls: HashMap<String, PolledRequest>,
    /// By their references.
    pub(super) pushed: HashMap<String, PushedRequest>,
    pub(super) seen_assertions: HashSet<String>,
    /// The client ids and the `jti`s of the assertions that were accepted.
    #[cfg(feature = "jwt")]
    pub(super) used_jtis: HashSet<(String, String)>,
    pub(super) requests: Vec<RecordedRequest>,
    pub(super) token_requests: usize,
    pub(super) issued: usize,
    pub(super) in_flight: usize,
    pub(super) in_flight_peak: usize,
    latest: HashMap<Permission, String>,
    numbers: HashMap<&'static str, u64>,
}

/// What a token permits, and to whom. A refresh token, and all tokens obtained with it, form a family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Permission {
    pub(super) client: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) scope: Option<String>,
    /// The thumbprint of the key that the token is bound to (RFC 9449 §6).
    pub(super) key: Option<String>,
}

pub(super) struct IssuedToken {
    pub(super) kind: TokenKind,
    pub(super) permission: Permission,
    pub(super) family: u64,
    pub(super) expires_at: Option<Instant>,
    pub(super) status: TokenState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Access,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenState {
    Valid,
    Replaced,
    Revoked,
}

pub(super) struct IssuedCode {
    pub(super) code: AuthorizationCode,
    pub(super) family: u64,
    pub(super) expires_at: Option<Instant>,
    pub(super) redeemed: bool,
}

/// A device code or an `auth_req_id`: the client polls it until the user has decided.
pub(super) struct PolledRequest {
    pub(super) kind: PollKind,
    pub(super) client: String,
    pub(super) user_code: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) decision: Decision,
    pub(super) interval: Duration,
    /// How many polls are left until the server approves by itself.
    pub(super) until_approved: Option<usize>,
    pub(super) last: Option<Instant>,
    pub(super) expires_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollKind {
    Device,
    Ciba,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Pending,
    Approved,
    Denied,
    Redeemed,
}

impl IssuedToken {
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.status == TokenState::Valid && !has_expired(self.expires_at, now)
    }
}

impl Permission {
    fn token_type(&self) -> &'static str {
        match self.key {
            Some(_) => "DPoP",
            None => "Bearer",
        }
    }
}

impl ServerState {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            clock: config.clock.clone(),
            script: Script::default(),
            #[cfg(feature = "dpop")]
            dpop: DpopState::default(),
            lifetime: config.access_token_lifetime,
            same_token: false,
            tokens: HashMap::new(),
            codes: HashMap::new(),
            polls: HashMap::new(),
            pushed: HashMap::new(),
            seen_assertions: HashSet::new(),
            #[cfg(feature = "jwt")]
            used_jtis: HashSet::new(),
            requests: Vec::new(),
            token_requests: 0,
            issued: 0,
            in_flight: 0,
            in_flight_peak: 0,
            latest: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.server_now()
    }

    /// Returns the instant after `lifetime`, or `None`, which means never, if the clock does not reach that far.
    pub(super) fn after(&self, lifetime: Duration) -> Option<Instant> {
        self.now().checked_add(lifetime)
    }

    pub(super) fn next_number(&mut self, of: &'static str) -> u64 {
        let number = self.numbers.entry(of).or_default();
        *number += 1;
        *number
    }

    /// Returns an unguessable value with its kind and ordinal, such as `at-1-9f86d081884c7d65`.
    pub(super) fn new_credential(&mut self, prefix: &'static str) -> String {
        let number = self.next_number(prefix);
        format!("{prefix}-{number}-{:016x}", fastrand::u64(..))
    }

    pub(super) fn new_family(&mut self) -> u64 {
        self.next_number("family")
    }

    pub(super) fn active(&self, token: &str) -> Option<&IssuedToken> {
        let now = self.now();
        self.tokens.get(token).filter(|token| token.is_active(now))
    }

    pub(super) fn revoke_family(&mut self, family: u64) {
        for token in self
            .tokens
            .values_mut()
            .filter(|token| token.family == family)
        {
            token.status = TokenState::Revoked;
        }
    }

    /// Revokes a token. Revoking a refresh token revokes its whole family (RFC 7009 §2.1).
    pub(super) fn revoke(&mut self, token: &str) -> bool {
        let now = self.now();
        let Some(found) = self.tokens.get_mut(token) else {
            return false;
        };
        let was_active = found.is_active(now);
        let (kind, family) = (found.kind, found.family);
        found.status = TokenState::Revoked;
        if kind == TokenKind::Refresh {
            self.revoke_family(family);
        }
        was_active
    }

    pub(super) fn issue_access_token(
        &mut self,
        permission: &Permission,
        family: u64,
        now: Instant,
    ) -> String {
        if self.same_token {
            let latest = self.latest.get(permission);
            if let Some(latest) = latest.filter(|name| self.is_unexpired(name, now)) {
                return latest.clone();
            }
        }
        let name = self.new_credential("at");
        self.issued += 1;
        let token = IssuedToken {
            kind: TokenKind::Access,
            permission: permission.clone(),
            family,
            expires_at: now.checked_add(self.lifetime),
            status: TokenState::Valid,
        };
        self.tokens.insert(name.clone(), token);
        self.latest.insert(permission.clone(), name.clone());
        name
    }

    fn is_unexpired(&self, token: &str, now: Instant) -> bool {
        self.tokens
            .get(token)
            .is_some_and(|token| !has_expired(token.expires_at, now))
    }

    pub(super) fn issue_refresh_token(&mut self, permission: Permission, family: u64) -> String {
        let name = self.new_credential("rt");
        let status = TokenState::Valid;
        let token = IssuedToken {
            kind: TokenKind::Refresh,
            permission,
            family,
            expires_at: None,
            status,
        };
        self.tokens.insert(name.clone(), token);
        name
    }

    /// Returns a token response (RFC 6749 §5.1) without a refresh token.
    pub(super) fn token_response(
        &mut self,
        config: &Config,
        permission: &Permission,
        family: u64,
    ) -> Map<String, Value> {
        let now = self.now();
        let access_token = self.issue_access_token(permission, family, now);
        let expires_at = self
            .tokens
            .get(&access_token)
            .and_then(|token| token.expires_at);
        let mut members = Map::new();
        members.insert("access_token".to_owned(), json!(access_token));
        members.insert("token_type".to_owned(), json!(permission.token_type()));
        let expires_in = config
            .expires_in
            .clone()
            .or_else(|| expires_at.map(|at| json!(at.saturating_duration_since(now).as_secs())));
        if let Some(expires_in) = expires_in.filter(|_| !config.omit_expires_in) {
            members.insert("expires_in".to_owned(), expires_in);
        }
        if let Some(scope) = &permission.scope {
            members.insert("scope".to_owned(), json!(scope));
        }
        members
    }

    /// Returns the introspection response for a token (RFC 7662 §2.2).
    ///
    /// It contains no `exp`, because tokens expire by a clock that a test moves and that has no calendar.
    pub(super) fn introspection(&self, token: &str) -> Value {
        let Some(token) = self.active(token) else {
            return json!({ "active": false });
        };
        let mut members = Map::new();
        members.insert("active".to_owned(), json!(true));
        let permission = &token.permission;
        if token.kind == TokenKind::Access {
            members.insert("token_type".to_owned(), json!(permission.token_type()));
        }
        if let Some(key) = &permission.key {
            members.insert("cnf".to_owned(), json!({ "jkt": key }));
        }
        let rest = [
            ("client_id", &permission.client),
            ("sub", &permission.subject),
            ("scope", &permission.scope),
        ];
        for (name, value) in rest {
            if let Some(value) = value {
                members.insert(name.to_owned(), json!(value));
            }
        }
        Value::Object(members)
    }
}

pub(super) fn has_expired(expires_at: Option<Instant>, now: Instant) -> bool {
    expires_at.is_some_and(|at| now >= at)
}
