//! A number for an origin, which is compared and stored without allocating.

use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    num::NonZeroU64,
    sync::LazyLock,
};

use http::Uri;

use super::{authority::HostAndPort, origin::without_default};

/// Identifies an origin within this process.
///
/// It is a hash, keyed randomly, so that nobody can choose two origins with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OriginId(NonZeroU64);

static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl OriginId {
    /// The bits of a number. The others are zero, and free for other uses.
    pub(crate) const BITS: u64 = !0b11;

    /// Returns the number of the origin of `uri`, or `None` if its scheme or its host is missing, or if its authority is malformed.
    ///
    /// Origins that are equal as [`Origin`](super::origin::Origin) have the same number.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?;
        let HostAndPort { host, port } = HostAndPort::of(uri.authority()?)?;
        let mut hasher = KEY.build_hasher();
        for text in [scheme.as_str(), host] {
            for byte in text.bytes() {
                hasher.write_u8(byte.to_ascii_lowercase());
            }
            hasher.write_u8(0xff);
        }
        without_default(port, scheme).hash(&mut hasher);
        Self::from_bits(hasher.finish() | 1 << 63)
    }

    /// Returns the origin of this number, without the bits that are not in [`BITS`](Self::BITS).
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits & Self::BITS).map(Self)
    }

    #[inline]
    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{authority::tests::authorities, origin::Origin},
        *,
    };

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

        #[test]
        fn equal_origins_have_the_same_number_and_others_do_not(
            [one, other] in [uris(), uris()],
        ) {
            let (origins, ids) = ([&one, &other].map(Origin::of), [&one, &other].map(OriginId::of));
            prop_assert_eq!(origins[0].is_some(), ids[0].is_some());
            if origins.iter().all(Option::is_some) {
                prop_assert_eq!(origins[0] == origins[1], ids[0] == ids[1], "{} {}", one, other);
            }
        }
    }

    fn uris() -> impl Strategy<Value = Uri> {
        let schemes = prop_oneof![
            Just("https"),
            Just("HTTPS"),
            Just("http"),
            Just("ws"),
            Just("WSS")
        ];
        let authority = prop_oneof![
            authorities(),
            Just("api.example".into()),
            Just("API.example:443".into()),
            Just("api.example:80".into())
        ];
        (schemes, authority).prop_filter_map("not a URI", |(scheme, authority)| {
            format!("{scheme}://{authority}/").parse().ok()
        })
    }
}
