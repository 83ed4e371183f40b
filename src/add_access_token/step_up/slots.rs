//! The stronger requests of each token request.

use std::collections::{HashMap, VecDeque};

use super::pace::Pace;
use crate::message::TokenRequest;

/// For how many token requests the stronger ones are remembered.
const MAX_SLOTS: usize = 1000;

#[derive(Default)]
pub(super) struct Slots {
    pub(super) by_base: HashMap<TokenRequest, Slot>,
    /// The keys, from the oldest to the newest.
    order: VecDeque<TokenRequest>,
    /// Stronger requests whose tokens are no longer used, but were still held.
    pub(super) unused: Vec<TokenRequest>,
}

/// The stronger requests of one token request.
#[derive(Clone, Default)]
pub(super) struct Slot {
    /// Its token was fetched.
    pub(super) in_use: Option<TokenRequest>,
    /// Its token is being fetched.
    pub(super) wanted: Option<TokenRequest>,
    pub(super) pace: Pace,
}

impl Slots {
    /// Returns the strongest request so far, if there is one.
    pub(super) fn strongest(&self, base: &TokenRequest) -> Option<&TokenRequest> {
        let slot = self.by_base.get(base)?;
        slot.wanted.as_ref().or(slot.in_use.as_ref())
    }

    /// Returns the request of the source for which this request was made, or the request itself.
    pub(super) fn base_of(&self, request: &TokenRequest) -> TokenRequest {
        let base = request.weaker().or_else(|| {
            // The same request may have been made by the user before.
            let is_it = |stronger: &Option<TokenRequest>| stronger.as_ref() == Some(request);
            let mut slots = self.by_base.iter();
            let found = slots.find(|(_, slot)| is_it(&slot.in_use) || is_it(&slot.wanted));
            found.map(|(base, _)| base)
        });
        base.unwrap_or(request).clone()
    }

    /// Notes a new key. Returns the oldest slot if there are too many.
    pub(super) fn make_room_for(&mut self, base: &TokenRequest) -> Option<Slot> {
        if self.by_base.contains_key(base) {
            return None;
        }
        self.order.push_back(base.clone());
        if self.order.len() <= MAX_SLOTS {
            return None;
        }
        self.by_base.remove(&self.order.pop_front()?)
    }
}
