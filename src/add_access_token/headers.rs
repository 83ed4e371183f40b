//! Looks up headers that most messages do not have.

use http::{HeaderMap, HeaderName};

/// Up to this number of headers, comparing all names costs less than hashing the one that is looked up.
const FEW: usize = 16;

/// Like `HeaderMap::contains_key`.
#[inline]
pub(super) fn contains(headers: &HeaderMap, name: &HeaderName) -> bool {
    if headers.keys_len() <= FEW {
        headers.keys().any(|key| key == name)
    } else {
        headers.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::AUTHORIZATION};

    use super::*;

    #[test]
    fn contains_finds_a_header_among_few_and_among_many() {
        for others in [0, FEW - 1, FEW, 3 * FEW] {
            let mut headers: HeaderMap = (0..others)
                .map(|n| {
                    let name = HeaderName::try_from(format!("x-{n}")).unwrap();
                    (name, HeaderValue::from_static("x"))
                })
                .collect();
            assert!(!contains(&headers, &AUTHORIZATION), "{others}");
            headers.insert(AUTHORIZATION, HeaderValue::from_static("x"));
            assert!(contains(&headers, &AUTHORIZATION), "{others}");
        }
    }
}
