//! Answers challenges that demand a stronger token: other claims, a wider scope, or a user who signs in again.
//!
//! ```text
//!   a 4xx
//!     │                         demand        what they demand, and the token request that meets it
//!     ▼                         pace          may another token be requested now?
//!   StrongerTokens::answer      stronger_tokens, slots
//!     │
//!     ├─ with `resend`: the request waits for the stronger token ──── fetched, or failed
//!     └─ otherwise: the fetch is started, and later requests use its token
//! ```

mod demand;
pub(crate) mod pace;
mod rules;
mod slots;
mod stronger_tokens;

use std::{fmt, sync::Arc};

use http::response::Parts;

pub(super) use self::{rules::StepUpRules, stronger_tokens::StrongerTokens};
use crate::message::{Challenge, Scope, TokenRequest};

/// How a layer answers challenges that demand a stronger token.
/// Set with [`step_up`](crate::AddAccessTokenLayer::step_up).
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::add_access_token::StepUp;
///
/// let step_up = StepUp::new().max_rounds(1).allowed_scope("files:read files:write");
/// ```
#[derive(Clone)]
#[must_use = "pass it to `AddAccessTokenLayer::step_up`"]
pub struct StepUp {
    max_rounds: u32,
    allowed_scope: Option<Scope>,
    token_request_for: Option<TokenRequestFor>,
}

/// Makes the request of a stronger token from the head of a response, its challenges, and the request so far.
type TokenRequestFor =
    Arc<dyn Fn(&Parts, &[Challenge], &TokenRequest) -> Option<TokenRequest> + Send + Sync>;

impl StepUp {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self {
            max_rounds: 3,
            allowed_scope: None,
            token_request_for: None,
        }
    }

    /// Sets how many stronger tokens are requested in a row for one source without a pause.
    ///
    /// After that, a pause follows each: at first 5 seconds, then twice as long each time, up to 5 minutes. During a pause the caller gets
    /// the challenge. The row ends after 10 minutes without a round. Zero counts as one.
    ///
    /// Default is 3.
    pub fn max_rounds(mut self, max_rounds: u32) -> Self {
        self.max_rounds = max_rounds.max(1);
        self
    }

    /// Sets the words that a challenge may add to the scope. Other words in a challenge are ignored.
    ///
    /// Default is any word that a scope may contain.
    ///
    /// # Security
    ///
    /// Without it, the API decides which scope this client requests, and the authorization server decides which it gets.
    pub fn allowed_scope(mut self, allowed_scope: impl Into<Scope>) -> Self {
        self.allowed_scope = Some(allowed_scope.into());
        self
    }

    /// Makes the stronger token request from a response, for APIs that demand it in a way of their own.
    ///
    /// The function gets the head of each 4xx to a request that carried a token, its [challenges](Challenge), and the strongest token request
    /// so far. It returns the request of the token that is needed. With `None`, and for a source over a credential that can be sent only once,
    /// the [rules of the layer](crate::AddAccessTokenLayer::step_up) decide. [`max_rounds`](Self::max_rounds) applies to this function,
    /// too, but [`allowed_scope`](Self::allowed_scope) does not. A request that equals the one that was sent changes nothing.
    ///
    /// Default is that only the rules of the layer decide.
    ///
    /// # Security
    ///
    /// The API writes the response. Use of it only what it may decide.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_oauth2_client::{Challenge, add_access_token::StepUp};
    ///
    /// // The API names the role that is missing.
    /// let step_up = StepUp::new().token_request_for(|head, challenges, current| {
    ///     let role = challenges.iter().find_map(|challenge| challenge.parameter("role"))?;
    ///     let is_known = ["auditor", "editor"].contains(&role);
    ///     let is_demand = head.status == StatusCode::FORBIDDEN && is_known;
    ///     is_demand.then(|| current.clone().replace_parameter("role", role))
    /// });
    /// ```
    pub fn token_request_for(
        mut self,
        token_request_for: impl Fn(&Parts, &[Challenge], &TokenRequest) -> Option<TokenRequest>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.token_request_for = Some(Arc::new(token_request_for));
        self
    }
}

impl fmt::Debug for StepUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepUp")
            .field("max_rounds", &self.max_rounds)
            .field("allowed_scope", &self.allowed_scope)
            .finish_non_exhaustive()
    }
}

impl Default for StepUp {
    fn default() -> Self {
        Self::new()
    }
}
