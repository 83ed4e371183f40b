//! What a request and its response know of the token that was sent: two numbers, and where it went.

use std::{num::NonZeroU64, sync::Arc};

use http::{Extensions, StatusCode};

use super::{
    entries,
    entry::{Entry, Invalidation, News, SentTo},
    source::{SourceKind, TokenSource},
    state::CachedToken,
};
use crate::base::origin_id::OriginId;

/// Identifies the token that a request carries.
///
/// A response that is on its way holds these two numbers instead of a reference count, which every request would have to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenName {
    entry: NonZeroU64,
    pub(super) generation: u64,
}

impl TokenName {
    /// A token that no cache holds. No entry has this number.
    pub(crate) const NONE: Self = Self {
        entry: NonZeroU64::MAX,
        generation: 0,
    };

    pub(super) fn new(entry: &Entry, cached: &CachedToken) -> Self {
        Self {
            entry: entry.id(),
            generation: cached.generation,
        }
    }

    /// Stores the name in the extensions if they have a place for it.
    #[inline]
    pub(crate) fn tell(self, extensions: &mut Extensions) {
        if let Some(place) = extensions.get_mut() {
            *place = self;
        }
    }

    /// Reports that an API refused the token, where it is not known which origin that was.
    pub(crate) fn refuse(self) -> Invalidation {
        self.refuse_at(SentTo::NOWHERE)
    }

    fn refuse_at(self, sent_to: SentTo) -> Invalidation {
        match entries::find_by_id(self.entry) {
            Some(entry) => entry.invalidate(sent_to, |cached| cached.generation == self.generation),
            None => Invalidation::Kept,
        }
    }
}

/// A token that is on its way to an origin.
///
/// It is small, because each request moves it several times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentToken {
    name: TokenName,
    sent_to: SentTo,
}

impl SentToken {
    /// Returns whether an acceptance by the origin would be news. In most cases it is not.
    #[inline]
    pub(crate) fn is_news(&self) -> bool {
        self.sent_to.news() != News::Nothing
    }

    /// Returns where the token was sent, if that is known.
    pub(crate) fn origin(&self) -> Option<OriginId> {
        self.sent_to.origin()
    }

    /// Reports the status of a response that does not refuse the token.
    #[cold]
    pub(crate) fn report(&self, status: StatusCode) {
        if !self.is_news() || !status.is_success() {
            return;
        }
        if let (Some(entry), Some(origin)) =
            (entries::find_by_id(self.name.entry), self.sent_to.origin())
        {
            entry.note_accepted(origin, self.name.generation, self.sent_to.news());
        }
    }

    /// Returns the entry of the token, if it is still there.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        entries::find_by_id(self.name.entry)
    }

    /// Reports that the origin refused the token.
    pub(crate) fn refuse(self) -> Invalidation {
        self.name.refuse_at(self.sent_to)
    }
}

impl TokenSource {
    /// Says where a token of this source is sent.
    #[inline]
    pub(crate) fn sent(&self, name: TokenName, origin: Option<OriginId>) -> SentToken {
        let sent_to = match &self.0 {
            SourceKind::Cached { entry, .. } => entry.sent_to(origin, name.generation),
            SourceKind::Fixed(_) => SentTo::NOWHERE,
        };
        SentToken { name, sent_to }
    }
}
