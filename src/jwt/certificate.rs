//! The certificate of a key, as far as a client assertion is concerned.

use std::time::UNIX_EPOCH;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use x509_cert::{Certificate, der::Decode};

use super::{InvalidKey, pem};
use crate::clock;

/// The SHA-256 thumbprint of a certificate that is valid now and whose public key is `public_key`, the content of its
/// `subjectPublicKey` ([RFC 7515 §4.1.8](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.8)).
pub(super) fn thumbprint(pem_or_der: &[u8], public_key: &[u8]) -> Result<String, InvalidKey> {
    if pem::is_pem(pem_or_der) {
        return thumbprint(&pem::first_certificate(pem_or_der)?, public_key);
    }
    let der = pem_or_der;
    let certificate = Certificate::from_der(der).map_err(|_| {
        InvalidKey::new("the certificate is not an X.509 certificate in PEM or DER (RFC 5280)")
    })?;
    let certificate = certificate.tbs_certificate();
    let certified = &certificate.subject_public_key_info().subject_public_key;
    if certified.raw_bytes() != public_key {
        return Err(InvalidKey::new(
            "the certificate is that of another key; where there is a chain, that of the key comes first",
        ));
    }
    let now = clock::wall_now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let validity = certificate.validity();
    if now < validity.not_before.to_unix_duration() {
        return Err(InvalidKey::new(format!(
            "the certificate is not valid before {}; look at the clock of this host, or give a valid one",
            validity.not_before
        )));
    }
    // RFC 5280 §4.1.2.5: the period includes its last second.
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(InvalidKey::new(format!(
            "the certificate has expired at {}; give the one that follows it",
            validity.not_after
        )));
    }
    Ok(BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, der)))
}
