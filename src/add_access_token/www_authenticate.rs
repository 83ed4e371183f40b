//! Parses the challenges of a `WWW-Authenticate` header.

/// A challenge of RFC 9110 §11.6.1, reduced to what concerns access tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge<'a> {
    scheme: &'a str,
    pub(super) error: Option<String>,
}

impl Challenge<'_> {
    pub(super) fn is_about_tokens(&self) -> bool {
        ["Bearer", "DPoP"]
            .iter()
            .any(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
    }
}

/// The challenges of one field: `scheme [token68 / #auth-param]`. Commas separate both challenges and parameters.
pub(super) struct Challenges<'a>(&'a str);

impl<'a> Challenges<'a> {
    pub(super) fn of(field: &'a str) -> Self {
        Self(field)
    }

    fn skip_separators(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
    }

    /// Takes a token of RFC 9110 §5.6.2 off the front. Empty if there is none.
    fn token(&mut self) -> &'a str {
        let end = self
            .0
            .find(|c: char| !is_token_char(c))
            .unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    /// Takes a parameter `name = value` off the front, if there is one.
    fn parameter(&mut self) -> Option<(&'a str, String)> {
        let mut ahead = Self(self.0);
        let name = ahead.token();
        ahead.0 = ahead.0.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        ahead.0 = ahead.0.trim_start_matches([' ', '\t']);
        if name.is_empty() {
            return None;
        }
        let value = match ahead.0.strip_prefix('"') {
            Some(quoted) => {
                ahead.0 = quoted;
                ahead.quoted()
            }
            None => {
                let value = ahead.token().to_owned();
                // A token68 with its padding looks like a parameter.
                ahead.0 = ahead.0.trim_start_matches('=');
                value
            }
        };
        self.0 = ahead.0;
        Some((name, value))
    }

    /// Takes the rest of a quoted string off the front. A string that does not end takes everything.
    fn quoted(&mut self) -> String {
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[index + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.0 = "";
        value
    }
}

impl<'a> Iterator for Challenges<'a> {
    type Item = Challenge<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_separators();
        let scheme = self.token();
        if scheme.is_empty() {
            // This is not a challenge, so the start of the next one is unknown.
            self.0 = "";
            return None;
        }
        let mut error = None;
        loop {
            self.skip_separators();
            match self.parameter() {
                Some((name, value)) if name.eq_ignore_ascii_case("error") => error = Some(value),
                Some(_) => {}
                None => break,
            }
        }
        Some(Challenge { scheme, error })
    }
}

/// A character of a token (RFC 9110 §5.6.2) or of a token68 (§11.2).
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}
