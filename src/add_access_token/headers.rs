//! Looks for headers that are hardly ever there.

use http::{HeaderMap, HeaderName};

/// Up to so many names, to compare them all costs less than to hash the one that is sought.
const FEW: usize = 16;

/// As `HeaderMap::contains_key`.
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
    fn a_header_is_found_among_few_and_among_many() {
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
