//! Reads the private key or the certificate from PEM.

use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::{InvalidKey, key_problem::RSA_PSS};

/// Returns the DER of the only private key in the PEM. Certificates are ignored.
pub(super) fn private_key(pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
    let mut found = None;
    // The parser's errors quote lines of the text, so they are not passed on.
    for section in sections(pem) {
        let (kind, der) = section.ok_or_else(|| why_no_private_key(pem))?;
        let is_private_key = matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
        );
        if is_private_key && found.replace(der).is_some() {
            return Err(InvalidKey::new(
                "the PEM contains more than one private key; pass only the key to sign with",
            ));
        }
    }
    found.ok_or_else(|| why_no_private_key(pem))
}

/// Returns the DER of the first certificate in the PEM. In a chain, that is the certificate of the key.
pub(super) fn first_certificate(pem: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    for section in sections(pem) {
        match section {
            Some((SectionKind::Certificate, der)) => return Ok(der.to_vec()),
            Some(_) => {}
            None => break,
        }
    }
    Err(InvalidKey::new(
        "the PEM of the certificate is malformed or contains no certificate; \
         pass the text from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`",
    ))
}

pub(super) fn is_pem(text: &[u8]) -> bool {
    contains(text, BEGIN)
}

type Section = (SectionKind, Zeroizing<Vec<u8>>);

/// Returns the sections of a known kind, up to the first that is malformed: that one is `None`.
fn sections(pem: &[u8]) -> Vec<Option<Section>> {
    let mut sections = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&with_plain_lines(pem)) {
        let section = section.ok().map(|(kind, der)| (kind, Zeroizing::new(der)));
        let is_malformed = section.is_none();
        sections.push(section);
        if is_malformed {
            break;
        }
    }
    sections
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// Rewrites each section as three lines: its first line, its base64, its last line. Text outside of sections is dropped.
///
/// Editors, YAML, shells and environment variables change the line breaks and the indentation of a PEM. Neither white space nor a
/// backslash belongs to base64, so what was meant is never in doubt. A section with headers stays as it is.
fn with_plain_lines(text: &[u8]) -> Zeroizing<Vec<u8>> {
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

fn why_no_private_key(pem: &[u8]) -> InvalidKey {
    InvalidKey::new(
        if pem.starts_with(b"\xff\xfe") || pem.starts_with(b"\xfe\xff") {
            "the text is UTF-16, not PEM; save it as UTF-8 or ASCII"
        } else if !is_pem(pem) {
            "the text contains no PEM; pass the content of the file, not its name, or use `from_der` or `from_jwk`"
        } else if contains(pem, "BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, "4,ENCRYPTED") {
            "the private key is encrypted; decrypt it first, for example with `openssl pkey -in FILE -out FILE`"
        } else if contains(pem, "OPENSSH PRIVATE KEY") {
            "the private key is in the OpenSSH format; convert it with `ssh-keygen -p -m PKCS8 -f FILE`"
        } else if contains(pem, "RSA-PSS PRIVATE KEY") {
            RSA_PSS
        } else if contains(pem, "PRIVATE KEY-----") {
            "the PEM of the private key is malformed or of an unknown kind; \
         pass the text from `-----BEGIN PRIVATE KEY-----` to `-----END PRIVATE KEY-----`"
        } else if contains(pem, "BEGIN CERTIFICATE-----") {
            "the PEM is a certificate; pass the private key that belongs to it"
        } else if contains(pem, "PUBLIC KEY-----") {
            "the PEM is a public key; pass the private key that belongs to it"
        } else {
            "the PEM contains no private key"
        },
    )
}

fn contains(text: &[u8], part: &str) -> bool {
    find(text, part).is_some()
}

fn find(text: &[u8], part: &str) -> Option<usize> {
    let mut windows = text.windows(part.len());
    windows.position(|found| found == part.as_bytes())
}
