//! Where the current token was accepted.
//!
//! 1. Requests read the marks without the lock of the entry. They only decide whether a response is worth reporting.
//! 2. Marks are written under the lock, which also decides whether their token is still current. So they only change a few times in the
//!    life of a token.
//! 3. A mark is for one token and one origin. A token has room for a few origins. At others its refusals count like those of a token
//!    that was never accepted.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    base::{origin_id::OriginId, sync::AtomicU64},
    token_cache::refusals::Standing,
};

const ORIGINS: usize = 4;

#[derive(Default)]
pub(super) struct AcceptedAt([AtomicU64; ORIGINS]);

/// Whether a success of the request that is about to be sent tells something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The origin is known to accept the token, or there is no room to remember it.
    Nothing,
    /// The origin is not known to accept the token.
    Accepted,
    /// The origin has refused the token, which was kept to see whether it accepts it.
    AcceptedAgain,
}

/// The origin of a request, and [`News`], in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentTo(u64);

impl SentTo {
    /// The origin is not known.
    pub(crate) const NOWHERE: Self = Self(0);

    #[inline]
    pub(crate) fn origin(self) -> Option<OriginId> {
        OriginId::from_bits(self.0 & OriginId::BITS)
    }

    #[inline]
    pub(crate) fn news(self) -> News {
        match self.0 & !OriginId::BITS {
            0 => News::Nothing,
            1 => News::Accepted,
            _ => News::AcceptedAgain,
        }
    }
}

/// An empty place is zero. Another mark is zero by a chance of one in 2^61.
fn mark(origin: OriginId, generation: u64) -> u64 {
    origin.get() ^ generation.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Replaces the mark of an origin that has refused the token.
fn refused(mark: u64) -> u64 {
    !mark
}

impl AcceptedAt {
    #[inline]
    pub(super) fn sent_to(&self, origin: OriginId, generation: u64) -> SentTo {
        let mark = mark(origin, generation);
        let news = match self.0[0].load(Relaxed) == mark {
            true => News::Nothing,
            false => self.news(mark),
        };
        SentTo(origin.get() | news as u64)
    }

    #[cold]
    fn news(&self, mark: u64) -> News {
        if self.find(mark).is_some() {
            News::Nothing
        } else if self.find(refused(mark)).is_some() {
            News::AcceptedAgain
        } else if self.find(0).is_some() {
            News::Accepted
        } else {
            News::Nothing
        }
    }

    fn find(&self, mark: u64) -> Option<&AtomicU64> {
        self.0.iter().find(|place| place.load(Relaxed) == mark)
    }

    pub(super) fn standing(&self, origin: OriginId, generation: u64) -> Standing {
        let mark = mark(origin, generation);
        if self.find(mark).is_some() {
            Standing::Accepted
        } else if self.find(refused(mark)).is_some() {
            Standing::Probed
        } else {
            Standing::Unknown
        }
    }

    /// Returns whether another origin accepted the token than the one with this standing.
    pub(super) fn is_accepted_elsewhere(&self, standing: Standing) -> bool {
        let accepted = self.0.iter().filter(|place| place.load(Relaxed) != 0);
        accepted.count() > usize::from(standing != Standing::Unknown)
    }

    /// Notes that an origin accepted the token, unless it has refused it since.
    pub(super) fn note(&self, origin: OriginId, generation: u64) {
        if self.standing(origin, generation) == Standing::Unknown
            && let Some(empty) = self.find(0)
        {
            empty.store(mark(origin, generation), Relaxed);
        }
    }

    /// Notes that an origin refused the token that it had accepted.
    pub(super) fn probe(&self, origin: OriginId, generation: u64) {
        let mark = mark(origin, generation);
        if let Some(place) = self.find(mark) {
            place.store(refused(mark), Relaxed);
        }
    }

    /// Notes that an origin accepted the token after it had refused it.
    pub(super) fn end_probe(&self, origin: OriginId, generation: u64) {
        let mark = mark(origin, generation);
        if let Some(place) = self.find(refused(mark)) {
            place.store(mark, Relaxed);
        }
    }

    /// Makes room for the origins of the next token.
    pub(super) fn clear(&self) {
        for place in &self.0 {
            place.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_at_a_few_origins_and_forgotten_with_its_generation() {
        let accepted = AcceptedAt::default();
        let origins: Vec<_> = (0..=ORIGINS)
            .map(|n| OriginId::of(&format!("https://{n}.example").parse().unwrap()).unwrap())
            .collect();
        for origin in &origins {
            assert_eq!(accepted.standing(*origin, 1), Standing::Unknown);
            accepted.note(*origin, 1);
        }
        for (n, origin) in origins.iter().enumerate() {
            let expected = match n < ORIGINS {
                true => Standing::Accepted,
                false => Standing::Unknown,
            };
            assert_eq!(accepted.standing(*origin, 1), expected);
            // There is nothing to report again and again.
            assert_eq!(accepted.sent_to(*origin, 1).news(), News::Nothing);
            assert_eq!(accepted.standing(*origin, 2), Standing::Unknown);
        }
        assert!(accepted.is_accepted_elsewhere(Standing::Unknown));
        assert!(accepted.is_accepted_elsewhere(Standing::Accepted));
        accepted.clear();
        assert!(!accepted.is_accepted_elsewhere(Standing::Unknown));
        assert_eq!(accepted.sent_to(origins[0], 2).news(), News::Accepted);
    }

    #[test]
    fn a_probed_origin_stays_probed_until_it_accepts_again() {
        let accepted = AcceptedAt::default();
        let origin = OriginId::of(&"https://api.example".parse().unwrap()).unwrap();
        accepted.note(origin, 1);
        accepted.probe(origin, 1);
        assert_eq!(accepted.standing(origin, 1), Standing::Probed);
        assert!(!accepted.is_accepted_elsewhere(Standing::Probed));
        assert_eq!(accepted.sent_to(origin, 1).news(), News::AcceptedAgain);
        // A success of a request that was sent before.
        accepted.note(origin, 1);
        assert_eq!(accepted.standing(origin, 1), Standing::Probed);
        accepted.end_probe(origin, 1);
        assert_eq!(accepted.standing(origin, 1), Standing::Accepted);
        assert_eq!(accepted.sent_to(origin, 1).news(), News::Nothing);
    }
}
