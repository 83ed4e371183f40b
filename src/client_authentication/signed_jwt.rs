//! `private_key_jwt` and `client_secret_jwt`: an assertion that this crate makes and signs, anew for every attempt.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    sync::Arc,
};

use aws_lc_rs::hmac;

use super::{ClientAuthentication, Method};
use crate::{
    error::BoxError,
    jwt::{ClientAssertion, SignFuture, Signer, SigningAlgorithm},
    secret::{Credential, Secret},
};

/// With what a client signs its assertions.
#[derive(Clone)]
pub(super) enum SignedJwt {
    PrivateKey(Arc<dyn Signer>),
    Secret(Credential, SigningAlgorithm),
}

impl ClientAuthentication {
    /// `private_key_jwt`: a JWT that is signed with a private key, made anew for every attempt
    /// ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2),
    /// [OpenID Connect Core §9](https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication)).
    ///
    /// The [`Signer`] is a [`SigningKey`](crate::jwt::SigningKey), or something that asks a KMS or an HSM. If it fails, nothing is
    /// sent, and the error is a [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential). What the JWT says is set by
    /// [`assertion`](Self::assertion).
    ///
    /// Two of them are equal when their client ids and assertions are, and their signers have the same algorithm, public key, `kid`
    /// and certificate; where a signer does not tell its public key, when one is a clone of the other.
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

    /// `client_secret_jwt`: a JWT that is signed with the client secret, which so is never sent
    /// ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2),
    /// [OpenID Connect Core §9](https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication)).
    ///
    /// The algorithm is one of HS256, HS384 and HS512. A secret shorter than its hash is refused before anything is sent, as
    /// [RFC 7518 §3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2) demands. What the JWT says is set by
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

    /// What the JWT of [`private_key_jwt`](Self::private_key_jwt) and [`client_secret_jwt`](Self::client_secret_jwt) says. For
    /// other methods it is refused before anything is sent. Default is [`ClientAssertion::new`].
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn assertion(mut self, assertion: ClientAssertion) -> Self {
        self.assertion = Some(Arc::new(assertion));
        self
    }

    /// What is wrong with the signer and with what the assertion is to say, in words.
    pub(super) fn check_signed_jwt(&self) -> Result<(), String> {
        match (&self.method, self.assertion.as_deref()) {
            (Method::SignedJwt(signed), assertion) => {
                signed.check()?;
                assertion.map_or(Ok(()), ClientAssertion::check)
            }
            (_, Some(_)) => Err(format!(
                "`assertion` is set, but `{}` makes no assertion; use `private_key_jwt` or `client_secret_jwt`",
                self.method_name()
            )),
            (_, None) => Ok(()),
        }
    }

    /// Makes the assertion of one attempt, if this method has one; `secret` is the text of [`credential`](Self::credential).
    pub(crate) async fn sign_assertion(
        &self,
        audience: &str,
        secret: Option<&Secret>,
    ) -> Result<Option<Secret>, BoxError> {
        let Method::SignedJwt(signed) = &self.method else {
            return Ok(None);
        };
        let secret_signer;
        let signer: &dyn Signer = match signed {
            SignedJwt::PrivateKey(signer) => &**signer,
            SignedJwt::Secret(_, algorithm) => {
                secret_signer = secret.and_then(|secret| SecretSigner::new(secret, *algorithm));
                match &secret_signer {
                    Some(signer) => signer,
                    None => {
                        return Err("there is no secret to sign the client assertion with".into());
                    }
                }
            }
        };
        let default = ClientAssertion::new();
        let assertion = self.assertion.as_deref().unwrap_or(&default);
        let signed = assertion.sign(&self.client_id, audience, signer).await?;
        Ok(Some(signed))
    }
}

impl SignedJwt {
    pub(super) fn credential(&self) -> Option<&Credential> {
        match self {
            Self::PrivateKey(_) => None,
            Self::Secret(secret, _) => Some(secret),
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

    /// What is wrong with the algorithm, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::PrivateKey(signer) => match hash(signer.algorithm()) {
                None => signer.public_key().map_or(Ok(()), |key| {
                    let fits = key.check_fits(signer.algorithm());
                    fits.map_err(|error| error.to_string())
                }),
                Some(_) => Err(format!(
                    "{} signs with a secret, and `private_key_jwt` with a private key; use `client_secret_jwt`",
                    signer.algorithm()
                )),
            },
            Self::Secret(_, algorithm) => match hash(*algorithm) {
                Some(_) => Ok(()),
                None => Err(format!(
                    "`client_secret_jwt` signs with HS256, HS384 or HS512, and not with {algorithm}; use \
                     `private_key_jwt` for a private key"
                )),
            },
        }
    }

    /// What is wrong with `secret` as the text of [`credential`](Self::credential), in words.
    pub(super) fn check_secret(&self, secret: &str) -> Result<(), String> {
        let Self::Secret(_, algorithm) = self else {
            return Ok(());
        };
        // "A key of the same size as the hash output (for instance, 256 bits for "HS256") or larger MUST be used" (RFC 7518 §3.2)
        match hash(*algorithm).map(|hash| hash.digest_algorithm().output_len()) {
            Some(_) if secret.is_empty() => Err("`client_secret` is empty".into()),
            Some(least) if secret.len() < least => Err(format!(
                "`client_secret` is shorter than the {least} bytes that {algorithm} takes (RFC 7518 section 3.2)"
            )),
            _ => Ok(()),
        }
    }
}

/// What makes two signers the same one, where they tell.
fn identity(signer: &dyn Signer) -> Option<(&str, SigningAlgorithm, Option<&str>, Option<&str>)> {
    let key = signer.public_key()?.thumbprint();
    let certificate = signer.certificate_thumbprint();
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

/// Signs with the secret of one attempt.
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
