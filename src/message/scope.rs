//! `Scope`: a set of words (RFC 6749 §3.3).

use std::{
    borrow::Cow,
    collections::BTreeSet,
    error::Error,
    fmt,
    hash::{Hash, Hasher},
};

use crate::base::Quoted;

/// The scope of a token: a set of words
/// ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
///
/// The text is stored unchanged. `Display` and `Debug` escape and truncate it, because it may come from a server;
/// [`as_str`](Self::as_str) returns all of it. Two scopes are equal if they contain the same words, in any order.
///
/// Creating a scope never fails. If it violates the grammar of
/// [RFC 6749 Appendix A.4](https://www.rfc-editor.org/rfc/rfc6749#appendix-A.4), [`check`](Self::check) returns an error, and so does
/// [`TokenEndpoint`](crate::TokenEndpoint), before anything is sent.
///
/// A scope is made from a text with spaces between the words, from a list of words (an array, a slice, a `Vec`), or from any other
/// iterator with [`from_iter`](FromIterator::from_iter).
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::Scope;
///
/// let scope = Scope::from("api:read api:write");
/// assert_eq!(scope, Scope::from(["api:write", "api:read"]));
/// assert!(scope.contains("api:read"));
/// assert!(Scope::from("caf\u{e9}").check().is_err());
/// ```
#[derive(Clone)]
pub struct Scope(Box<str>);

impl Scope {
    /// Iterates over the words, in their original order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        words(&self.0)
    }

    /// Returns whether the scope contains the word.
    #[must_use]
    pub fn contains(&self, word: &str) -> bool {
        self.iter().any(|other| other == word)
    }

    /// Returns the text unchanged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks the text against the grammar of RFC 6749 Appendix A.4.
    ///
    /// # Errors
    ///
    /// Returns an error if the text contains a character other than printable ASCII, or if it contains `"` or `\`.
    pub fn check(&self) -> Result<(), InvalidScope> {
        check(&self.0)
    }
}

/// Iterates over the words of a scope, in their original order.
fn words(scope: &str) -> impl Iterator<Item = &str> {
    scope.split(' ').filter(|word| !word.is_empty())
}

/// Whether a scope contains no word.
pub(crate) fn is_empty(scope: &str) -> bool {
    scope.bytes().all(|byte| byte == b' ')
}

/// Returns the words of both scopes, each once and in their order.
pub(crate) fn union(a: &str, b: &str) -> String {
    normalized(&format!("{a} {b}")).into_owned()
}

/// Whether two scopes contain the same words.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a == b || words(a).collect::<BTreeSet<_>>() == words(b).collect()
}

/// Hashes a scope as the set of its words. Most scopes are already sorted, which saves building the set.
pub(crate) fn hash<H: Hasher>(scope: &str, state: &mut H) {
    let mut set = BTreeSet::new();
    let is_sorted = words(scope).is_sorted_by(|a, b| a < b);
    if !is_sorted {
        set.extend(words(scope));
    }
    let mut count = 0_usize;
    let mut hash = |word: &str| {
        word.hash(state);
        count += 1;
    };
    match is_sorted {
        true => words(scope).for_each(&mut hash),
        false => set.into_iter().for_each(&mut hash),
    }
    count.hash(state);
}

/// Checks a string like [`Scope::check`].
pub(crate) fn check(scope: &str) -> Result<(), InvalidScope> {
    // Bytes are compared faster than characters, which matter only for the error.
    let is_valid = |all, byte: u8| all & is_scope_char(byte.into());
    if scope.bytes().fold(true, is_valid) {
        return Ok(());
    }
    match scope.chars().find(|c| !is_scope_char(*c)) {
        Some(found) => Err(InvalidScope { found }),
        None => Ok(()),
    }
}

/// Returns the scope with each word once, one space between words and none at the ends (RFC 6749 A.4).
///
/// Scopes that are equal as sets must not be sent differently, other than in their order.
pub(crate) fn normalized(scope: &str) -> Cow<'_, str> {
    // An empty word is not greater than any other, so only the first one may be empty.
    if !scope.starts_with(' ') && scope.split(' ').is_sorted_by(|a, b| a < b) {
        return Cow::Borrowed(scope);
    }
    let mut earlier = BTreeSet::new();
    let words = words(scope).filter(|word| earlier.insert(*word));
    Cow::Owned(Scope::from_iter(words).0.into())
}

fn is_scope_char(c: char) -> bool {
    matches!(c, ' '..='~') && c != '"' && c != '\\'
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:?})", Quoted(&self.0))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(&self.0))
    }
}

impl AsRef<str> for Scope {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        is_same(&self.0, &other.0)
    }
}

impl Eq for Scope {}

impl Hash for Scope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(&self.0, state);
    }
}

