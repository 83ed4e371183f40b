//! Token exchange (RFC 8693).

use serde_json::json;

use super::{
    answer::OAuthError,
    form,
    grants::{GrantOutcome, GrantRequest, Refresh},
    state::ServerState,
};

impl GrantRequest<'_> {
    pub(super) fn token_exchange(
        &self,
        state: &mut ServerState,
    ) -> Result<GrantOutcome, OAuthError> {
        const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
        const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

        let subject = form::require(self.request, "subject_token", "subject_token is missing")?;
        form::require(
            self.request,
            "subject_token_type",
            "subject_token_type is missing",
        )?;
        self.check_known(state, subject, "subject_token is not valid")?;
        let actor = self.request.get("actor_token");
        if actor.is_some() != self.request.get("actor_token_type").is_some() {
            return Err(OAuthError::invalid_request(
                "actor_token and actor_token_type must be sent together",
            ));
        }
        if let Some(actor) = actor {
            self.check_known(state, actor, "actor_token is not valid")?;
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
            .and_then(|token| token.permission.subject.clone());
        let (permission, family) = (self.permission(of), state.new_family());
        Ok(GrantOutcome {
            permission,
            family,
            refresh: Refresh::None,
            members,
        })
    }

    fn check_known(
        &self,
        state: &ServerState,
        token: &str,
        invalid: &'static str,
    ) -> Result<(), OAuthError> {
        if self.config.subject_tokens.contains(token) || state.active(token).is_some() {
            return Ok(());
        }
        // RFC 8693 §2.2.2 requires `invalid_request` here, not `invalid_grant`.
        Err(OAuthError::invalid_request(invalid))
    }
}
