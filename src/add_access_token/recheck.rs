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
    NoToken,
    SameToken,
    OtherToken,
    /// The request was already refused with this token.
    RefusedToken,
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
        // waited for it: otherwise a service that is never ready at once would cause token fetches without end.
        if !self.token_was_usable {
            return Recheck::Send;
        }
        match self.usable_now {
            UsableNow::NoToken => Recheck::StartOver,
            // The bytes of a refused token are never sent again.
            UsableNow::RefusedToken => Recheck::GiveUp,
            // A remote signer is not asked twice: while the request waits for the second proof, the service may become busy again,
            // and so on.
            UsableNow::SameToken if self.is_signed_remotely => Recheck::Send,
            // A proof is for one token.
            UsableNow::OtherToken if self.is_signed_remotely => Recheck::StartOver,
            // A local key signs again, since a proof ages and its nonce may have been replaced.
            UsableNow::SameToken | UsableNow::OtherToken => Recheck::Renew,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_requests_are_sent_renewed_started_over_or_given_up() {
        use Recheck::{GiveUp, Renew, Send, StartOver};
        use UsableNow::{NoToken, OtherToken, RefusedToken, SameToken};
        for (token_was_usable, is_signed_remotely, usable_now, expected) in [
            (false, false, NoToken, Send),
            (false, false, SameToken, Send),
            (false, false, OtherToken, Send),
            (false, false, RefusedToken, Send),
            (false, true, NoToken, Send),
            (false, true, SameToken, Send),
            (false, true, OtherToken, Send),
            (false, true, RefusedToken, Send),
            (true, false, NoToken, StartOver),
            (true, false, SameToken, Renew),
            (true, false, OtherToken, Renew),
            (true, false, RefusedToken, GiveUp),
            (true, true, NoToken, StartOver),
            (true, true, SameToken, Send),
            (true, true, OtherToken, StartOver),
            (true, true, RefusedToken, GiveUp),
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
