//! Decides whether a request that had to wait is still sent with the headers that it was given. Pure.

/// What is known about a request when its service becomes ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct AfterWaiting {
    /// Whether the token was usable at some time while the request waited for its proof or its service.
    pub(super) token_was_usable: bool,
    /// Whether the signer of the proof could not answer at once, such as a key service.
    pub(super) is_signed_remotely: bool,
    pub(super) usable_now: UsableNow,
}

/// The token that can be used now, compared with the one that the request was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsableNow {
    Nothing,
    Same,
    Other,
    /// A token with which the request was already refused.
    Refused,
}

/// What to do with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    /// Send it as it is.
    Send,
    /// Put the usable token and a fresh proof on it, and send it.
    Renew,
    /// Wait for a token, a proof and the service again.
    StartOver,
    /// Do not send it.
    GiveUp,
}

impl AfterWaiting {
    pub(super) fn recheck(self) -> Recheck {
        // Either the request did not wait, or its token had already expired when it came. Such a token is sent once to those who
        // waited for it: otherwise a service that is never ready at once would cause endless token fetches.
        if !self.token_was_usable {
            return Recheck::Send;
        }
        match self.usable_now {
            UsableNow::Nothing => Recheck::StartOver,
            // The bytes of a refused token are never sent again.
            UsableNow::Refused => Recheck::GiveUp,
            // A remote signer is not asked twice: while the request waits for the second proof, the service may become busy again,
            // and so on.
            UsableNow::Same if self.is_signed_remotely => Recheck::Send,
            // A proof is for one token.
            UsableNow::Other if self.is_signed_remotely => Recheck::StartOver,
            // A local key signs again, since a proof ages and its nonce may have been replaced.
            UsableNow::Same | UsableNow::Other => Recheck::Renew,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_requests_are_sent_renewed_started_over_or_given_up() {
        use Recheck::{GiveUp, Renew, Send, StartOver};
        use UsableNow::{Nothing, Other, Refused, Same};
        for (token_was_usable, is_signed_remotely, usable_now, expected) in [
            (false, false, Nothing, Send),
            (false, false, Same, Send),
            (false, false, Other, Send),
            (false, false, Refused, Send),
            (false, true, Nothing, Send),
            (false, true, Same, Send),
            (false, true, Other, Send),
            (false, true, Refused, Send),
            (true, false, Nothing, StartOver),
            (true, false, Same, Renew),
            (true, false, Other, Renew),
            (true, false, Refused, GiveUp),
            (true, true, Nothing, StartOver),
            (true, true, Same, Send),
            (true, true, Other, StartOver),
            (true, true, Refused, GiveUp),
        ] {
            let facts = AfterWaiting {
                token_was_usable,
                is_signed_remotely,
                usable_now,
            };
            assert_eq!(facts.recheck(), expected, "{facts:?}");
        }
    }
}
