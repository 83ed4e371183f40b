//! The refresh token grant, with rotation and the detection of a second use.

use super::{
    answer::OAuthError,
    form,
    grants::{GrantOutcome, GrantRequest, Refresh},
    state::{Permission, ServerState, TokenKind, TokenState},
};

impl GrantRequest<'_> {
    pub(super) fn refresh_token(
        &self,
        state: &mut ServerState,
    ) -> Result<GrantOutcome, OAuthError> {
        let name = form::require(self.request, "refresh_token", "refresh_token is missing")?;
        let refused = |why| Err(OAuthError::invalid_grant(why));

        let found = state
            .tokens
            .get_mut(name)
            .filter(|token| token.kind == TokenKind::Refresh);
        let Some(found) = found else {
            return refused("the refresh token is unknown");
        };
        if found.permission.client != self.client {
            return refused("the refresh token was issued to another client");
        }
        if found.permission.key.is_some() && found.permission.key != self.key {
            return refused("the refresh token is bound to another key");
        }
        let family = found.family;
        match found.status {
            TokenState::Valid => {}
            TokenState::Revoked => return refused("the refresh token is revoked"),
            TokenState::Replaced => {
                state.revoke_family(family);
                return refused("the refresh token has already been used");
            }
        }
        let granted_scope = found.permission.scope.clone();
        if self
            .scope
            .as_ref()
            .is_some_and(|requested| !form::is_within(requested, granted_scope.as_deref()))
        {
            return Err(OAuthError::new(
                "invalid_scope",
                "the requested scope exceeds the granted scope",
            ));
        }
        let scope = self.scope.clone().or_else(|| granted_scope.clone());
        let permission = Permission {
            scope,
            key: self.key.clone(),
            ..found.permission.clone()
        };
        let refresh = if self.config.rotate_refresh_tokens {
            found.status = TokenState::Replaced;
            // "the refresh token scope MUST be identical to that of the refresh token included by the client
            // in the request" (RFC 6749 §6)
            Refresh::Rotated {
                scope: granted_scope,
            }
        } else {
            Refresh::None
        };
        Ok(GrantOutcome {
            permission,
            family,
            refresh,
            members: Vec::new(),
        })
    }
}
