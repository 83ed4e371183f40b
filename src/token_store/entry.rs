//! `StoredEntry`: what an entry contains, and its encoding before encryption.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use zeroize::Zeroizing;

use crate::{
    dpop::DpopKey,
    error::Answer,
    message::{AccessToken, Fields, TokenResponse},
    secret::RefreshToken,
    token_store::Fence,
};

/// The clocks of two instances differ by at most this much: each of them by five minutes from the right time.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(10 * 60);

/// A digest of everything that determines an access token.
pub(crate) type TokenKey = [u8; 32];

/// What an entry contains.
pub(crate) enum StoredEntry {
    Token(Box<StoredToken>),
    Ended(EndedSignIn),
    /// The tokens of this request cannot be shared.
    NotShared(TokenKey),
}

/// The server no longer accepts the refresh token of a sign-in.
#[derive(PartialEq, Eq)]
pub(crate) struct EndedSignIn {
    /// From which instances it was not accepted. Others may have the key that it is bound to.
    pub(crate) key: TokenKey,
    pub(crate) refresh_token: RefreshToken,
    /// The fence under which the refresh token was stored, or zero.
    pub(crate) known_since: Fence,
}

/// A token response in a store.
///
/// Its encoding contains what the server sent, without the headers. It never contains a private key: of a DPoP key that the token is bound
/// to, it has the thumbprint.
pub(crate) struct StoredToken {
    pub(crate) response: TokenResponse,
    /// For which request the access token is. `None` if nobody may use it, because it is not known to what it is bound.
    ///
    /// The refresh token is for the whole sign-in.
    pub(crate) key: Option<TokenKey>,
    /// The age of the token when its lease was granted, at most. Zero if the request was sent under the lease.
    pub(crate) age_at_lease: Duration,
    /// The age of the lease when the request was sent, at least. Zero if the request was sent before.
    pub(crate) lease_when_sent: Duration,
    /// The age of the token when it was stored, counted from before its request was sent.
    pub(crate) age_when_stored: Duration,
    /// The time of day at the instance that stored the token.
    pub(crate) stored_at: SystemTime,
}

impl StoredToken {
    /// Returns the age of the token, counted from before its request was sent.
    ///
    /// `lease_age` is the age of its lease by the clock of the engine. So a token is not younger than it is although it arrived at the engine
    /// late. The clocks of two instances are compared only roughly: they tell if the engine is wrong, for example because its clock was set
    /// back.
    pub(crate) fn age(&self, lease_age: Duration, now: SystemTime) -> Duration {
        let by_engine = lease_age.saturating_add(self.age_at_lease);
        let by_engine = by_engine.saturating_sub(self.lease_when_sent);
        let by_clocks = now.duration_since(self.stored_at).unwrap_or_default();
        let by_clocks = by_clocks.saturating_sub(CLOCK_DIFFERENCE);
        by_engine.max(by_clocks.saturating_add(self.age_when_stored))
    }

    /// Encodes the token. The result is secret.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let response = &self.response;
        let raw = response.raw();
        let binding = response.access_token().binding();
        let texts = [
            Some(response.access_token().expose_secret()),
            Some(response.token_type().as_str()),
            response.refresh_token().map(|token| token.expose_secret()),
            response.scope().map(|scope| scope.as_str()),
            response.id_token().map(|token| token.expose_secret()),
            response.issued_token_type(),
            binding.map(|binding| binding.key.thumbprint()),
        ];
        /// The tag, the key, the length of the body, the status and six times.
        const OTHERS: usize = 1 + 32 + 8 + 8 + 6 * 9;

