//! Answers challenges that demand a stronger token: other claims, a wider scope, or a user who signs in again.
//!
//! ```text
//!   a 4xx
//!     │                         demand        what they demand, and the token request that meets it
//!     ▼                         pace          may another token be requested now?
//!   StrongerTokens::answer      stronger_tokens
//!     │
//!     ├─ with `resend`: the request waits for the stronger token ──── fetched, or failed
//!     └─ otherwise: the fetch is started, and later requests use its token
//! ```

mod demand;
pub(crate) mod pace;
mod stronger_tokens;

pub(super) use self::stronger_tokens::{StepUpRules, StrongerTokens};
use crate::message::Scope;

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
#[derive(Clone, Debug)]
#[must_use = "pass it to `AddAccessTokenLayer::step_up`"]
pub struct StepUp {
    max_rounds: u32,
    allowed_scope: Option<Scope>,
}

impl StepUp {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self {
            max_rounds: 3,
            allowed_scope: None,
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
}

impl Default for StepUp {
    fn default() -> Self {
        Self::new()
    }
}
