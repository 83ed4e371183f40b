//! `Question`: what a response demands of which request, and what follows from that. Pure.

use std::sync::Arc;

use http::Uri;

use super::{
    demand::{self, Demand},
    discovered::Discovered,
    error::{Failure, NotAuthorized, NotAuthorizedKind as Kind},
    identity::Identity,
    scope_choice::ScopeChoice,
    server::Server,
    table::{Access, Stop},
};
use crate::message::{Challenge, Scope};

/// What a response demands of which request.
pub(super) struct Question {
    pub(super) url: Uri,
    pub(super) demand: Demand,
    pub(super) challenges: Vec<Challenge>,
    /// The access whose token was sent.
    pub(super) sent: Option<Arc<Access>>,
    /// Whether its tokens can no longer be renewed.
    pub(super) has_ended: bool,
}

impl Question {
    /// Returns an access that the request was not sent with.
    pub(super) fn newer(&self, access: Option<Arc<Access>>) -> Option<Arc<Access>> {
        let is_sent = |access: &Arc<Access>| {
            let sent = self.sent.as_ref();
            sent.is_some_and(|sent| Arc::ptr_eq(sent, access))
        };
        access.filter(|access| !is_sent(access))
    }

    /// Returns the scope to request. `named` is what was sent, if it is for the same resource and of the same server.
    pub(super) fn scope(
        &self,
        found: &Discovered,
        server: &Server,
        identity: &Identity,
        is_sign_in: bool,
        named: Option<&Access>,
    ) -> Scope {
        let challenged = match &self.demand {
            Demand::Scope(scope) => Some(scope.clone()),
            Demand::Token | Demand::OtherToken => demand::challenged_scope(&self.challenges),
        };
        let so_far = named.map(so_far);
        ScopeChoice {
            challenged: challenged.as_ref(),
            so_far: so_far.as_ref(),
            of_resource: found.metadata().and_then(|it| it.scopes_supported()),
            of_server: server.metadata().and_then(|it| it.scopes_supported()),
            allowed: identity.allowed_scope.as_ref(),
            is_sign_in,
        }
        .scope()
    }

    /// Whether the token must be bound to a key.
    pub(super) fn is_bound(
        &self,
        found: &Discovered,
        identity: &Identity,
    ) -> Result<bool, Failure> {
        let (accepts, accepts_only) = demand::dpop(&self.challenges);
        let metadata = found.metadata();
        let requires = metadata.is_some_and(|it| it.dpop_bound_access_tokens_required());
        match &identity.dpop {
            Some(_) => Ok(accepts || requires),
            None if accepts_only || requires => Err(Failure::new(
                Kind::Unsupported,
                "it demands a token that is bound to a key (DPoP), and the identity has no key; set one with `Identity::dpop`",
            )),
            None => Ok(false),
        }
    }

    pub(super) fn failed(&self, failure: Failure) -> Stop {
        Stop::Failed(self.not_authorized(failure))
    }

    pub(super) fn not_authorized(&self, failure: Failure) -> NotAuthorized {
        NotAuthorized::new(failure, self.url.clone(), self.challenges.clone())
    }
}

/// Returns the scope of the tokens so far: what was requested, or what the server chose.
pub(super) fn so_far(access: &Access) -> Scope {
    let granted = || access.source.granted_scope();
    match access.requested.as_str() {
        "" => granted().unwrap_or_else(|| Scope::from("")),
        _ => access.requested.clone(),
    }
}

pub(super) fn ended() -> Failure {
    Failure::new(
        Kind::SignIn,
        "its tokens can no longer be renewed; the user must sign in again",
    )
}
