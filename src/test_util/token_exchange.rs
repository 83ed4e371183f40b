//! Token exchange (RFC 8693).

use serde_json::json;

use super::{
    answer::Refusal,
    form,
    grants::{Asked, Granted, Refresh},
    state::State,
};

impl Asked<'_> {
    pub(super) fn token_exchange(&self, state: &mut State) -> Result<Granted, Refusal> {
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
}