impl From<&str> for Scope {
    fn from(scope: &str) -> Self {
        Self(scope.into())
    }
}

impl From<String> for Scope {
    fn from(scope: String) -> Self {
        Self(scope.into())
    }
}

impl From<&String> for Scope {
    fn from(scope: &String) -> Self {
        Self(scope.as_str().into())
    }
}

impl From<Box<str>> for Scope {
    fn from(scope: Box<str>) -> Self {
        Self(scope)
    }
}

impl From<Cow<'_, str>> for Scope {
    fn from(scope: Cow<'_, str>) -> Self {
        Self(scope.into())
    }
}

impl From<&Self> for Scope {
    fn from(scope: &Self) -> Self {
        scope.clone()
    }
}

impl<A: AsRef<str>> From<&[A]> for Scope {
    fn from(words: &[A]) -> Self {
        words.iter().collect()
    }
}

impl<A: AsRef<str>, const N: usize> From<[A; N]> for Scope {
    fn from(words: [A; N]) -> Self {
        words.iter().collect()
    }
}

impl<A: AsRef<str>, const N: usize> From<&[A; N]> for Scope {
    fn from(words: &[A; N]) -> Self {
        words.iter().collect()
    }
}

impl<A: AsRef<str>> From<Vec<A>> for Scope {
    fn from(words: Vec<A>) -> Self {
        words.iter().collect()
    }
}

impl<A: AsRef<str>> From<&Vec<A>> for Scope {
    fn from(words: &Vec<A>) -> Self {
        words.iter().collect()
    }
}

impl<A: AsRef<str>> FromIterator<A> for Scope {
    fn from_iter<I: IntoIterator<Item = A>>(words: I) -> Self {
        let mut scope = String::new();
        for word in words {
            if !scope.is_empty() {
                scope.push(' ');
            }
            scope.push_str(word.as_ref());
        }
        Self(scope.into())
    }
}

/// The error for a scope with a character that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidScope {
    found: char,
}

impl fmt::Display for InvalidScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a scope cannot contain the character `{}`; use words of printable ASCII without quotes and backslashes, \
             separated by spaces (RFC 6749 appendix A.4)",
            Quoted(self.found.encode_utf8(&mut [0; 4]))
        )
    }
}

impl Error for InvalidScope {}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn order_and_spacing_do_not_matter_for_equality() {
        let hash = |scope: &Scope| {
            std::hash::BuildHasherDefault::<std::collections::hash_map::DefaultHasher>::default()
                .hash_one(scope)
        };
        let scope = Scope::from("a b");
        for (text, equal) in [
            ("b a", true),
            (" a  b ", true),
            ("a b a", true),
            ("a", false),
            ("A b", false),
        ] {
            let other = Scope::from(text);
            assert_eq!(scope == other, equal, "{text}");
            assert_eq!(hash(&scope) == hash(&other), equal, "{text}");
        }
    }

    #[test]
    fn text_is_escaped_and_truncated_when_printed() {
        let text = format!("\u{1b}\u{202e}{}", "x".repeat(1000));
        let scope = Scope::from(&*text);
        assert_eq!(scope.as_str(), text);
        let shown = scope.to_string();
        assert!(shown.starts_with(r"\u{1b}\u{202e}x"), "{shown}");
        assert!(shown.len() < 300 && shown.ends_with("..."), "{shown}");
        let shown = format!("{scope:?}");
        assert!(shown.starts_with(r#"Scope("\u{1b}\u{202e}x"#), "{shown}");
        assert!(shown.len() < 300 && shown.ends_with(r#"...")"#), "{shown}");
    }

    #[test]
    fn equal_scopes_are_sent_with_the_same_words() {
        for (text, expected) in [
            ("", ""),
            ("  ", ""),
            ("a", "a"),
            ("b a", "b a"),
            (" b  a ", "b a"),
            ("b a b", "b a"),
            ("a a", "a"),
        ] {
            assert_eq!(normalized(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_character_that_is_not_allowed_is_named_and_escaped() {
        for (text, named) in [
            ("a\nb", "`\\n`"),
            ("a\u{3164}", "`\\u{3164}`"),
            ("é", "`é`"),
            ("\"", "`\"`"),
        ] {
            let error = Scope::from(text).check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn check_follows_the_grammar_of_rfc_6749_a_4() {
        for (text, valid) in [
            ("", true),
            ("openid", true),
            ("https://api.example/.default !#[]~", true),
            ("a\"b", false),
            ("a\\b", false),
            ("a\tb", false),
            ("a\nb", false),
            ("é", false),
            ("\u{7f}", false),
        ] {
            assert_eq!(Scope::from(text).check().is_ok(), valid, "{text:?}");
        }
    }
}
