//! Which challenges a layer answers.

use std::sync::Arc;

use http::{HeaderName, response::Parts};

use super::{demand::Demand, stronger_tokens::StrongerTokens};
use crate::{
    base::origin_id::OriginId,
    message::Challenge,
    token_cache::{SentToken, TokenSource},
};

/// See the [module](self).
#[derive(Clone)]
pub(crate) struct StepUpRules {
    pub(crate) tokens: Arc<StrongerTokens>,
    /// The origins whose challenges are answered.
    pub(crate) origins: Arc<[OriginId]>,
}

impl StepUpRules {
    /// Returns the source of the token that a response demands, if it may be requested. `header` is the one with the challenge.
    pub(crate) fn answer(
        &self,
        head: &Parts,
        header: HeaderName,
        sent: &SentToken,
    ) -> Option<TokenSource> {
        let is_named = |origin| self.origins.contains(&origin);
        if !head.status.is_client_error() || !sent.origin().is_some_and(is_named) {
            return None;
        }
        let challenges = Challenge::of_fields(head.headers.get_all(header));
        let demand = Demand::of_challenges(&challenges);
        let asked = self.tokens.asked_by_user(head, &challenges, sent);
        self.tokens.answer(demand.as_ref(), asked, sent)
    }
}
