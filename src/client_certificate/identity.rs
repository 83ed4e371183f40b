//! A certificate with its key, checked.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{
    prelude::{ASN1Time, FromDer, X509Certificate},
    x509::SubjectPublicKeyInfo,
};

use super::error::Problem;

pub(crate) struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(super) thumbprint: String,
    pub(super) expires_at: SystemTime,
}

impl Identity {
    /// Reads a chain, whose first certificate is the client's own, and its key.
    pub(super) fn from_pem(chain: &[u8], key: &[u8], now: SystemTime) -> Result<Self, Problem> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(Problem::in_certificate)?;
        let own = chain.first().ok_or(Problem::NoCertificate)?;
        let certificate = parse(own)?;
        let validity = certificate.validity();
        let (valid_from, expires_at) = (time(validity.not_before), time(validity.not_after));
        if now < valid_from {
            return Err(Problem::NotYetValid(valid_from));
        }
        if now > expires_at {
            return Err(Problem::Expired(expires_at));
        }
        let key = signing_key(key)?;
        if !is_key_of(&*key, certificate.public_key()) {
            return Err(Problem::WrongKey);
        }
        Ok(Self {
            thumbprint: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, own)),
            expires_at,
            certified: Arc::new(CertifiedKey::new(chain, key)),
        })
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Problem> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Problem::NotX509("something follows after it".into())),
        Err(error) => Err(Problem::NotX509(error.to_string())),
    }
}

fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, Problem> {
    // PKCS #8, and the form that OpenSSL had before (RFC 1421 §4.6.1.1), whose headers are not base64.
    let is_encrypted = [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| pem.windows(mark.len()).any(|text| text == mark.as_bytes()));
    if is_encrypted {
        return Err(Problem::EncryptedKey);
    }
    let key = match PrivateKeyDer::pem_slice_iter(pem).next() {
        Some(key) => key.map_err(Problem::in_key)?,
        None => return Err(Problem::NoKey),
    };
    any_supported_type(&key).map_err(|error| Problem::UnusableKey(error.to_string()))
}

/// Not `CertifiedKey::keys_match`, which knows no certificates of version 1, as OpenSSL long made them by default; a server decides
/// about those. The algorithm is not compared, since there are two names for the same RSA key.
fn is_key_of(key: &dyn SigningKey, certified: &SubjectPublicKeyInfo<'_>) -> bool {
    let Some(public) = key.public_key() else {
        return false;
    };
    SubjectPublicKeyInfo::from_der(&public)
        .is_ok_and(|(_, public)| public.subject_public_key == certified.subject_public_key)
}

/// What is before 1970 is long over, and that is all that matters.
fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}
