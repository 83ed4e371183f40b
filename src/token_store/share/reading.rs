//! What an entry of the store contains, and what it is worth to this fetch.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    ask::Obtained,
    decide::{ENDED, EntryFacts, Route, Use, use_of},
    errors::{damaged, of_another_key, refused_elsewhere},
    session::Session,
};
use crate::{
    base::clock::{Moment, wall_now},
    error::TokenError,
    secret::RefreshToken,
    token_store::{EndedSignIn, Fence, Opened, StoredEntry},
};

/// What an entry contained.
pub(super) enum Content {
    Token(Box<Obtained>, Use),
    /// Nothing of use.
    Unreadable,
    /// Only a refresh token.
    RefreshToken(RefreshToken),
    /// The tokens of this request cannot be shared.
    NotShared,
    /// It has a refresh token that is newer than that of this instance, and cannot be read or is not accepted.
    Unusable(Box<TokenError>),
}

impl Session<'_> {
    pub(super) fn read(
        &self,
        entry: &[u8],
        fence: Fence,
        lease_age: Duration,
        now: Moment,
    ) -> Content {
        let opened = match self.share.keys.open(&self.key.entry, fence, entry) {
            Opened::Entry(opened) => opened,
            Opened::OtherVersion => return self.of_another_key("it has another version"),
            Opened::UnknownKey => {
                return self.of_another_key("it is encrypted with another key");
            }
            Opened::Corrupt => return self.damaged(fence),
        };
        let Some(stored) = StoredEntry::decode(&opened, self.dpop) else {
            return self.damaged(fence);
        };
        self.share.is_unreadable.store(false, Ordering::Relaxed);
        let stored = match stored {
            StoredEntry::Token(stored) => stored,
            StoredEntry::Ended(ended) => return self.ended(ended, lease_age),
            StoredEntry::NotShared(key) if key == self.key.token && !self.key.is_of_sign_in() => {
                return Content::NotShared;
            }
            StoredEntry::NotShared(_) => return Content::Unreadable,
        };
        let age = stored.age(lease_age, now.wall_time(now).unwrap_or_else(wall_now));
        let token = stored.response.access_token();
        let facts = EntryFacts {
            age,
            lifetime: self.lifetime(&stored.response),
            refresh_in: stored.response.refresh_in(),
            is_dropped: self.ask.dropped == Some(token.mark()),
            waited: now.time_since(self.begun),
        };
        let is_for_this = stored.key == Some(self.key.token) && token.sendable().is_some();
        let use_ = match is_for_this {
            true => use_of(facts, self.ask.wanted),
            false => Use::Skip,
        };
        let obtained = Obtained {
            result: Ok(stored.response),
            sent: now,
            age,
            fence: Some(fence),
            is_from_store: true,
        };
        Content::Token(Box::new(obtained), use_)
    }

    /// The refresh token of this instance may be newer, for example because the store has lost its data meanwhile.
    fn ended(&self, ended: EndedSignIn, age: Duration) -> Content {
        let own = self.request.known("refresh_token");
        let is_own = own == Some(ended.refresh_token.expose_secret());
        let known = self.ask.known.fence().unwrap_or(Fence::new(0));
        let is_newer = ended.known_since > known;
        if ended.key == self.key.token && age < ENDED && (is_own || is_newer) {
            Content::unusable(refused_elsewhere())
        } else if is_newer {
            Content::RefreshToken(ended.refresh_token)
        } else {
            Content::Unreadable
        }
    }

    fn of_another_key(&self, why: &str) -> Content {
        self.share.note_unreadable(why);
        match self.route {
            Route::RefreshToken => Content::unusable(of_another_key()),
            Route::Helped | Route::OwnResult => Content::Unreadable,
        }
    }

    fn damaged(&self, fence: Fence) -> Content {
        self.share.note_unreadable("it is damaged");
        let share = self.share;
        match self.route {
            Route::RefreshToken if !share.has_long_been_damaged(&self.name, fence) => {
                Content::unusable(damaged())
            }
            _ => Content::Unreadable,
        }
    }
}

impl Content {
    fn unusable(error: TokenError) -> Self {
        Self::Unusable(Box::new(error))
    }

    /// The token, if it is to be taken.
    pub(super) fn adopted(self) -> Option<Obtained> {
        match self {
            Self::Token(token, Use::Adopt) => Some(*token),
            _ => None,
        }
    }
}
