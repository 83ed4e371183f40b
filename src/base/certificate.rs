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

/// How far the clock of a CA may be ahead of this machine's: the certificate that it has just issued is not valid yet here.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

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
    ///
    /// A certificate that becomes valid within the next minute counts as valid. Whether to accept it is up to the server.
    pub(crate) fn validity_at(&self, now: SystemTime) -> Validity {
        if now + CLOCK_SKEW < self.valid_from {
            Validity::NotYet
        } else if now < self.expires_at + Duration::from_secs(1) {
            Validity::Valid
        } else {
            Validity::Expired
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_valid_from_a_minute_before_its_period_to_its_last_second() {
        let start = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let certificate = Certificate {
            public_key: Vec::new(),
            valid_from: start,
            expires_at: start + Duration::from_secs(100),
            thumbprint: String::new(),
        };
        for (seconds, expected) in [
            (-61, Validity::NotYet),
            (-60, Validity::Valid),
            (-1, Validity::Valid),
            (0, Validity::Valid),
            (100, Validity::Valid),
            (101, Validity::Expired),
        ] {
            let now = 1_000_000_u64.checked_add_signed(seconds).unwrap();
            let now = UNIX_EPOCH + Duration::from_secs(now);
            assert_eq!(certificate.validity_at(now), expected, "{seconds}");
        }
    }
}