        // A buffer that grows would leave copies of the token in memory.
        let most: usize = texts.iter().map(|text| 9 + text.map_or(0, str::len)).sum();
        let mut encoded = Encoder(Zeroizing::new(Vec::with_capacity(
            raw.len() + most + OTHERS,
        )));
        match &self.key {
            None => encoded.0.push(NONE),
            Some(key) => {
                encoded.0.push(INLINE);
                encoded.0.extend_from_slice(key);
            }
        }
        encoded.bytes(raw);
        let raw = str::from_utf8(raw).unwrap_or_default();
        for text in texts {
            encoded.text(text, raw);
        }
        encoded.number(response.status().as_u16().into());
        encoded.time(response.expires_in());
        encoded.time(response.refresh_in());
        for age in [
            self.age_at_lease,
            self.lease_when_sent,
            self.age_when_stored,
        ] {
            encoded.time(Some(age));
        }
        encoded.time(self.stored_at.duration_since(UNIX_EPOCH).ok());
        encoded.0
    }

    fn decode(
        mut rest: Decoder<'_>,
        mut key: Option<TokenKey>,
        dpop: Option<&DpopKey>,
    ) -> Option<Self> {
        let raw = rest.bytes()?;
        let (text, token_type) = (rest.text(raw)??, rest.text(raw)??);
        let fields = Fields {
            access_token: AccessToken::from_text(text, token_type.into()).ok()?,
            refresh_token: rest.text(raw)?.map(Into::into),
            scope: rest.text(raw)?.map(Into::into),
            id_token: rest.text(raw)?.map(Into::into),
            issued_token_type: rest.text(raw)?.map(Into::into),
            expires_in: None,
            refresh_in: None,
        };
        let access_token = match (rest.text(raw)?, dpop) {
            (None, _) => fields.access_token,
            (Some(thumbprint), Some(dpop)) if dpop.thumbprint() == thumbprint => {
                fields.access_token.bind(dpop.clone())
            }
            (Some(_), _) => {
                key = None;
                fields.access_token
            }
        };
        let status = StatusCode::from_u16(rest.number()?.try_into().ok()?).ok()?;
        let fields = Fields {
            access_token,
            expires_in: rest.time()?,
            refresh_in: rest.time()?,
            ..fields
        };
        let (age_at_lease, lease_when_sent) = (rest.time()??, rest.time()??);
        let (age_when_stored, stored_at) = (rest.time()??, UNIX_EPOCH.checked_add(rest.time()??)?);
        let answer = Answer::new(status, HeaderMap::new(), wiped(raw));
        rest.0.is_empty().then(|| Self {
            response: TokenResponse::new(fields, answer),
            key,
            age_at_lease,
            lease_when_sent,
            age_when_stored,
            stored_at,
        })
    }
}

impl EndedSignIn {
    /// Encodes the end of a sign-in. The result is secret.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let text = self.refresh_token.expose_secret();
        let mut encoded = Encoder(Zeroizing::new(Vec::with_capacity(text.len() + 64)));
        encoded.0.push(ENDED);
        encoded.0.extend_from_slice(&self.key);
        encoded.number(self.known_since.get());
        encoded.bytes(text.as_bytes());
        encoded.0
    }
}

impl StoredEntry {
    /// Encodes that the tokens of a request cannot be shared.
    pub(crate) fn not_shared(key: &TokenKey) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&[NOT_SHARED][..], key].concat())
    }

    /// Decodes an entry. A token is bound to the key that it was bound to. If that is another one than `dpop`, its `key` is `None`.
    ///
    /// Returns `None` for anything else than what is encoded here.
    pub(crate) fn decode(encoded: &[u8], dpop: Option<&DpopKey>) -> Option<Self> {
        let mut rest = Decoder(encoded);
        let key = match rest.tag()? {
            NONE => None,
            INLINE => Some(rest.take(32)?.try_into().ok()?),
            ENDED => {
                let ended = EndedSignIn {
                    key: rest.take(32)?.try_into().ok()?,
                    known_since: Fence::new(rest.number()?),
                    refresh_token: RefreshToken::new(str::from_utf8(rest.bytes()?).ok()?),
                };
                return rest.0.is_empty().then_some(Self::Ended(ended));
            }
            NOT_SHARED => return Some(Self::NotShared(rest.0.try_into().ok()?)),
            _ => return None,
        };
        Some(Self::Token(Box::new(StoredToken::decode(rest, key, dpop)?)))
    }
}

/// Returns a copy that is wiped from memory when the last clone is dropped.
fn wiped(bytes: &[u8]) -> Bytes {
    Bytes::from_owner(Zeroizing::new(bytes.to_vec()))
}

const NONE: u8 = 0;
const INLINE: u8 = 1;
const PART_OF_RAW: u8 = 2;
const ENDED: u8 = 3;
const NOT_SHARED: u8 = 4;

struct Encoder(Zeroizing<Vec<u8>>);

impl Encoder {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Writes a text. Nearly all of them are part of the raw body, so only their place is written: tokens are long.
    fn text(&mut self, text: Option<&str>, raw: &str) {
        let Some(text) = text else {
            return self.0.push(NONE);
        };
        match raw.find(text) {
            Some(start) => {
                self.0.push(PART_OF_RAW);
                self.number(start as u64);
                self.number(text.len() as u64);
            }
            None => {
                self.0.push(INLINE);
                self.bytes(text.as_bytes());
            }
        }
    }

