//! The challenges in a `WWW-Authenticate` or `Proxy-Authenticate` header, with their parameters.

use std::borrow::Cow;

use super::super::www_authenticate::{Item, Items};

/// A scheme and its parameters (RFC 9110 §11.6.1).
#[derive(Debug)]
pub(crate) struct Challenge<'a> {
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Challenge<'a> {
    /// Returns the challenges in a field, however broken its syntax is.
    pub(crate) fn all_of(field: &'a str) -> Vec<Self> {
        let mut challenges = Vec::<Self>::new();
        for item in Items::of(field) {
            match (item, challenges.last_mut()) {
                (Item::Parameter(name, value), Some(last)) => last.parameters.push((name, value)),
                (Item::Parameter(name, value), None) => challenges.push(Self {
                    parameters: vec![(name, value)],
                }),
                (Item::Word(_), _) => challenges.push(Self {
                    parameters: Vec::new(),
                }),
                (Item::Quoted(_), _) => {}
            }
        }
        challenges
    }

    /// Returns the first value of a parameter, without the escapes of a quoted string.
    pub(crate) fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut parameters = self.parameters.iter();
        let (_, value) = parameters.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(unescaped(value))
    }
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return value.into();
    }
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => chars.next().unwrap_or(c),
            _ => c,
        });
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_its_own_parameters() {
        for (field, expected) in [
            ("", &[][..]),
            ("Bearer", &[None]),
            ("Bearer scope=\"a b\"", &[Some("a b")]),
            ("Bearer realm=x, SCOPE = a", &[Some("a")]),
            (
                "Bearer scope='a', DPoP scope=\"b\"",
                &[Some("a"), Some("b")],
            ),
            ("Bearer scope=\"a\", scope=\"b\"", &[Some("a")]),
            ("scope=a", &[Some("a")]),
            ("Negotiate YII+a==, Bearer scope=a", &[None, Some("a")]),
            (
                "Bearer realm=\"scope=b\", scope=\"a\\\"\\\\b\"",
                &[Some("a\"\\b")],
            ),
            ("Bearer scope=\"a", &[Some("a")]),
            ("Bearer scope=\"a\\", &[Some("a\\")]),
        ] {
            let challenges = Challenge::all_of(field);
            let found: Vec<_> = challenges.iter().map(|it| it.get("scope")).collect();
            let found: Vec<_> = found.iter().map(Option::as_deref).collect();
            assert_eq!(found, expected, "{field}");
        }
    }
}
