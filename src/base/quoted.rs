//! Makes text from a server or a caller safe to print.

use std::fmt::{self, Write};

/// Prints text safely: escaped, and truncated after 200 characters. `Debug` puts it in quotes.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

const MAX: usize = 200;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0, MAX, |_| false)
    }
}

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write_escaped(f, self.0, MAX, |c| matches!(c, '"' | '\\'))?;
        f.write_char('"')
    }
}

/// Prints the text of an error of other code: escaped, and truncated after 1,000 characters.
pub(crate) struct ForeignText<'a>(pub(crate) &'a str);

impl fmt::Display for ForeignText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0, 1000, |_| false)
    }
}

fn write_escaped(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    max: usize,
    is_special: fn(char) -> bool,
) -> fmt::Result {
    let mut chars = text.chars();
    for c in chars.by_ref().take(max) {
        if c.is_control() || is_hidden(c) || is_special(c) {
            write!(f, "{}", c.escape_default())?;
        } else {
            f.write_char(c)?;
        }
    }
    match chars.next() {
        Some(_) => f.write_str("..."),
        None => Ok(()),
    }
}

/// Whether a text can be printed as it is: it contains no control character and nothing invisible.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_hidden(c))
}

/// Whether a character is invisible, breaks the line or changes the direction of the text.
fn is_hidden(c: char) -> bool {
    matches!(c,
        // Spaces other than the usual one, and separators of lines and paragraphs (Zs, Zl, Zp).
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}'..='\u{2029}' | '\u{202f}'
        | '\u{205f}' | '\u{3000}'
        // Format characters (Cf), such as those that change the direction of the text.
        | '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Variation selectors, fillers, and others without a glyph.
        | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}'
        // Private use and noncharacters; tags and more variation selectors, which fill plane 14.
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fffe}'..='\u{ffff}'
        | '\u{e0000}'..='\u{10ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        for c in [
            '\u{0}',
            '\u{7}',
            '\u{a}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{6dd}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{2003}',
            '\u{200b}',
            '\u{200d}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2069}',
            '\u{206a}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{10fffd}',
        ] {
            for shown in [
                Quoted(&format!("a{c}b")).to_string(),
                ForeignText(&format!("a{c}b")).to_string(),
            ] {
                assert!(shown.is_ascii() && !shown.contains(c), "{shown}");
                assert!(shown.starts_with("a\\") && shown.ends_with('b'), "{shown}");
            }
            let shown = format!("{:?}", Quoted(&format!("a{c}b")));
            assert!(
                shown.starts_with("\"a\\") && shown.ends_with("b\""),
                "{shown}"
            );
        }
    }

    #[test]
    fn space_is_the_only_white_space_that_is_printed_as_it_is() {
        let printed = ('\0'..=char::MAX).filter(|c| c.is_whitespace() || c.is_control());
        let printed = printed.filter(|c| Quoted(&c.to_string()).to_string() == c.to_string());
        assert_eq!(printed.collect::<String>(), " ");
    }

    #[test]
    fn ordinary_text_is_printed_as_it_is() {
        let text = "né \"b\" e\u{301} हिन्दी 日本語 🔑";
        assert_eq!(Quoted(text).to_string(), text);
        assert_eq!(format!("{:?}", Quoted("a\"b\\c")), r#""a\"b\\c""#);
    }

    #[test]
    fn text_is_printable_if_nothing_of_it_is_escaped() {
        for c in '\0'..=char::MAX {
            let text = format!("a{c}b");
            assert_eq!(is_printable(&text), Quoted(&text).to_string() == text);
        }
    }

    #[test]
    fn long_text_is_cut() {
        let text = "x".repeat(2000);
        assert_eq!(Quoted(&text).to_string(), format!("{}...", &text[..200]));
        assert_eq!(Quoted(&text[..200]).to_string(), &text[..200]);
        assert_eq!(
            format!("{:?}", Quoted(&text)),
            format!("\"{}...\"", &text[..200])
        );
        assert_eq!(
            ForeignText(&text).to_string(),
            format!("{}...", &text[..1000])
        );
    }
}
