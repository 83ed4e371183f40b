//! Keys and certificates in PEM, DER and JWK.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tower_oauth2_client::{
    ClientCertificate, DpopKey,
    jwt::{InvalidKey, PublicKey, Signer, SigningAlgorithm, SigningKey},
};
use tower_oauth2_client_fuzz::{byte, check_error, ready};

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(SigningAlgorithm::ES256).unwrap());

const ALGORITHMS: [SigningAlgorithm; 9] = [
    SigningAlgorithm::RS256,
    SigningAlgorithm::PS256,
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::ES512,
    SigningAlgorithm::EdDSA,
    SigningAlgorithm::MlDsa44,
    SigningAlgorithm::MlDsa87,
    SigningAlgorithm::HS256,
];

/// Checks that an accepted key can sign, and that its public key can be parsed again.
fn check(key: Result<SigningKey, InvalidKey>) {
    match key {
        Ok(key) => {
            ready(key.sign(b"message")).unwrap();
            let public = key.public_key().unwrap();
            assert_eq!(PublicKey::from_jwk(public.as_json()).unwrap(), *public);
            assert_eq!(
                DpopKey::new(key.clone()).unwrap().thumbprint(),
                public.thumbprint()
            );
        }
        Err(error) => check_error(&error),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let algorithm = ALGORITHMS[usize::from(byte(&mut data)) % ALGORITHMS.len()];
    check(SigningKey::from_der(data, algorithm));
    check(SigningKey::from_pem(data, algorithm));
    if let Ok(text) = str::from_utf8(data) {
        check(SigningKey::from_jwk(text));
        check(SigningKey::from_jwk_with(text, algorithm));
        if let Ok(key) = PublicKey::from_jwk(text) {
            assert_eq!(PublicKey::from_jwk(key.as_json()).unwrap(), key);
        }
    }
    if let Err(error) = KEY.clone().certificate(data) {
        check_error(&error);
    }
    if let Err(error) = ClientCertificate::from_pem(data, data) {
        check_error(&error);
    }
});
