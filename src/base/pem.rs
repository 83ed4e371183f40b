//! PEM (RFC 7468) as it comes out of editors, YAML, shells and environment variables.

use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// Rewrites each section as three lines: its first line, its base64, its last line. Text outside of sections is dropped.
///
/// Editors, YAML, shells and environment variables change the line breaks and the indentation of a PEM. Neither white space nor a
/// backslash belongs to base64, so what was meant is never in doubt. A section with headers stays as it is.
pub(crate) fn with_plain_lines(text: &[u8]) -> Zeroizing<Vec<u8>> {
    // Each section is longer than 30 bytes and grows by up to 3. A buffer that grows would leave copies of the key in memory.
    let mut lines = Zeroizing::new(Vec::with_capacity(text.len() + text.len() / 8 + 16));
    let mut rest = text;
    while let Some(start) = find(rest, BEGIN) {
        rest = &rest[start..];
        let Some((label, body, after)) = split_section(rest) else {
            lines.extend_from_slice(rest);
            break;
        };
        match body.contains(&b':') {
            true => lines.extend_from_slice(&rest[..rest.len() - after.len()]),
            false => {
                lines.extend_from_slice(&rest[..BEGIN.len() + label.len() + DASHES.len()]);
                lines.push(b'\n');
                push_base64(body, &mut lines);
                lines.extend_from_slice(b"\n-----END ");
                lines.extend_from_slice(label);
                lines.extend_from_slice(DASHES.as_bytes());
            }
        }
        lines.push(b'\n');
        rest = after;
    }
    lines
}

/// Splits text that starts with [`BEGIN`] into the label and the body of its section, and what follows the section.
fn split_section(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let text = &text[BEGIN.len()..];
    let (label, text) = text.split_at(find(text, DASHES)?);
    let is_label = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b' ' || *byte == b'-';
    let text = &text[DASHES.len()..];
    let (body, text) = text.split_at(find(text, DASHES)?);
    let after = text
        .strip_prefix(b"-----END ")?
        .strip_prefix(label)?
        .strip_prefix(DASHES.as_bytes())?;
    label.iter().all(is_label).then_some((label, body, after))
}

/// Appends `body` without white space, and without line breaks that are written as `\n` or `\r`.
fn push_base64(mut body: &[u8], base64: &mut Vec<u8>) {
    while let Some((first, rest)) = body.split_first() {
        let backslashes = body.iter().take_while(|byte| **byte == b'\\').count();
        if backslashes > 0 {
            let (escape, rest) = body.split_at(backslashes);
            body = match rest.split_first() {
                Some((b'n' | b'r', rest)) => rest,
                _ => {
                    base64.extend_from_slice(escape);
                    rest
                }
            };
            continue;
        }
        if !first.is_ascii_whitespace() {
            base64.push(*first);
        }
        body = rest;
    }
}

pub(crate) fn contains(text: &[u8], part: &str) -> bool {
    find(text, part).is_some()
}

fn find(text: &[u8], part: &str) -> Option<usize> {
    let mut windows = text.windows(part.len());
    windows.position(|found| found == part.as_bytes())
}
