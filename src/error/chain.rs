//! The chain of an error's sources, and how it is printed.

use std::{borrow::Cow, error::Error, fmt, io, iter, sync::Arc};

use super::{BoxError, TokenError};
use crate::base::ForeignText;

/// An error of this crate, in place of a secret or a signature. Its text is safe to print.
#[derive(Debug)]
pub(crate) struct OwnError(Cow<'static, str>);

impl OwnError {
    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for OwnError {}

/// Wraps the error of a caller's provider or signer, which may contain the secret. This crate prints nothing below it.
///
/// The kind of the [`TokenError`] above it is not enough to find it: a transparent error, such as many of the crate `thiserror`,
/// leaves itself and the `TokenError` out of the chain.
pub(super) struct ProviderError(pub(super) BoxError);

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the provider or signer returned an error")
    }
}

impl fmt::Debug for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderError([redacted])")
    }
}

impl Error for ProviderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Iterates over the error and its sources.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| {
        wrapped(error).or_else(|| error.source())
    })
}

/// Returns the error in one that is transparent: its `source` is the source of what it wraps, and skips that.
///
/// So are `io::Error`, an error that is shared or boxed with its type, and the error of reqwest-middleware. Others cannot be looked into.
fn wrapped<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().map(|error| error as _);
    }
    if let Some(error) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return Some(&**error);
    }
    if let Some(error) = error.downcast_ref::<Arc<TokenError>>() {
        return Some(&**error);
    }
    #[cfg(feature = "reqwest-middleware")]
    if let Some(error) = error.downcast_ref() {
        return Some(match error {
            reqwest_middleware::Error::Middleware(error) => error.as_ref(),
            reqwest_middleware::Error::Reqwest(error) => error,
        });
    }
    let boxed = error.downcast_ref::<Box<TokenError>>();
    boxed.map(|error| &**error as _)
}

/// Prints an error and its sources on one line, up to the error of a caller's provider or signer.
///
/// The sources tell whether the name, the connection or TLS failed.
pub(crate) struct PrintableChain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for PrintableChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// An error may wrap others without end.
        const MAX: usize = 16;
        let mut last = String::new();
        for (index, error) in chain(self.0).take(MAX).enumerate() {
            let text = match error.is::<TokenError>() {
                true => error.to_string(),
                false => ForeignText(&error.to_string()).to_string(),
            };
            // Many errors print what they wrap, `io::Error` among them.
            let is_repeated = index > 0 && repeats(&last, &text);
            if !is_repeated {
                let separator = if index == 0 { "" } else { ": " };
                write!(f, "{separator}{text}")?;
                last = text;
            }
            if error.is::<ProviderError>() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether the text of an error ends with that of its source.
fn repeats(text: &str, source: &str) -> bool {
    text.strip_suffix(source)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with(": "))
}

impl fmt::Debug for PrintableChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
