//! The cost of one DPoP proof, compared with the bare signature of a message of the same size by the same library.
//!
//! `README.md` in this folder explains how to run it and how to read the results.
#![allow(
    clippy::disallowed_methods,
    reason = "benchmarks read the clock directly"
)]

use std::{
    error::Error,
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use http::{Method, Uri};
use tower_oauth2_client::{
    AccessToken, DpopKey, TokenType,
    jwt::{SigningAlgorithm, SigningKey},
};

const TOKEN_LENGTH: usize = 800;
const ROUNDS: usize = 101;
const URI: &str = "https://api.example/v1/items?limit=10";

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<8} {:>12} {:>12} {:>8} {:>12} {:>12}",
        "", "signature", "proof", "ratio", "allocations", "allocations"
    );
    println!(
        "{:<8} {:>12} {:>12} {:>8} {:>12} {:>12}",
        "", "ns", "ns", "", "proof", "signature"
    );
    for (algorithm, calls) in [
        (SigningAlgorithm::ES256, 100),
        (SigningAlgorithm::EdDSA, 100),
        (SigningAlgorithm::RS256, 4),
    ] {
        measure(algorithm, calls)?;
    }
    Ok(())
}

fn measure(algorithm: SigningAlgorithm, calls: u32) -> Result<(), Box<dyn Error>> {
    let key = DpopKey::new(SigningKey::generate(algorithm)?)?;
    let uri: Uri = URI.parse()?;
    let token = AccessToken::new("x".repeat(TOKEN_LENGTH), TokenType::DPOP)?;
    let prove = || at_once(key.proof(&Method::GET, &uri, Some(&token)));
    let proof = prove()?;
    let (message, _) = proof.to_str()?.rsplit_once('.').ok_or("no JWT")?;
    let bare = bare(algorithm)?;
    let mut sign = || drop(black_box(bare(black_box(message.as_bytes()))));
    let mut prove = || drop(black_box(prove()));

    // Interleaved, so that disturbances of the machine affect both equally.
    let mut signatures = Vec::new();
    let mut proofs = Vec::new();
    for _ in 0..ROUNDS {
        signatures.push(nanos(&mut sign, calls));
        proofs.push(nanos(&mut prove, calls));
    }
    let (signature, proof) = (median(signatures), median(proofs));
    let allocations = allocation_counter::measure(prove).count_total;
    let of_signature = allocation_counter::measure(sign).count_total;
    println!(
        "{:<8} {signature:>12.0} {proof:>12.0} {:>8.3} {allocations:>12} {of_signature:>12}",
        algorithm.as_str(),
        proof / signature,
    );
    Ok(())
}

type Bare = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// Returns a function that only signs, with its own key.
fn bare(algorithm: SigningAlgorithm) -> Result<Bare, Box<dyn Error>> {
    let random = SystemRandom::new();
    Ok(match algorithm {
        SigningAlgorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
            Box::new(move |message| {
                let signature = pair.sign(&random, message);
                signature.map_or_else(|_| Vec::new(), |it| it.as_ref().to_vec())
            })
        }
        SigningAlgorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate()?;
            assert_eq!(pair.public_key().as_ref().len(), 32);
            Box::new(move |message| pair.sign(message).as_ref().to_vec())
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
            Box::new(move |message| {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                assert!(signed.is_ok());
                signature
            })
        }
    })
}

/// Returns the output of a future that does not wait, because a key in this process signs immediately.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a key in this process signs immediately"),
    }
}

/// Returns the nanoseconds per call.
fn nanos(call: &mut impl FnMut(), calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
