//! Reads the private key or the certificate from PEM.

use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::{InvalidKey, key_problem::RSA_PSS};
use crate::base::pem::{contains, with_plain_lines};

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

/// Returns the DER of each certificate in the PEM, of which there is at least one. In a chain, the first is that of the key.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, InvalidKey> {
    let mut certificates = Vec::new();
    for section in sections(pem) {
        match section {
            Some((SectionKind::Certificate, der)) => certificates.push(der.to_vec()),
            Some(_) => {}
            None => return Err(InvalidKey::new(NO_CERTIFICATE)),
        }
    }
    match certificates.is_empty() {
        false => Ok(certificates),
        true => Err(InvalidKey::new(NO_CERTIFICATE)),
    }
}

const NO_CERTIFICATE: &str = "the PEM of the certificate is malformed or contains no certificate; \
     pass the text from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`";

pub(super) fn is_pem(text: &[u8]) -> bool {
    contains(text, "-----BEGIN ")
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
