//! Why a certificate and a key cannot be used.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls_pki_types::pem;

/// A certificate or a private key that a [`ClientCertificate`](super::ClientCertificate) cannot be made of.
///
/// Its `Display` names the problem, and the file if there is one. Nothing of the key is in it.
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

    /// Names the file with the certificate, or that with the key.
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
            Problem::BrokenPem(why) => write!(f, "the PEM of the certificate is broken: {why}"),
            Problem::BrokenKeyPem(why) => write!(f, "the PEM of the private key is broken: {why}"),
            Problem::NoCertificate => {
                f.write_str("no certificate in it: a PEM section `CERTIFICATE` is needed")
            }
            Problem::NotX509(why) => write!(f, "the certificate is not X.509: {why}"),
            Problem::NotYetValid(from) => write!(
                f,
                "the certificate is not valid before {}",
                httpdate::fmt_http_date(*from)
            ),
            Problem::Expired(at) => write!(
                f,
                "the certificate expired on {}",
                httpdate::fmt_http_date(*at)
            ),
            Problem::NoKey => f.write_str(
                "no private key in it: a PEM section `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY` is needed",
            ),
            Problem::EncryptedKey => f.write_str(
                "the private key is encrypted: decrypt it first, with `openssl pkey` for example",
            ),
            Problem::UnusableKey(why) => write!(f, "the private key cannot be used: {why}"),
            Problem::WrongKey => f.write_str(
                "the private key is not that of the certificate, which must be the first one of its chain",
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

/// The words of `pem::Error` are not used: they quote the line that is broken, which is the key itself when its line breaks were lost.
fn why_broken(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no end; is it written only by half, or were its line breaks lost?"
        }
        pem::Error::IllegalSectionStart { .. } => "a line that begins a section is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be decoded",
    }
}
