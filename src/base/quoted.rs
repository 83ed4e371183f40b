//! Makes text from a server safe to print.

use std::fmt;

/// Displays text from a server safely: escaped, and truncated after 200 characters.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 200;
        for c in self.0.chars().take(MAX) {
            if c.is_control() || is_invisible(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        match self.0.chars().nth(MAX) {
            Some(_) => f.write_str("..."),
            None => Ok(()),
        }
    }
}

/// Whether a character changes the text direction, breaks the line or is invisible.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        for c in [
            '\u{7}', '\u{9b}', '\u{61c}', '\u{200b}', '\u{200d}', '\u{200f}', '\u{2028}',
            '\u{202e}', '\u{2069}', '\u{feff}',
        ] {
            let shown = Quoted(&format!("a{c}b")).to_string();
            assert!(
                shown.starts_with("a\\u{") && shown.ends_with("}b"),
                "{shown}"
            );
        }
        assert_eq!(Quoted("né \"b\"").to_string(), "né \"b\"");
    }
}
