//! What to do once the metadata of the API were read again. Pure.

use super::demand::Demand;

/// What is known of the access whose token was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Whether the API still names its issuer and its resource.
    pub(super) is_named: bool,
    /// Whether the API demands a token that is bound to a key, and this one is not.
    pub(super) lacks_key: bool,
    /// Whether another authorization would request more scope.
    pub(super) would_widen: bool,
    /// Whether the API has accepted one of its tokens.
    pub(super) was_accepted: bool,
    /// Whether it took a user.
    pub(super) is_sign_in: bool,
    /// Whether the cache has found that it cannot renew its tokens.
    pub(super) has_ended: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Authorize, with the scope that is demanded.
    Authorize,
    /// Let the caller have the response.
    Keep,
    /// Forget the access: nothing would renew it.
    End,
}

impl Step {
    /// `sent` is `None` if the request carried no token.
    pub(super) fn after(demand: &Demand, sent: Option<Sent>) -> Self {
        let Some(sent) = sent else {
            return Self::Authorize;
        };
        if !sent.is_named || sent.lacks_key {
            return Self::Authorize;
        }
        match demand {
            Demand::Token => Self::Authorize,
            Demand::Scope(_) if sent.would_widen => Self::Authorize,
            Demand::Scope(_) => Self::Keep,
            // The layer below has replaced the token, if it could, and the other one was refused as well.
            Demand::OtherToken if !sent.is_sign_in && !sent.has_ended => Self::Keep,
            // Another sign-in would not help: the API refuses the tokens of this server from the first one on.
            Demand::OtherToken if !sent.was_accepted => Self::End,
            Demand::OtherToken => Self::Authorize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Sent = Sent {
        is_named: true,
        lacks_key: false,
        would_widen: false,
        was_accepted: true,
        is_sign_in: true,
        has_ended: false,
    };

    #[test]
    fn only_what_could_help_is_done() {
        let scope = || Demand::Scope("a".into());
        for (demand, sent, expected) in [
            (Demand::Token, None, Step::Authorize),
            (scope(), Some(SENT), Step::Keep),
            (
                scope(),
                Some(Sent {
                    would_widen: true,
                    ..SENT
                }),
                Step::Authorize,
            ),
            (Demand::OtherToken, Some(SENT), Step::Authorize),
            (
                Demand::OtherToken,
                Some(Sent {
                    was_accepted: false,
                    ..SENT
                }),
                Step::End,
            ),
            (
                Demand::OtherToken,
                Some(Sent {
                    is_sign_in: false,
                    ..SENT
                }),
                Step::Keep,
            ),
            (
                Demand::OtherToken,
                Some(Sent {
                    is_sign_in: false,
                    was_accepted: false,
                    ..SENT
                }),
                Step::Keep,
            ),
            (
                Demand::OtherToken,
                Some(Sent {
                    is_sign_in: false,
                    has_ended: true,
                    ..SENT
                }),
                Step::Authorize,
            ),
            // The API has moved, or wants bound tokens now.
            (
                scope(),
                Some(Sent {
                    is_named: false,
                    ..SENT
                }),
                Step::Authorize,
            ),
            (
                Demand::OtherToken,
                Some(Sent {
                    is_named: false,
                    was_accepted: false,
                    is_sign_in: false,
                    ..SENT
                }),
                Step::Authorize,
            ),
            (
                Demand::OtherToken,
                Some(Sent {
                    lacks_key: true,
                    is_sign_in: false,
                    ..SENT
                }),
                Step::Authorize,
            ),
        ] {
            assert_eq!(Step::after(&demand, sent), expected, "{demand:?} {sent:?}");
        }
    }
}
