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
    let text = decoded(mem::take(&mut bytes)).ok_or("it is not UTF-8")?;
    trimmed(text).ok_or_else(|| "it is empty".into())
}

/// Reads UTF-8, or UTF-16 with a byte order mark, which the redirection `>` of Windows PowerShell writes.
fn decoded(bytes: Vec<u8>) -> Option<String> {
    let bytes = Zeroizing::new(bytes);
    let unit: fn([u8; 2]) -> u16 = match bytes.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => return std::str::from_utf8(&bytes).ok().map(ToOwned::to_owned),
    };
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let units = pairs.map(|pair| unit([pair[0], pair[1]]));
    // A string that grows would leave copies of the secret in memory. A unit takes up to three bytes in UTF-8.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() / 2 * 3));
    for c in char::decode_utf16(units) {
        text.push(c.ok()?);
    }
    Some(mem::take(&mut *text))
}

/// Removes white space (as Unicode defines it) and byte order marks around a secret. Returns `None` if nothing is left.
///
/// Editors, shells and templates add them: a final line break of LF or CRLF, indentation, a mark. None of them is part of a secret that a
/// server issues. What stands between other characters stays, since a passphrase may contain spaces.
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
            ("\tsecret\r", Some("secret")),
            ("\r\n    secret\r\n  ", Some("secret")),
            ("secret\u{feff}\n", Some("secret")),
            ("\u{feff}\u{feff}secret", Some("secret")),
            ("\u{2028}secret\u{3000}", Some("secret")),
            ("  inner  spaces\tstay ", Some("inner  spaces\tstay")),
            ("\"quoted\"\n", Some("\"quoted\"")),
            ("two words\nin two lines\n", Some("two words\nin two lines")),
            ("se\u{feff}cret", Some("se\u{feff}cret")),
            ("", None),
            (" \r\n\u{feff}\u{a0}", None),
        ] {
            let secret = trimmed(text.into());
            assert_eq!(secret.as_ref().map(Secret::expose), expected, "{text:?}");
        }
    }

    #[test]
    fn utf_16_is_read_if_a_byte_order_mark_says_so() {
        let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for text in ["secret", "se cret", "pässword", "🔑"] {
            let marked = format!("\u{feff}{text}\r\n");
            let encodings: [Vec<u8>; 3] = [little(&marked), big(&marked), marked.clone().into()];
            for bytes in encodings {
                let secret = decoded(bytes).and_then(trimmed).unwrap();
                assert_eq!(secret.expose(), text);
            }
        }
        for broken in [
            &b"\xff\xfes"[..],
            b"\xff\xfe\x00\xd8",
            b"\xffsecret",
            b"\xe4",
        ] {
            assert_eq!(decoded(broken.to_vec()), None);
        }
    }
}
