//! The private key or the certificate in a PEM text.

use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::InvalidKey;

/// The DER of the one private key in a PEM text; certificates beside it are passed over.
pub(super) fn private_key(pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
    let mut found = None;
    // The errors of the parser quote lines of the text, so they go no further.
    for section in sections(pem) {
        let (kind, der) = section.ok_or_else(|| why_no_private_key(pem))?;
        let is_private_key = matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
        );
        if is_private_key && found.replace(der).is_some() {
            return Err(InvalidKey::new(
                "the PEM holds more than one private key; give the one to sign with",
            ));
        }
    }
    found.ok_or_else(|| why_no_private_key(pem))
}

/// The DER of the first certificate in a PEM text, which is that of the key where a chain is given.
pub(super) fn first_certificate(pem: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    for section in sections(pem) {
        match section {
            Some((SectionKind::Certificate, der)) => return Ok(der.to_vec()),
            Some(_) => {}
            None => break,
        }
    }
    Err(InvalidKey::new(
        "the PEM of the certificate is broken or holds no certificate; \
         give the text from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`, with its line breaks",
    ))
}

pub(super) fn is_pem(text: &[u8]) -> bool {
    contains(text, "-----BEGIN ")
}

/// The sections that a PEM parser knows; `None` where the text is broken.
fn sections(pem: &[u8]) -> impl Iterator<Item = Option<(SectionKind, Zeroizing<Vec<u8>>)>> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .map(|section| section.ok().map(|(kind, der)| (kind, Zeroizing::new(der))))
}

fn why_no_private_key(pem: &[u8]) -> InvalidKey {
    InvalidKey::new(if !is_pem(pem) {
        "there is no PEM in the text; give what is in the file, not its name, or use `from_der` or `from_jwk`"
    } else if contains(pem, "BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, "4,ENCRYPTED") {
        "the private key is encrypted; decrypt it first, for example with `openssl pkey -in FILE -out FILE`"
    } else if contains(pem, "OPENSSH PRIVATE KEY") {
        "the private key has the format of OpenSSH; convert it with `ssh-keygen -p -m PKCS8 -f FILE`"
    } else if contains(pem, "\\n") {
        "the PEM is broken: it holds a backslash and an n where line breaks should be"
    } else if contains(pem, "PRIVATE KEY-----") {
        "the PEM of the private key is broken or of an unknown kind; \
         give the text from `-----BEGIN PRIVATE KEY-----` to `-----END PRIVATE KEY-----`, with its line breaks"
    } else if contains(pem, "BEGIN CERTIFICATE-----") {
        "the PEM is a certificate; give the private key that belongs to it"
    } else if contains(pem, "PUBLIC KEY-----") {
        "the PEM is a public key; give the private key that belongs to it"
    } else {
        "the PEM holds no private key"
    })
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|found| found == part.as_bytes())
}
