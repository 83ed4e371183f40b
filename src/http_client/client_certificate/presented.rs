//! The certificate that a connection presented, and whether it has been replaced since.

use std::{future::Future, pin::Pin};

use super::ClientCertificate;
use crate::{base::clock::Moment, error::Rotates};

/// A certificate that was presented to a server.
struct PresentedCertificate {
    certificate: ClientCertificate,
    generation: u64,
}

impl ClientCertificate {
    /// Returns what can tell later whether the certificate of this generation was replaced.
    pub(in crate::http_client) fn presented(&self, generation: u64) -> impl Rotates + use<> {
        PresentedCertificate {
            certificate: self.clone(),
            generation,
        }
    }
}

impl Rotates for PresentedCertificate {
    fn has_changed(&self, now: Moment) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            let is_current = || self.certificate.generation() == self.generation;
            if is_current() && !self.certificate.0.rereads.are_paused(now) {
                let certificate = self.certificate.clone();
                let read = move || certificate.reload_unreported();
                match tokio::runtime::Handle::try_current() {
                    Ok(runtime) => drop(runtime.spawn_blocking(read).await),
                    Err(_) => read(),
                }
            }
            !is_current()
        })
    }

    fn note_second_attempt(&self, is_accepted: bool, now: Moment) {
        let rereads = &self.certificate.0.rereads;
        if !rereads.are_paused(now) {
            rereads.note(is_accepted, now);
        }
    }
}
