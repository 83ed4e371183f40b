//! The certificate of a key, as far as a client assertion is concerned.

use std::time::SystemTime;

use super::{InvalidKey, pem};
use crate::base::{
    certificate::{Certificate, Validity},
    clock,
};

/// The SHA-256 thumbprint of a certificate that is valid now and whose public key is `public_key`, the content of its
/// `subjectPublicKey` ([RFC 7515 §4.1.8](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.8)).
pub(super) fn thumbprint(pem_or_der: &[u8], public_key: &[u8]) -> Result<String, InvalidKey> {
    if pem::is_pem(pem_or_der) {
        return thumbprint(&pem::first_certificate(pem_or_der)?, public_key);
    }
    let certificate = Certificate::from_der(pem_or_der).map_err(|_| {
        InvalidKey::new("the certificate is not an X.509 certificate in PEM or DER (RFC 5280)")
    })?;
    if certificate.public_key != public_key {
        return Err(InvalidKey::new(
            "the certificate is that of another key; where there is a chain, that of the key comes first",
        ));
    }
    match certificate.at(clock::wall_now()) {
        Validity::Valid => Ok(certificate.thumbprint),
        Validity::NotYet => Err(InvalidKey::new(format!(
            "the certificate is not valid before {}; look at the clock of this host, or give a valid one",
            date(certificate.valid_from)
        ))),
        Validity::Over => Err(InvalidKey::new(format!(
            "the certificate has expired on {}; give the one that follows it",
            date(certificate.expires_at)
        ))),
    }
}

fn date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}
