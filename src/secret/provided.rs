//! What providers returned for one request, and whether it has changed since.

use std::{future::Future, pin::Pin};

use crate::{
    base::clock::Moment,
    error::{Presented, Rotates},
    secret::{Credential, Secret},
};

/// The texts that providers returned for one request, and the certificate of its connection.
#[derive(Default)]
pub(crate) struct ProvidedTexts {
    texts: Vec<ProvidedText>,
    certificate: Option<Presented>,
}

/// A text that a provider returned for one request.
pub(crate) struct ProvidedText {
    pub(crate) credential: Credential,
    pub(crate) text: Secret,
    /// Whether it is the secret of the client, and not an assertion or a token.
    pub(crate) is_client_secret: bool,
}

impl ProvidedTexts {
    pub(crate) fn push(&mut self, text: ProvidedText) {
        self.texts.push(text);
    }

    pub(crate) fn set_certificate(&mut self, certificate: Option<Presented>) {
        self.certificate = certificate;
    }

    /// Returns this for a [`TokenError`](crate::TokenError), unless there is nothing that may change.
    pub(crate) fn boxed(self) -> Option<Box<dyn Rotates>> {
        match (self.texts.is_empty(), &self.certificate) {
            (true, None) => None,
            _ => Some(Box::new(self)),
        }
    }

    /// Returns the texts whose providers may be asked again now.
    fn rereadable(&self, now: Moment) -> impl Iterator<Item = &ProvidedText> {
        self.texts.iter().filter(move |provided| {
            let rereads = provided.credential.rereads();
            rereads.is_some_and(|rereads| !rereads.are_paused(now))
        })
    }
}

impl Rotates for ProvidedTexts {
    fn has_changed(&self, now: Moment) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            for provided in self.rereadable(now) {
                if provided.has_changed().await {
                    return true;
                }
            }
            if let Some(Presented(certificate)) = &self.certificate
                && certificate.has_changed(now).await
            {
                return true;
            }
            self.note_second_attempt(false, now);
            false
        })
    }

    fn note_second_attempt(&self, is_accepted: bool, now: Moment) {
        for provided in self.rereadable(now) {
            if let Some(rereads) = provided.credential.rereads() {
                rereads.note(is_accepted, now);
            }
        }
        if let Some(Presented(certificate)) = &self.certificate {
            certificate.note_second_attempt(is_accepted, now);
        }
    }
}

impl ProvidedText {
    /// Returns whether the provider returns another text now.
    ///
    /// A text that differs at each reading is made for each attempt, like an assertion that a function signs. It tells nothing about a
    /// rotation. A client secret is not made, unless it has the form of a JWT.
    async fn has_changed(&self) -> bool {
        let Ok(text) = self.credential.obtain().await else {
            return false;
        };
        if text == self.text {
            return false;
        }
        if self.is_client_secret && !is_jwt(text.expose()) {
            return true;
        }
        let again = self.credential.obtain().await;
        again.is_ok_and(|again| again == text)
    }
}

/// Whether a text has the form of a signed JWT (RFC 7515 §3.1).
fn is_jwt(text: &str) -> bool {
    let is_base64url = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split('.').count() == 3
        && text
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(is_base64url))
}
