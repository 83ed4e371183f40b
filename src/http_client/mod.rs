//! Ready-made HTTP clients, and adapters for other clients.

#[cfg(feature = "rustls")]
pub(crate) mod client_certificate;
#[cfg(feature = "rustls")]
mod https_client;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
#[cfg(feature = "reqwest")]
mod reqwest_service;
#[cfg(feature = "rustls")]
mod root_certificates;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(feature = "reqwest")]
pub use self::reqwest_service::{ReqwestFuture, ReqwestService};
#[cfg(feature = "rustls")]
pub use self::{
    client_certificate::{ClientCertificate, InvalidClientCertificate},
    https_client::{HttpsClient, HttpsClientBuilder, HttpsFuture},
    root_certificates::RootCertificates,
};
