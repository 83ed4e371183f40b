//! What an authorization server remembers: tokens and their families, codes, polls, counts.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    authorization_code::AuthorizationCode, builder::Config, recorded::RecordedRequest,
    script::Script,
};
use crate::base::clock;

pub(super) struct State {
    pub(super) script: Script,
    pub(super) lifetime: Duration,
    pub(super) same_token: bool,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) codes: HashMap<String, Code>,
    pub(super) polls: HashMap<String, Poll>,
    pub(super) seen_assertions: HashSet<String>,
    pub(super) requests: Vec<RecordedRequest>,
    pub(super) token_requests: usize,
    pub(super) issued: usize,
    pub(super) in_flight: usize,
    pub(super) in_flight_peak: usize,
    latest: HashMap<Grant, String>,
    numbers: HashMap<&'static str, u64>,
}

/// For whom a token stands and what it allows. Tokens that came of one another are a family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) client: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) scope: Option<String>,
}

pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) grant: Grant,
    pub(super) family: u64,
    pub(super) expires_at: Option<Instant>,
    pub(super) status: TokenStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Access,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenStatus {
    Valid,
    Replaced,
    Revoked,
}

pub(super) struct Code {
    pub(super) code: AuthorizationCode,
    pub(super) family: u64,
    pub(super) expires_at: Option<Instant>,
    pub(super) redeemed: bool,
}

/// A device code or an `auth_req_id`: the client polls until the user has decided.
pub(super) struct Poll {
    pub(super) kind: PollKind,
    pub(super) client: String,
    pub(super) user_code: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) decision: Decision,
    pub(super) interval: Duration,
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

impl Token {
    pub(super) fn is_active(&self) -> bool {
        self.status == TokenStatus::Valid && !is_over(self.expires_at)
    }
}

impl State {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            script: Script::default(),
            lifetime: config.access_token_lifetime,
            same_token: false,
            tokens: HashMap::new(),
            codes: HashMap::new(),
            polls: HashMap::new(),
            seen_assertions: HashSet::new(),
            requests: Vec::new(),
            token_requests: 0,
            issued: 0,
            in_flight: 0,
            in_flight_peak: 0,
            latest: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    pub(super) fn number(&mut self, of: &'static str) -> u64 {
        let number = self.numbers.entry(of).or_default();
        *number += 1;
        *number
    }

    /// `at-1-9f86d081884c7d65`: what it is, the how many-eth, and something that nobody guesses.
    pub(super) fn name(&mut self, prefix: &'static str) -> String {
        let number = self.number(prefix);
        format!("{prefix}-{number}-{:016x}", fastrand::u64(..))
    }

    pub(super) fn family(&mut self) -> u64 {
        self.number("family")
    }

    pub(super) fn active(&self, token: &str) -> Option<&Token> {
        self.tokens.get(token).filter(|token| token.is_active())
    }

    pub(super) fn revoke_family(&mut self, family: u64) {
        for token in self
            .tokens
            .values_mut()
            .filter(|token| token.family == family)
        {
            token.status = TokenStatus::Revoked;
        }
    }

    /// A refresh token takes its whole family with it (RFC 7009 §2.1).
    pub(super) fn revoke(&mut self, token: &str) -> bool {
        let Some(found) = self.tokens.get_mut(token) else {
            return false;
        };
        let was_active = found.is_active();
        let (kind, family) = (found.kind, found.family);
        found.status = TokenStatus::Revoked;
        if kind == TokenKind::Refresh {
            self.revoke_family(family);
        }
        was_active
    }

    pub(super) fn issue_access_token(
        &mut self,
        grant: &Grant,
        family: u64,
        now: Instant,
    ) -> String {
        if self.same_token {
            let latest = self.latest.get(grant);
            if let Some(latest) = latest.filter(|name| self.is_unexpired(name)) {
                return latest.clone();
            }
        }
        let name = self.name("at");
        self.issued += 1;
        let token = Token {
            kind: TokenKind::Access,
            grant: grant.clone(),
            family,
            expires_at: now.checked_add(self.lifetime),
            status: TokenStatus::Valid,
        };
        self.tokens.insert(name.clone(), token);
        self.latest.insert(grant.clone(), name.clone());
        name
    }

    fn is_unexpired(&self, token: &str) -> bool {
        self.tokens
            .get(token)
            .is_some_and(|token| !is_over(token.expires_at))
    }

    pub(super) fn issue_refresh_token(&mut self, grant: Grant, family: u64) -> String {
        let name = self.name("rt");
        let status = TokenStatus::Valid;
        let token = Token {
            kind: TokenKind::Refresh,
            grant,
            family,
            expires_at: None,
            status,
        };
        self.tokens.insert(name.clone(), token);
        name
    }

    /// A token response of RFC 6749 §5.1, without a refresh token.
    pub(super) fn token_response(
        &mut self,
        config: &Config,
        grant: &Grant,
        family: u64,
    ) -> Map<String, Value> {
        let now = clock::tokio_now();
        let access_token = self.issue_access_token(grant, family, now);
        let expires_at = self
            .tokens
            .get(&access_token)
            .and_then(|token| token.expires_at);
        let mut members = Map::new();
        members.insert("access_token".to_owned(), json!(access_token));
        members.insert("token_type".to_owned(), json!("Bearer"));
        let expires_in = config
            .expires_in
            .clone()
            .or_else(|| expires_at.map(|at| json!(at.saturating_duration_since(now).as_secs())));
        if let Some(expires_in) = expires_in.filter(|_| !config.omit_expires_in) {
            members.insert("expires_in".to_owned(), expires_in);
        }
        if let Some(scope) = &grant.scope {
            members.insert("scope".to_owned(), json!(scope));
        }
        members
    }

    /// What RFC 7662 §2.2 says of a token. No `exp`: the tokens live by tokio's clock, which can be paused
    /// and has no calendar.
    pub(super) fn introspection(&self, token: &str) -> Value {
        let Some(token) = self.active(token) else {
            return json!({ "active": false });
        };
        let mut members = Map::new();
        members.insert("active".to_owned(), json!(true));
        if token.kind == TokenKind::Access {
            members.insert("token_type".to_owned(), json!("Bearer"));
        }
        let grant = &token.grant;
        let rest = [
            ("client_id", &grant.client),
            ("sub", &grant.subject),
            ("scope", &grant.scope),
        ];
        for (name, value) in rest {
            if let Some(value) = value {
                members.insert(name.to_owned(), json!(value));
            }
        }
        Value::Object(members)
    }
}

/// The instant after `lifetime`; `None`, never, if the clock does not reach that far.
pub(super) fn after(lifetime: Duration) -> Option<Instant> {
    clock::tokio_now().checked_add(lifetime)
}

pub(super) fn is_over(expires_at: Option<Instant>) -> bool {
    expires_at.is_some_and(|at| clock::tokio_now() >= at)
}
