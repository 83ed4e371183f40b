//! Reads secrets from files and environment variables.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    mem,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    base::Quoted,
    error::{BoxError, OwnError},
    secret::Secret,
};

/// The maximum length of a secret in a file, in bytes.
const MAX: u64 = 1024 * 1024;

/// The error must not contain the value, so `std::env::var` is not used: its error can contain it.
pub(super) fn read_env(name: &str) -> Result<Secret, BoxError> {
    let why = match env::var_os(name).map(OsString::into_string) {
        Some(Ok(text)) => match trimmed(text) {
            Some(secret) => return Ok(secret),
            None => "is empty",
        },
        Some(Err(_)) => "is not UTF-8",
        None => "is not set",
    };
    Err(OwnError::new(format!("the environment variable `{}` {why}", Quoted(name))).into())
}

/// Reads on a thread for blocking work if there is a tokio runtime.
pub(super) async fn read_file(path: PathBuf) -> Result<Secret, BoxError> {
    let read = move || {
        read(&path).map_err(|why| {
            let path = path.display().to_string();
            BoxError::from(OwnError::new(format!(
                "cannot read the file `{}`: {why}",
                Quoted(&path)
            )))
        })
    };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return read();
    };
    let ended = |_| {
        BoxError::from(OwnError::new(
            "the runtime ended while a file was being read",
        ))
    };
    runtime.spawn_blocking(read).await.map_err(ended)?
}

fn read(path: &Path) -> Result<Secret, String> {
    let failed = |error: io::Error| error.to_string();
    let metadata = fs::metadata(path).map_err(failed)?;
    // Opening a pipe waits for a writer, and nothing can interrupt a thread that waits.
    if !metadata.is_file() {
        return Err(
            "it is not a regular file; to read a pipe or a device, use `Credential::from_fn`"
                .into(),
        );
    }
    // A buffer that grows would leave copies of the secret in memory.
    let capacity = usize::try_from(metadata.len().min(MAX)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let mut file = File::open(path).map_err(failed)?.take(MAX + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX {
        return Err("it is larger than 1 MiB".into());
    }
    let text = String::from_utf8(mem::take(&mut bytes)).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        "it is not UTF-8"
    })?;
    trimmed(text).ok_or_else(|| "it is empty".into())
}

/// Removes white space and byte order marks around a secret. Returns `None` if nothing is left.
fn trimmed(text: String) -> Option<Secret> {
    let mut text = Zeroizing::new(text);
    let is_outside = |c: char| c.is_whitespace() || c == '\u{feff}';
    let end = text.trim_end_matches(is_outside).len();
    text.truncate(end);
    let start = end - text.trim_start_matches(is_outside).len();
    text.drain(..start);
    (!text.is_empty()).then(|| Secret::new(mem::take(&mut *text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_byte_order_marks_around_a_secret_are_removed() {
        for (text, expected) in [
            ("secret", Some("secret")),
            ("secret\n", Some("secret")),
            ("secret\r\n\r\n", Some("secret")),
            ("\r\nsecret", Some("secret")),
            ("\u{feff}secret\n", Some("secret")),
            ("\u{feff}\n  \tsecret \n\t", Some("secret")),
            ("two words\nin two lines\n", Some("two words\nin two lines")),
            ("se\u{feff}cret", Some("se\u{feff}cret")),
            ("", None),
            (" \r\n\u{feff}\u{a0}", None),
        ] {
            let secret = trimmed(text.into());
            assert_eq!(secret.as_ref().map(Secret::expose), expected, "{text:?}");
        }
    }
}
