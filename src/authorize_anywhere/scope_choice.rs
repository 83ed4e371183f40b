//! Which scope is requested. Pure.

use super::demand::is_small;
use crate::message::{Scope, scope};

const OFFLINE_ACCESS: &str = "offline_access";

/// What decides which scope is requested.
#[derive(Clone, Copy, Default)]
pub(super) struct ScopeChoice<'a> {
    /// The scope of the challenge.
    pub(super) challenged: Option<&'a Scope>,
    /// The scope so far, if more is demanded.
    pub(super) so_far: Option<&'a Scope>,
    /// `scopes_supported` of the API.
    pub(super) of_resource: Option<&'a [String]>,
    /// `scopes_supported` of the authorization server.
    pub(super) of_server: Option<&'a [String]>,
    /// What the user allows.
    pub(super) allowed: Option<&'a Scope>,
    /// Whether refreshing the token would otherwise take the user.
    pub(super) is_sign_in: bool,
}

impl ScopeChoice<'_> {
    /// Returns the scope to request: that of the challenge, otherwise what the API lists, otherwise none.
    ///
    /// `offline_access` is requested if the server lists it and a user signs in, and never otherwise.
    pub(super) fn scope(self) -> Scope {
        let demanded = match (self.challenged, self.of_resource) {
            (Some(challenged), _) => challenged.clone(),
            (None, Some(listed)) => listed
                .iter()
                .filter(|word| is_word(word))
                .take(64)
                .collect(),
            (None, None) => Scope::from(""),
        };
        let is_allowed = |word: &&str| self.allowed.is_none_or(|allowed| allowed.contains(word));
        let demanded = demanded.iter().filter(is_allowed);
        let demanded: Scope = demanded.filter(|word| *word != OFFLINE_ACCESS).collect();
        let so_far = self.so_far.map_or("", Scope::as_str);
        let mut all = scope::union(so_far, demanded.as_str());
        let lists_offline_access = || {
            let listed = self.of_server.unwrap_or_default();
            listed.iter().any(|word| word == OFFLINE_ACCESS)
        };
        // Alone, it would replace the scope that the server has as its default.
        if self.is_sign_in && !all.is_empty() && lists_offline_access() {
            all = scope::union(&all, OFFLINE_ACCESS);
        }
        let scope = match is_small(&all) {
            true => Scope::from(all),
            false => Scope::from(so_far),
        };
        // Without a scope, the server would choose one.
        match self.allowed {
            Some(allowed) if scope.iter().next().is_none() => allowed.clone(),
            _ => scope,
        }
    }
}

fn is_word(word: &str) -> bool {
    !word.contains(' ') && !word.is_empty() && scope::check(word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn the_challenge_decides_then_the_api_then_nobody() {
        for (challenged, so_far, of_resource, of_server, is_sign_in, expected) in [
            ("a", "", "b c", "", true, "a"),
            ("", "", "b c", "", true, "b c"),
            ("", "", "", "", true, ""),
            ("b", "a", "c", "", true, "a b"),
            ("a", "a b", "", "", true, "a b"),
            // Only where the server lists it, and only for users.
            ("a", "", "", "offline_access x", true, "a offline_access"),
            ("a", "", "", "offline_access x", false, "a"),
            ("a offline_access", "", "", "", true, "a"),
            ("a offline_access", "", "", "x", true, "a"),
            ("", "", "a offline_access", "", true, "a"),
            ("", "", "", "offline_access", true, ""),
            ("offline_access", "", "", "", true, ""),
        ] {
            let challenged = (!challenged.is_empty()).then(|| Scope::from(challenged));
            let so_far = (!so_far.is_empty()).then(|| Scope::from(so_far));
            let (of_resource, of_server) = (list(of_resource), list(of_server));
            let choice = ScopeChoice {
                challenged: challenged.as_ref(),
                so_far: so_far.as_ref(),
                of_resource: Some(&of_resource),
                of_server: Some(&of_server),
                allowed: None,
                is_sign_in,
            };
            assert_eq!(
                choice.scope(),
                Scope::from(expected),
                "{challenged:?} {so_far:?}"
            );
        }
    }

    #[test]
    fn what_the_user_does_not_allow_is_not_requested() {
        let (challenged, so_far) = (Scope::from("read admin"), Scope::from("list"));
        let choice = ScopeChoice {
            challenged: Some(&challenged),
            so_far: Some(&so_far),
            allowed: Some(&"read write".into()),
            ..ScopeChoice::default()
        };
        assert_eq!(choice.scope(), Scope::from("list read"));
    }

    #[test]
    fn odd_and_huge_lists_are_not_requested() {
        let mut odd = list("a b");
        odd.extend(["".into(), "c d".into(), "\"".into(), "é".into()]);
        let choice = ScopeChoice {
            of_resource: Some(&odd),
            ..ScopeChoice::default()
        };
        assert_eq!(choice.scope(), Scope::from("a b"));

        let huge: Vec<String> = (0..64)
            .map(|n| format!("{n}{}", "x".repeat(1000)))
            .collect();
        let choice = ScopeChoice {
            of_resource: Some(&huge),
            ..ScopeChoice::default()
        };
        assert_eq!(choice.scope(), Scope::from(""));
    }
}
