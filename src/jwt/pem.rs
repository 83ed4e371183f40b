//! Reads the private key or the certificate from PEM.

use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::InvalidKey;

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
         pass the text from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`, with its line breaks",
    ))
}

pub(super) fn is_pem(text: &[u8]) -> bool {
    contains(text, "-----BEGIN ")
}

/// Iterates over the sections of a known kind. An item is `None` where the PEM is malformed.
fn sections(pem: &[u8]) -> impl Iterator<Item = Option<(SectionKind, Zeroizing<Vec<u8>>)>> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .map(|section| section.ok().map(|(kind, der)| (kind, Zeroizing::new(der))))
}

fn why_no_private_key(pem: &[u8]) -> InvalidKey {
    InvalidKey::new(if !is_pem(pem) {
        "the text contains no PEM; pass the content of the file, not its name, or use `from_der` or `from_jwk`"
    } else if contains(pem, "BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, "4,ENCRYPTED") {
        "the private key is encrypted; decrypt it first, for example with `openssl pkey -in FILE -out FILE`"
    } else if contains(pem, "OPENSSH PRIVATE KEY") {
        "the private key is in the OpenSSH format; convert it with `ssh-keygen -p -m PKCS8 -f FILE`"
    } else if contains(pem, "\\n") {
        "the PEM is malformed: it contains the characters `\\n` instead of line breaks; replace them"
    } else if contains(pem, "PRIVATE KEY-----") {
        "the PEM of the private key is malformed or of an unknown kind; \
         pass the text from `-----BEGIN PRIVATE KEY-----` to `-----END PRIVATE KEY-----`, with its line breaks"
    } else if contains(pem, "BEGIN CERTIFICATE-----") {
        "the PEM is a certificate; pass the private key that belongs to it"
    } else if contains(pem, "PUBLIC KEY-----") {
        "the PEM is a public key; pass the private key that belongs to it"
    } else {
        "the PEM contains no private key"
    })
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|found| found == part.as_bytes())
}
