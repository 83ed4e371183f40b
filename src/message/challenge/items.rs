//! Splits a `WWW-Authenticate` or `Proxy-Authenticate` field into its parts, however broken its syntax is (RFC 9110 §11.6.1).

/// A part of a field. The text of a quoted string still has its escapes.
pub(crate) enum Item<'a> {
    /// A scheme, a token68, or a word in broken syntax.
    Word(&'a str),
    /// A quoted string that belongs to no parameter.
    Quoted(&'a str),
    Parameter(&'a str, &'a str),
}

/// The parts of a field.
pub(crate) struct Items<'a>(&'a str);

impl<'a> Items<'a> {
    pub(crate) fn of(field: &'a str) -> Self {
        Self(field)
    }

    /// Takes a token68 that stands alone after a scheme off the front (RFC 9110 §11.2): all that the challenge contains.
    pub(super) fn token68(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches(WHITE_SPACE);
        if text.len() == self.0.len() {
            return None;
        }
        let is_part = |c| is_word_char(c) && !"!#$%&*^`|".contains(c);
        let word = text.find(|c| !is_part(c)).unwrap_or(text.len());
        let padding = text[word..].find(|c| c != '=').unwrap_or(text.len() - word);
        let (token68, rest) = text.split_at(word + padding);
        let is_alone = rest
            .trim_start_matches(WHITE_SPACE)
            .chars()
            .next()
            .is_none_or(|next| next == ',');
        if word == 0 || !is_alone {
            return None;
        }
        self.0 = rest;
        Some(token68)
    }

    /// Takes a token of RFC 9110 §5.6.2, or a token68 of §11.2, off the front. Empty if there is none.
    fn word(&mut self) -> &'a str {
        let end = self.0.find(|c| !is_word_char(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    /// Takes the rest of a quoted string off the front. A string that does not end takes everything.
    fn quoted(&mut self, quote: char) -> &'a str {
        let text = self.0;
        let mut chars = text.char_indices();
        while let Some((index, c)) = chars.next() {
            if c == quote {
                self.0 = &text[index + c.len_utf8()..];
                return &text[..index];
            }
            if c == '\\' {
                chars.next();
            }
        }
        self.0 = "";
        text
    }

    /// Takes a value off the front: a quoted string, or a word.
    fn value(&mut self) -> &'a str {
        for quote in ['"', '\''] {
            if let Some(quoted) = self.0.strip_prefix(quote) {
                self.0 = quoted;
                return self.quoted(quote);
            }
        }
        self.word()
    }

    /// Takes `=` off the front, with the white space around it.
    fn equals_sign(&mut self) -> bool {
        match self.0.trim_start_matches(WHITE_SPACE).strip_prefix('=') {
            Some(rest) => {
                self.0 = rest.trim_start_matches(WHITE_SPACE);
                true
            }
            None => false,
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let is_start = |c| is_word_char(c) || c == '"' || c == '\'';
        let start = self.0.find(is_start)?;
        self.0 = &self.0[start..];
        if self.0.starts_with(['"', '\'']) {
            return Some(Item::Quoted(self.value()));
        }
        let word = self.word();
        Some(match self.equals_sign() {
            true => Item::Parameter(word, self.value()),
            false => Item::Word(word),
        })
    }
}

const WHITE_SPACE: [char; 2] = [' ', '\t'];

/// The first word of a text.
pub(crate) fn code(text: &str) -> &str {
    let text = text.trim_start_matches(|c| !is_word_char(c));
    let end = text.find(|c| !is_word_char(c)).unwrap_or(text.len());
    &text[..end]
}

/// A character of a token (RFC 9110 §5.6.2) or of a token68 (§11.2). The apostrophe is missing, because some servers quote with it.
fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&*+-.^_`|~/".contains(c)
}
