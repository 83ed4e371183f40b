//! Reads and checks a certificate and its private key.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_cert::{der::Decode, spki::SubjectPublicKeyInfoRef};

use super::error::Problem;
use crate::base::{
    certificate::{Certificate, Validity},
    pem::{contains, with_plain_lines},
};

/// A certificate chain and its private key, both checked.
pub(crate) struct CertifiedKeyPair {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(super) thumbprint: String,
    pub(super) expires_at: SystemTime,
}

impl CertifiedKeyPair {
    /// Reads a chain and its private key. The first certificate of the chain is the client's own.
    pub(super) fn from_pem(chain: &[u8], key: &[u8], now: SystemTime) -> Result<Self, Problem> {
        let chain = with_plain_lines(chain);
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(Problem::in_certificate)?;
        let own = chain.first().ok_or(Problem::NoCertificate)?;
        let own =
            Certificate::from_der(own).map_err(|error| Problem::NotX509(error.to_string()))?;
        match own.validity_at(now) {
            Validity::NotYet => return Err(Problem::NotYetValid(own.valid_from)),
            Validity::Expired => return Err(Problem::Expired(own.expires_at)),
            Validity::Valid => {}
        }
        let key = signing_key(key)?;
        if !is_key_of(&*key, &own) {
            return Err(Problem::WrongKey);
        }
        Ok(Self {
            thumbprint: own.thumbprint,
            expires_at: own.expires_at,
            certified: Arc::new(CertifiedKey::new(chain, key)),
        })
    }
}

fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, Problem> {
    // PKCS #8, and OpenSSL's older format (RFC 1421 §4.6.1.1), whose headers are not base64.
    let is_encrypted = [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| contains(pem, mark));
    if is_encrypted {
        return Err(Problem::EncryptedKey);
    }
    let key = match PrivateKeyDer::pem_slice_iter(&with_plain_lines(pem)).next() {
        Some(key) => key.map_err(Problem::in_key)?,
        None => return Err(Problem::NoKey),
    };
    any_supported_type(&key).map_err(|error| Problem::UnusableKey(error.to_string()))
}

/// Whether the certificate belongs to the key.
///
/// `CertifiedKey::keys_match` is not used because it rejects certificates of version 1, which OpenSSL created by default for a long
/// time; whether to accept those is up to the server. The algorithm is not compared, because an RSA key has two algorithm names.
fn is_key_of(key: &dyn SigningKey, certificate: &Certificate) -> bool {
    let Some(public) = key.public_key() else {
        return false;
    };
    SubjectPublicKeyInfoRef::from_der(&public)
        .is_ok_and(|public| public.subject_public_key.raw_bytes() == certificate.public_key)
}
