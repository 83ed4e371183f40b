//! `private_key_jwt` and `client_secret_jwt`: assertions that this crate creates and signs for every attempt.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    sync::Arc,
};

use aws_lc_rs::hmac;
use http::{HeaderMap, Uri};

use super::{ClientAuthentication, Method};
use crate::{
    base::origin::Origin,
    error::{BoxError, OwnError},
    jwt::{ClientAssertion, Recipient, SignFuture, Signer, SigningAlgorithm},
    secret::{Credential, Secret},
};

/// What signs the client's assertions.
#[derive(Clone)]
pub(super) enum SignedJwt {
    PrivateKey(Arc<dyn Signer>),
    Secret(Credential, SigningAlgorithm),
}

impl ClientAuthentication {
    /// `private_key_jwt`: sends a JWT that is signed with a private key
    /// ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2),
    /// [OpenID Connect Core §9](https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication)).
    ///
    /// A new JWT is signed for every attempt. The [`Signer`] is a [`SigningKey`](crate::jwt::SigningKey), or your own type that calls a
    /// KMS or an HSM. If it fails, the error has the kind [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential), and nothing
    /// is sent. To change the claims of the JWT, use [`assertion`](Self::assertion).
    ///
    /// Two values are equal if their client ids and assertions are equal, and their signers have the same algorithm, public key, `kid`
    /// and certificate. If the signers do not return a public key, the values are equal only if one is a clone of the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     ClientAuthentication,
    ///     jwt::{SigningAlgorithm, SigningKey},
    /// };
    ///
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?.kid("2026-11");
    /// let client = ClientAuthentication::private_key_jwt("client", key);
    /// assert_eq!(format!("{client:?}"), r#"private_key_jwt("client")"#);
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn private_key_jwt(
        client_id: impl Into<Cow<'static, str>>,
        signer: impl Signer + 'static,
    ) -> Self {
        let signed = SignedJwt::PrivateKey(Arc::new(signer));
        Self::new(client_id, Method::SignedJwt(signed))
    }

    /// `client_secret_jwt`: sends a JWT that is signed with the client secret
    /// ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2),
    /// [OpenID Connect Core §9](https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication)).
    ///
    /// The secret itself is never sent. The algorithm is HS256, HS384 or HS512. If the secret is shorter than the output of the hash
    /// function, the request fails before anything is sent, as
    /// [RFC 7518 §3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2) requires; see
    /// [`danger_allow_short_secret`](Self::danger_allow_short_secret). To change the claims of the JWT, use
    /// [`assertion`](Self::assertion).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, Credential, jwt::SigningAlgorithm};
    ///
    /// let client = ClientAuthentication::client_secret_jwt(
    ///     "client",
    ///     Credential::env("CLIENT_SECRET"),
    ///     SigningAlgorithm::HS256,
    /// );
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn client_secret_jwt(
        client_id: impl Into<Cow<'static, str>>,
        secret: impl Into<Credential>,
        algorithm: SigningAlgorithm,
    ) -> Self {
        let signed = SignedJwt::Secret(secret.into(), algorithm);
        Self::new(client_id, Method::SignedJwt(signed))
    }

    /// Sets the claims and header of the JWT of [`private_key_jwt`](Self::private_key_jwt) and
    /// [`client_secret_jwt`](Self::client_secret_jwt).
    ///
    /// With another method, the request fails before anything is sent. Default is [`ClientAssertion::new`].
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn assertion(mut self, assertion: ClientAssertion) -> Self {
        self.assertion = Some(Arc::new(assertion));
        self
    }

    /// Returns an error message if the signer or the assertion's settings are invalid.
    pub(super) fn check_signed_jwt(&self) -> Result<(), String> {
        match (&self.method, self.assertion.as_deref()) {
            (Method::SignedJwt(signed), assertion) => {
                signed.check()?;
                assertion.map_or(Ok(()), ClientAssertion::check)
            }
            (_, Some(_)) => Err(format!(
                "`assertion` is set, but `{}` does not sign one; use `private_key_jwt` or `client_secret_jwt`",
                self.method()
            )),
            (_, None) => Ok(()),
        }
    }

    /// Signs the assertion for one attempt, if this method uses one.
    ///
    /// `uri` is where it is sent to. `algorithm` is the name by which the server knows the algorithm, if it is another than that of the
    /// signer. `secret` is the text of [`credential`](Self::credential).
    pub(crate) async fn sign_assertion(
        &self,
        uri: &Uri,
        audience: &str,
        algorithm: Option<&'static str>,
        secret: Option<&Secret>,
    ) -> Result<Option<Secret>, BoxError> {
        let Method::SignedJwt(signed) = &self.method else {
            return Ok(None);
        };
        let origin = Origin::of(uri);
        let recipient = Recipient {
            audience,
            origin: origin.as_ref(),
            algorithm,
        };
        let secret_signer;
        let signer: &dyn Signer = match signed {
            SignedJwt::PrivateKey(signer) => &**signer,
            SignedJwt::Secret(_, algorithm) => {
                secret_signer = secret.and_then(|secret| SecretSigner::new(secret, *algorithm));
                match &secret_signer {
                    Some(signer) => signer,
                    None => {
                        let missing = "the secret that signs the client assertion is missing";
                        return Err(OwnError::new(missing).into());
                    }
                }
            }
        };
        let default = ClientAssertion::new();
        let assertion = self.assertion.as_deref().unwrap_or(&default);
        let signed = assertion.sign(&self.client_id, recipient, signer).await?;
        Ok(Some(signed))
    }

    /// Returns by how many seconds the times in assertions for this URI are corrected.
    pub(crate) fn seconds_ahead(&self, uri: &Uri) -> i64 {
        match self.assertion.as_deref().zip(Origin::of(uri)) {
            Some((assertion, server)) => assertion.seconds_ahead(&server),
            None => 0,
        }
    }

