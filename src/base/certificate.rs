//! Reads the key, validity period and thumbprint of an X.509 certificate (RFC 5280).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use x509_cert::der::{self, Decode};

/// The properties of a certificate that matter to the owner of its key.
pub(crate) struct Certificate {
    /// The content of `subjectPublicKey`.
    pub(crate) public_key: Vec<u8>,
    pub(crate) valid_from: SystemTime,
    /// The last second of the validity period.
    pub(crate) expires_at: SystemTime,
    /// `x5t#S256`: the SHA-256 digest of the certificate, base64url (RFC 7515 §4.1.8, RFC 8705 §3.1).
    pub(crate) thumbprint: String,
}

/// Whether a certificate is valid at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    NotYet,
    Valid,
    Expired,
}

impl Certificate {
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, der::Error> {
        let certificate = x509_cert::Certificate::from_der(der)?;
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let public_key = &certificate.subject_public_key_info().subject_public_key;
        Ok(Self {
            public_key: public_key.raw_bytes().to_vec(),
            valid_from: UNIX_EPOCH + validity.not_before.to_unix_duration(),
            expires_at: UNIX_EPOCH + validity.not_after.to_unix_duration(),
            thumbprint: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, der)),
        })
    }

    /// Checks the validity period, which includes its last second (RFC 5280 §4.1.2.5).
    pub(crate) fn validity_at(&self, now: SystemTime) -> Validity {
        if now < self.valid_from {
            Validity::NotYet
        } else if now < self.expires_at + Duration::from_secs(1) {
            Validity::Valid
        } else {
            Validity::Expired
        }
    }
}