    fn time(&mut self, time: Option<Duration>) {
        match time {
            None => self.0.push(NONE),
            Some(time) => {
                self.0.push(INLINE);
                self.number(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            }
        }
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn tag(&mut self) -> Option<u8> {
        self.take(1).map(|tag| tag[0])
    }

    fn number(&mut self) -> Option<u64> {
        let bytes = self.take(8)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn text(&mut self, raw: &'a [u8]) -> Option<Option<&'a str>> {
        let bytes = match self.tag()? {
            NONE => return Some(None),
            INLINE => self.bytes()?,
            PART_OF_RAW => {
                let mut part = Decoder(raw);
                let (start, length) = (self.number()?, self.number()?);
                part.take(start)?;
                part.take(length)?
            }
            _ => return None,
        };
        Some(Some(str::from_utf8(bytes).ok()?))
    }

    fn time(&mut self) -> Option<Option<Duration>> {
        match self.tag()? {
            NONE => Some(None),
            INLINE => Some(Some(Duration::from_nanos(self.number()?))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::TokenType;

    const STORED_AT: Duration = Duration::from_secs(1_700_000_000);

    fn stored(response: TokenResponse) -> StoredToken {
        StoredToken {
            response,
            key: Some([7; 32]),
            age_at_lease: Duration::ZERO,
            lease_when_sent: Duration::from_millis(5),
            age_when_stored: Duration::from_millis(120),
            stored_at: UNIX_EPOCH + STORED_AT,
        }
    }

    fn token(text: &str, token_type: TokenType) -> AccessToken {
        AccessToken::new(text, token_type).unwrap()
    }

    fn decode(encoded: &[u8], dpop: Option<&DpopKey>) -> Option<StoredToken> {
        match StoredEntry::decode(encoded, dpop)? {
            StoredEntry::Token(token) => Some(*token),
            StoredEntry::Ended(_) | StoredEntry::NotShared(_) => None,
        }
    }

    fn full() -> StoredToken {
        let builder = TokenResponse::builder(token("an-access-token", TokenType::BEARER));
        stored(
            builder
                .expires_in(Duration::from_millis(3_599_500))
                .refresh_in(Duration::from_secs(1800))
                .refresh_token("a-refresh-token")
                .scope("read write")
                .id_token("an-id-token")
                .issued_token_type("urn:ietf:params:oauth:token-type:access_token")
                .parameter("resource", json!(["https://api.example"]))
                .status(StatusCode::CREATED)
                .build(),
        )
    }

    fn assert_same(one: &StoredToken, other: &StoredToken) {
        let (a, b) = (&one.response, &other.response);
        assert_eq!(a.access_token(), b.access_token());
        assert_eq!(a.token_type().as_str(), b.token_type().as_str());
        assert_eq!(a.expires_in(), b.expires_in());
        assert_eq!(a.refresh_in(), b.refresh_in());
        assert_eq!(a.refresh_token(), b.refresh_token());
        assert_eq!(a.scope(), b.scope());
        assert_eq!(a.id_token(), b.id_token());
        assert_eq!(a.issued_token_type(), b.issued_token_type());
        assert_eq!((a.raw(), a.status()), (b.raw(), b.status()));
        assert_eq!(a.json(), b.json());
        assert_eq!(one.key, other.key);
        assert_eq!(one.age_at_lease, other.age_at_lease);
        assert_eq!(one.lease_when_sent, other.lease_when_sent);
        assert_eq!(one.age_when_stored, other.age_when_stored);
        assert_eq!(one.stored_at, other.stored_at);
    }

    #[test]
    fn response_survives_the_way_through_the_store() {
        let bare = TokenResponse::builder(token("t", "N_A".into())).build();
        let for_nobody = StoredToken {
            key: None,
            ..full()
        };
        // The texts are not part of the body: the endpoint chose others, or the body escapes them.
        let other = Fields {
            access_token: token("chosen", TokenType::BEARER),
            expires_in: None,
            refresh_in: None,
            refresh_token: Some("r\"r".into()),
            scope: Some("".into()),
            id_token: None,
            issued_token_type: None,
        };
        let answer = Answer::new(
            StatusCode::OK,
            HeaderMap::new(),
            Bytes::from_static(b"\xff{"),
        );
        for stored in [
            full(),
            for_nobody,
            stored(bare),
            stored(TokenResponse::new(other, answer)),
        ] {
            assert_same(&decode(&stored.encode(), None).unwrap(), &stored);
        }
        let resource = decode(&full().encode(), None).unwrap();
        assert_eq!(
            resource.response.get("resource"),
            Some(&json!(["https://api.example"]))
        );
    }

    #[test]
    fn headers_of_the_response_are_not_stored() {
        let mut headers = HeaderMap::new();
        headers.insert("set-cookie", "session=1234567890".parse().unwrap());
        let response = TokenResponse::builder(token("t", TokenType::BEARER)).headers(headers);
        let encoded = stored(response.build()).encode();
        assert!(!encoded.windows(7).any(|part| part == b"session"));
        assert!(
            decode(&encoded, None)
                .unwrap()
                .response
                .headers()
                .is_empty()
        );
    }

    #[test]
    fn tokens_are_stored_once_in_a_buffer_that_does_not_grow() {
        let response = full().response;
        assert!(full().encode().len() < response.raw().len() + 251);
        for secret in ["an-access-token", "a-refresh-token", "an-id-token"] {
            let encoded = full().encode();
            let found = encoded.windows(secret.len());
            assert_eq!(
                found.filter(|part| *part == secret.as_bytes()).count(),
                1,
                "{secret}"
            );
        }
    }

    #[test]
    fn end_of_a_sign_in_survives_the_way_through_the_store() {
        let ended = EndedSignIn {
            key: [7; 32],
            refresh_token: "r".into(),
            known_since: Fence::new(5),
        };
        let encoded = ended.encode();
        let decoded = StoredEntry::decode(&encoded, None);
        assert!(matches!(decoded, Some(StoredEntry::Ended(decoded)) if decoded == ended));
        for length in 0..encoded.len() {
            assert!(
                StoredEntry::decode(&encoded[..length], None).is_none(),
                "{length}"
            );
        }
        let longer = [&encoded[..], b"\0"].concat();
        assert!(StoredEntry::decode(&longer, None).is_none());

        let not_shared = StoredEntry::not_shared(&[7; 32]);
        let decoded = StoredEntry::decode(&not_shared, None);
        assert!(matches!(decoded, Some(StoredEntry::NotShared(key)) if key == [7; 32]));
        assert!(StoredEntry::decode(&not_shared[1..], None).is_none());
    }

    #[test]
    fn truncated_and_extended_encodings_are_refused() {
        let encoded = full().encode();
        for length in 0..encoded.len() {
            assert!(decode(&encoded[..length], None).is_none(), "{length}");
        }
        assert!(decode(&[&encoded[..], b"\0"].concat(), None).is_none());
    }

    #[test]
    fn wrong_bytes_do_not_panic() {
        let encoded = full().encode();
        for at in 0..encoded.len() {
            for byte in [0, 1, 2, 3, 0x7f, 0xff] {
                let mut wrong = encoded.to_vec();
                wrong[at] = byte;
                let _ = decode(&wrong, None);
            }
        }
    }

    #[test]
    fn age_is_counted_by_the_engine_unless_the_clocks_prove_it_wrong() {
        let secs = Duration::from_secs;
        // The age at the lease, the age of the lease when the request was sent, that of the token when it was stored, the age of the lease now,
        // how much later it is by the clocks, the expected age.
        for (at_lease, when_sent, when_stored, lease_age, later, expected) in [
            (0, 0, 2, 2, 0, 2),
            (0, 0, 2, 102, 100, 102),
            // The holder of the lease waited before it sent the request.
            (0, 3, 2, 105, 100, 102),
            (0, 3, 2, 2, 0, 2),
            // The lease was taken after the response.
            (2, 0, 2, 100, 100, 102),
            // The entry arrived at the engine late. By the clocks, it is young.
            (0, 0, 2, 42, 0, 42),
            // The clocks differ by up to ten minutes.
            (0, 0, 2, 100, 690, 100),
            (0, 0, 2, 100, -200, 100),
            (0, 0, 2, 2, -100_000, 2),
            // The clock of the engine was set back, or its data are from a backup.
            (0, 0, 2, 2, 4000, 3402),
            (0, 0, 2, 100, 800, 202),
            // An instance whose clock is far behind trusts the engine.
            (0, 0, 2, 4000, -100_000, 4000),
        ] {
            let stored = StoredToken {
                age_at_lease: secs(at_lease),
                lease_when_sent: secs(when_sent),
                age_when_stored: secs(when_stored),
                ..full()
            };
            let now = match u64::try_from(later) {
                Ok(later) => STORED_AT + secs(later),
                Err(_) => STORED_AT - secs(i64::unsigned_abs(later)),
            };
            let age = stored.age(secs(lease_age), UNIX_EPOCH + now);
            assert_eq!(age, secs(expected), "{lease_age} {later}");
        }
    }

    #[cfg(feature = "dpop")]
    #[test]
    fn bound_token_is_of_use_only_with_its_key() {
        let (key, other) = (DpopKey::generate().unwrap(), DpopKey::generate().unwrap());
        let bound = token("t", TokenType::DPOP).bind(key.clone());
        let response = TokenResponse::builder(bound).refresh_token("r").build();
        let encoded = stored(response).encode();

        let decoded = decode(&encoded, Some(&key)).unwrap();
        assert_eq!(decoded.key, Some([7; 32]));
        let decoded = decoded.response;
        assert_eq!(decoded.access_token().dpop_key(), Some(&key));
        assert!(decoded.access_token().sendable().is_some());
        for wrong in [None, Some(&other)] {
            let decoded = decode(&encoded, wrong).unwrap();
            assert_eq!(decoded.key, None);
            let refresh_token = decoded.response.refresh_token();
            assert_eq!(refresh_token.unwrap().expose_secret(), "r");
        }
        // A token that is not bound is usable with and without a key.
        for key in [None, Some(&key)] {
            assert!(decode(&full().encode(), key).is_some());
        }
    }
}
