//! `MlDsa`: the parameter sets of ML-DSA (FIPS 204), the signatures that quantum computers cannot forge (RFC 9964).

use aws_lc_rs::signature::{
    ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaSigningAlgorithm,
};

use super::SigningAlgorithm;

/// A parameter set of ML-DSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum MlDsa {
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

impl MlDsa {
    pub(super) const ALL: [Self; 3] = [Self::MlDsa44, Self::MlDsa65, Self::MlDsa87];

    /// The length in bytes of a seed, which is the private key in a JWK.
    pub(super) const SEED: usize = 32;

    /// Returns the parameter set of an algorithm, or `None` if the algorithm is not ML-DSA.
    pub(super) fn of(algorithm: SigningAlgorithm) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|parameters| parameters.algorithm() == algorithm)
    }

    pub(super) fn algorithm(self) -> SigningAlgorithm {
        match self {
            Self::MlDsa44 => SigningAlgorithm::MlDsa44,
            Self::MlDsa65 => SigningAlgorithm::MlDsa65,
            Self::MlDsa87 => SigningAlgorithm::MlDsa87,
        }
    }

    pub(super) fn signing(self) -> &'static PqdsaSigningAlgorithm {
        match self {
            Self::MlDsa44 => &ML_DSA_44_SIGNING,
            Self::MlDsa65 => &ML_DSA_65_SIGNING,
            Self::MlDsa87 => &ML_DSA_87_SIGNING,
        }
    }

    /// Returns the length in bytes of a public key.
    pub(super) fn public_key(self) -> usize {
        self.signing().public_key_len()
    }

    /// Returns the length in bytes of a signature.
    pub(super) fn signature(self) -> usize {
        self.signing().signature_len()
    }
}