    /// Learns the difference to the clock of the server that returned these headers, if assertions follow it.
    pub(crate) fn note_clock(&self, uri: &Uri, headers: &HeaderMap) {
        if let Some((assertion, server)) = self.assertion.as_deref().zip(Origin::of(uri)) {
            assertion.note_clock(server, headers);
        }
    }

    pub(super) fn signs_with_secret(&self) -> bool {
        matches!(self.method, Method::SignedJwt(SignedJwt::Secret(..)))
    }
}

impl SignedJwt {
    #[cfg(feature = "token-store")]
    pub(super) fn public_key(&self) -> Option<&crate::jwt::PublicKey> {
        match self {
            Self::PrivateKey(signer) => signer.public_key(),
            Self::Secret(..) => None,
        }
    }

    pub(super) fn credential(&self) -> Option<&Credential> {
        match self {
            Self::PrivateKey(_) => None,
            Self::Secret(secret, _) => Some(secret),
        }
    }

    /// See [`ClientAuthentication::what_to_check`].
    pub(super) fn what_to_check(&self) -> &'static str {
        match self {
            Self::PrivateKey(_) => {
                "the id of the client, that the server knows the public key with its `kid` and algorithm, the audience of the assertion, and the \
                 clock of this machine"
            }
            Self::Secret(..) => {
                "the id of the client, its secret, the algorithm and the audience of the assertion, and the clock of this machine"
            }
        }
    }

    pub(super) fn method_name(&self) -> &'static str {
        let [name] = self.registered_methods();
        name
    }

    pub(super) fn registered_methods(&self) -> &'static [&'static str; 1] {
        match self {
            Self::PrivateKey(_) => &["private_key_jwt"],
            Self::Secret(..) => &["client_secret_jwt"],
        }
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::PrivateKey(signer) => signer.algorithm(),
            Self::Secret(_, algorithm) => *algorithm,
        }
    }

    /// Returns an error message if the algorithm does not fit the method or the key.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::PrivateKey(signer) => match hash(signer.algorithm()) {
                None => signer.public_key().map_or(Ok(()), |key| {
                    let fits = key.check_fits(signer.algorithm());
                    fits.map_err(|error| error.to_string())
                }),
                Some(_) => Err(format!(
                    "{} needs a shared secret, but `private_key_jwt` signs with a private key; use `client_secret_jwt`",
                    signer.algorithm()
                )),
            },
            Self::Secret(_, algorithm) => match hash(*algorithm) {
                Some(_) => Ok(()),
                None => Err(format!(
                    "`client_secret_jwt` signs with HS256, HS384 or HS512, not with {algorithm}; use \
                     `private_key_jwt` for a private key"
                )),
            },
        }
    }

    /// Returns an error message if `secret`, the text of [`credential`](Self::credential), is invalid.
    pub(super) fn check_secret(&self, secret: &str, allow_short: bool) -> Result<(), String> {
        let Self::Secret(_, algorithm) = self else {
            return Ok(());
        };
        // "A key of the same size as the hash output (for instance, 256 bits for "HS256") or larger MUST be used" (RFC 7518 §3.2)
        match hash(*algorithm).map(|hash| hash.digest_algorithm().output_len()) {
            // Everybody can sign with it.
            Some(_) if secret.is_empty() => Err("`client_secret` is empty".into()),
            Some(least) if secret.len() < least && !allow_short => Err(format!(
                "`client_secret` is shorter than the {least} bytes that {algorithm} requires (RFC 7518 section 3.2); use a longer secret, \
                 or `ClientAuthentication::danger_allow_short_secret`"
            )),
            _ => Ok(()),
        }
    }
}

/// The properties by which two signers are compared, or `None` if the signer does not return its public key.
fn identity(signer: &dyn Signer) -> Option<impl Eq + Hash> {
    let key = signer.public_key()?.thumbprint();
    let certificate = (signer.certificate_thumbprint(), signer.certificate_chain());
    Some((key, signer.algorithm(), signer.key_id(), certificate))
}

impl PartialEq for SignedJwt {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PrivateKey(a), Self::PrivateKey(b)) => match (identity(&**a), identity(&**b)) {
                (None, None) => Arc::as_ptr(a).cast::<()>() == Arc::as_ptr(b).cast::<()>(),
                (a, b) => a == b,
            },
            (Self::Secret(a, algorithm_a), Self::Secret(b, algorithm_b)) => {
                a == b && algorithm_a == algorithm_b
            }
            _ => false,
        }
    }
}

impl Eq for SignedJwt {}

impl Hash for SignedJwt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::PrivateKey(signer) => match identity(&**signer) {
                Some(identity) => identity.hash(state),
                None => Arc::as_ptr(signer).cast::<()>().hash(state),
            },
            Self::Secret(secret, algorithm) => (secret, algorithm).hash(state),
        }
    }
}

fn hash(algorithm: SigningAlgorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        SigningAlgorithm::HS256 => Some(hmac::HMAC_SHA256),
        SigningAlgorithm::HS384 => Some(hmac::HMAC_SHA384),
        SigningAlgorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// A signer that uses the secret obtained for one attempt.
struct SecretSigner {
    key: hmac::Key,
    algorithm: SigningAlgorithm,
}

impl SecretSigner {
    fn new(secret: &Secret, algorithm: SigningAlgorithm) -> Option<Self> {
        let key = hmac::Key::new(hash(algorithm)?, secret.expose().as_bytes());
        Some(Self { key, algorithm })
    }
}

impl Signer for SecretSigner {
    fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        let tag = hmac::sign(&self.key, message).as_ref().to_vec();
        Box::pin(std::future::ready(Ok(tag)))
    }
}
