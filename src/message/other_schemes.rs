//! The header values of one token under other schemes than that of its type.

use std::sync::OnceLock;

use http::HeaderValue;

/// Values that are made when they are first needed, and kept as long as their token.
///
/// There are as many as layers have chosen different schemes, which is one or none.
#[derive(Default)]
pub(super) struct OtherSchemes(OnceLock<Box<Node>>);

struct Node {
    scheme: Box<str>,
    /// `None` if a header cannot carry it.
    value: Option<HeaderValue>,
    next: OtherSchemes,
}

impl OtherSchemes {
    pub(super) fn get_or_insert(
        &self,
        scheme: &str,
        make: impl Fn() -> Option<HeaderValue>,
    ) -> Option<&HeaderValue> {
        let mut schemes = self;
        loop {
            let node = schemes.0.get_or_init(|| {
                Box::new(Node {
                    scheme: scheme.into(),
                    value: make(),
                    next: Self::default(),
                })
            });
            if *node.scheme == *scheme {
                return node.value.as_ref();
            }
            schemes = &node.next;
        }
    }
}

/// A copy makes its own values.
impl Clone for OtherSchemes {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_value_is_made_once_for_each_scheme() {
        let (schemes, made) = (OtherSchemes::default(), Cell::new(0));
        for _ in 0..3 {
            for scheme in ["", "Token", "token", "OAuth"] {
                let value = schemes.get_or_insert(scheme, || {
                    made.set(made.get() + 1);
                    HeaderValue::from_str(scheme).ok()
                });
                assert_eq!(value.unwrap(), scheme);
            }
        }
        assert_eq!(made.get(), 4);
    }
}
