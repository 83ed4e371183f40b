//! `InvalidClientCertificate`: why a certificate or a private key cannot be used.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls_pki_types::pem;

/// The error for a certificate or a private key that a [`ClientCertificate`](super::ClientCertificate) cannot use.
///
/// `Display` names the problem, and the file if there is one. It shows nothing of the key.
#[derive(Debug)]
pub struct InvalidClientCertificate {
    file: Option<PathBuf>,
    problem: Problem,
}

#[derive(Debug)]
pub(super) enum Problem {
    Unreadable(io::Error),
    BrokenPem(&'static str),
    BrokenKeyPem(&'static str),
    NoCertificate,
    NotX509(String),
    NotYetValid(SystemTime),
    Expired(SystemTime),
    NoKey,
    EncryptedKey,
    UnusableKey(String),
    WrongKey,
}

impl InvalidClientCertificate {
    pub(super) fn unreadable(file: &Path, error: io::Error) -> Self {
        Self::from(Problem::Unreadable(error)).in_file(file)
    }

    /// Adds the name of the file with the problem.
    pub(super) fn in_files(self, certificate: &Path, key: &Path) -> Self {
        let file = match self.problem {
            Problem::NoKey
            | Problem::EncryptedKey
            | Problem::BrokenKeyPem(_)
            | Problem::UnusableKey(_) => key,
            _ => certificate,
        };
        match self.file {
            Some(_) => self,
            None => self.in_file(file),
        }
    }

    pub(super) fn in_file(self, file: &Path) -> Self {
        Self {
            file: Some(file.to_owned()),
            ..self
        }
    }
}

impl From<Problem> for InvalidClientCertificate {
    fn from(problem: Problem) -> Self {
        Self {
            file: None,
            problem,
        }
    }
}

impl Problem {
    pub(super) fn in_certificate(error: pem::Error) -> Self {
        Self::BrokenPem(why_broken(&error))
    }

    pub(super) fn in_key(error: pem::Error) -> Self {
        Self::BrokenKeyPem(why_broken(&error))
    }
}

impl fmt::Display for InvalidClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        match &self.problem {
            Problem::Unreadable(_) => f.write_str("cannot be read"),
            Problem::BrokenPem(why) => write!(f, "the PEM of the certificate is malformed: {why}"),
            Problem::BrokenKeyPem(why) => write!(f, "the PEM of the private key is malformed: {why}"),
            Problem::NoCertificate => {
                f.write_str("no certificate found: add a PEM section `CERTIFICATE`")
            }
            Problem::NotX509(why) => write!(f, "the certificate is not X.509: {why}"),
            Problem::NotYetValid(from) => write!(
                f,
                "the certificate is not valid before {}; check the clock of this machine",
                httpdate::fmt_http_date(*from)
            ),
            Problem::Expired(at) => write!(
                f,
                "the certificate expired on {}",
                httpdate::fmt_http_date(*at)
            ),
            Problem::NoKey => f.write_str(
                "no private key found: add a PEM section `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY`",
            ),
            Problem::EncryptedKey => f.write_str(
                "the private key is encrypted: decrypt it first, for example with `openssl pkey`",
            ),
            Problem::UnusableKey(why) => write!(f, "the private key cannot be used: {why}"),
            Problem::WrongKey => f.write_str(
                "the private key does not belong to the certificate: use the matching key, and put its certificate first in the chain",
            ),
        }
    }
}

impl Error for InvalidClientCertificate {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

/// Describes the error without the text of `pem::Error`.
///
/// That text quotes the malformed line, which may be the key itself.
fn why_broken(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no end; the file may be only partly written"
        }
        pem::Error::IllegalSectionStart { .. } => "the first line of a section is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be decoded",
    }
}
