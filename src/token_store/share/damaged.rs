//! Since when the entries of sign-ins are damaged, as far as this process knows. Pure: the time is an argument.

use std::collections::HashMap;

use tokio::time::Instant;

use super::decide::DAMAGED;
use crate::token_store::{EntryName, Fence};

/// The damaged entries, of which each is known by its fence.
#[derive(Debug, Default)]
pub(super) struct Damaged(HashMap<EntryName, (Fence, Instant)>);

impl Damaged {
    const MOST: usize = 10_000;

    /// Notes a damaged entry. Returns whether it was found long ago.
    pub(super) fn has_lasted(&mut self, name: &EntryName, fence: Fence, now: Instant) -> bool {
        if let Some((known, since)) = self.0.get(name)
            && *known == fence
        {
            return now - *since >= DAMAGED;
        }
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(name.clone(), (fence, now));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::tokio_now;

    #[test]
    fn damage_counts_from_when_it_was_first_found() {
        let (start, mut damaged) = (tokio_now(), Damaged::default());
        let (a, b) = (EntryName::new("a"), EntryName::new("b"));
        for (name, fence, now, expected) in [
            (&a, 1, start, false),
            (&a, 1, start + DAMAGED / 2, false),
            (&b, 1, start + DAMAGED, false),
            (&a, 1, start + DAMAGED, true),
            (&a, 1, start + DAMAGED * 2, true),
            // It was replaced, and is damaged again.
            (&a, 2, start + DAMAGED * 2, false),
            (&b, 1, start + DAMAGED * 2, true),
        ] {
            assert_eq!(
                damaged.has_lasted(name, Fence::new(fence), now),
                expected,
                "{now:?}"
            );
        }
        for number in 0..Damaged::MOST * 2 {
            damaged.has_lasted(&EntryName::new(number.to_string()), Fence::new(1), start);
            assert!(damaged.0.len() <= Damaged::MOST);
        }
    }
}
