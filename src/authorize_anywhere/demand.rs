//! What a response demands: no token was sent, a wider scope is needed, or the token was refused. Pure.

use http::StatusCode;

use crate::message::{Challenge, Scope, scope};

/// What a response demands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Demand {
    /// A token.
    Token,
    /// A token with more scope than the one that was sent. The scope is that of the challenge.
    Scope(Scope),
    /// Another token than the one that was sent.
    OtherToken,
}

/// The greatest scope that is requested, in bytes and in words.
const MAX_SCOPE: usize = 4 * 1024;
const MAX_SCOPE_WORDS: usize = 64;

impl Demand {
    /// Returns what a response demands, if it is something that this layer can obtain.
    ///
    /// `carried` says whether the request carried a token of this layer, and `is_refused` whether the layer below has found it refused.
    pub(super) fn of(
        status: StatusCode,
        challenges: &[Challenge],
        carried: bool,
        is_refused: bool,
    ) -> Option<Self> {
        let counted = || challenges.iter().filter(|challenge| counts(challenge));
        if !carried {
            // A 403 says that no token helps. Without a challenge, nobody knows what would.
            let is_demand = status == StatusCode::UNAUTHORIZED && counted().next().is_some();
            return is_demand.then_some(Self::Token);
        }
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return None;
        }
        let insufficient = counted().filter(|challenge| is_error(challenge, "insufficient_scope"));
        let missing = insufficient.filter_map(Challenge::scope);
        match union_of(missing) {
            Some(scope) => Some(Self::Scope(scope)),
            None if is_refused => Some(Self::OtherToken),
            None => None,
        }
    }
}

/// Whether a challenge is about access tokens.
fn counts(challenge: &Challenge) -> bool {
    challenge.has_scheme("Bearer") || challenge.has_scheme("DPoP")
}

fn is_error(challenge: &Challenge, code: &str) -> bool {
    challenge
        .error()
        .is_some_and(|error| error.eq_ignore_ascii_case(code))
}

/// Returns the scope that the challenges name.
pub(super) fn challenged_scope(challenges: &[Challenge]) -> Option<Scope> {
    let counted = challenges.iter().filter(|challenge| counts(challenge));
    union_of(counted.filter_map(Challenge::scope))
}

/// Whether the API accepts bound tokens, and whether it accepts nothing else.
pub(super) fn dpop(challenges: &[Challenge]) -> (bool, bool) {
    let names = |scheme| {
        challenges
            .iter()
            .any(|challenge| challenge.has_scheme(scheme))
    };
    let accepts = names("DPoP");
    (accepts, accepts && !names("Bearer"))
}

fn union_of(scopes: impl Iterator<Item = Scope>) -> Option<Scope> {
    let all = scopes.fold(String::new(), |all, scope| {
        scope::union(&all, scope.as_str())
    });
    let is_usable = !all.is_empty() && is_small(&all);
    is_usable.then(|| Scope::from(all))
}

/// Whether a scope is small enough to be requested. APIs write it, so it could be anything.
pub(super) fn is_small(scope: &str) -> bool {
    scope.len() <= MAX_SCOPE && scope.split(' ').count() <= MAX_SCOPE_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(status: u16, field: &str, carried: bool, is_refused: bool) -> Option<Demand> {
        let status = StatusCode::from_u16(status).unwrap();
        Demand::of(status, &Challenge::parse(field), carried, is_refused)
    }

    #[test]
    fn only_a_401_with_a_challenge_for_tokens_demands_a_token() {
        for (status, field, expected) in [
            (401, "Bearer", true),
            (401, "DPoP algs=\"ES256\"", true),
            (401, "bearer error=\"invalid_token\"", true),
            (401, "Basic realm=\"x\", Bearer scope=\"a\"", true),
            (401, "", false),
            (401, "Basic realm=\"Bearer\"", false),
            (401, "Negotiate", false),
            (401, "BearerX", false),
            (
                403,
                "Bearer error=\"insufficient_scope\", scope=\"a\"",
                false,
            ),
            (407, "Bearer", false),
            (200, "Bearer", false),
            (
                404,
                "Bearer resource_metadata=\"https://api.example/m\"",
                false,
            ),
        ] {
            let expected = expected.then_some(Demand::Token);
            assert_eq!(
                demand(status, field, false, false),
                expected,
                "{status} {field}"
            );
        }
    }

    #[test]
    fn a_token_that_was_sent_is_refused_or_lacks_scope() {
        use Demand::OtherToken;
        let scope = |scope: &str| Some(Demand::Scope(scope.into()));
        let long = format!(
            "Bearer error=insufficient_scope, scope=\"{}\"",
            (0..65).map(|n| format!("s{n} ")).collect::<String>()
        );
        for (status, field, is_refused, expected) in [
            (401, "Bearer", true, Some(OtherToken)),
            (401, "", true, Some(OtherToken)),
            (400, "Bearer error=\"invalid_token\"", true, None),
            (401, "Bearer error=\"invalid_request\"", false, None),
            (401, "DPoP error=\"use_dpop_nonce\"", false, None),
            (403, "Bearer", false, None),
            (403, "Bearer error=\"insufficient_scope\"", false, None),
            (
                403,
                "Bearer error=\"insufficient_scope\", scope=\"b a\"",
                false,
                scope("a b"),
            ),
            (
                401,
                "DPoP error=insufficient_scope, scope=a",
                false,
                scope("a"),
            ),
            (403, "Bearer scope=\"a\"", false, None),
            (
                403,
                "Basic error=\"insufficient_scope\", scope=\"a\"",
                false,
                None,
            ),
            (
                404,
                "Bearer error=\"insufficient_scope\", scope=\"a\"",
                false,
                None,
            ),
            (
                403,
                "Bearer error=insufficient_scope, scope=a, DPoP error=insufficient_scope, scope=b",
                false,
                scope("a b"),
            ),
            (403, &long, false, None),
        ] {
            assert_eq!(
                demand(status, field, true, is_refused),
                expected,
                "{status} {field}"
            );
        }
    }

    #[test]
    fn the_schemes_say_whether_tokens_must_be_bound() {
        for (field, expected) in [
            ("Bearer", (false, false)),
            ("DPoP", (true, true)),
            ("DPoP, Bearer", (true, false)),
            ("Basic", (false, false)),
        ] {
            assert_eq!(dpop(&Challenge::parse(field)), expected, "{field}");
        }
    }
}
