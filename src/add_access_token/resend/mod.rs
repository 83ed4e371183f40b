//! Strategies to send a request once more.

mod buffer_body;
mod buffered_body;

pub use self::{
    buffer_body::{BufferBody, Buffered},
    buffered_body::BufferedBody,
};

/// How a request whose token was refused can be sent once more: by keeping its body.
///
/// Implemented by [`NoResend`], [`CloneBody`] and [`BufferBody`].
pub trait Resend<B>: Clone {
    /// What is kept of a body while the request is on its way.
    type Saved;

    /// Whether anything is kept at all.
    const IS_ON: bool;

    /// Parts a body into the one to send and what is kept of it.
    fn save(&self, body: B) -> (B, Self::Saved);

    /// The body once more; `None` if it cannot be had.
    fn restore(saved: Self::Saved) -> Option<B>;
}

/// A refused request is not sent again: the caller gets the refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResend;

impl<B> Resend<B> for NoResend {
    type Saved = ();
    const IS_ON: bool = false;

    fn save(&self, body: B) -> (B, Self::Saved) {
        (body, ())
    }

    fn restore(_: Self::Saved) -> Option<B> {
        None
    }
}

/// Keeps a clone of the body, for bodies such as `Full<Bytes>`, whose clones share their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneBody;

impl<B: Clone> Resend<B> for CloneBody {
    type Saved = B;
    const IS_ON: bool = true;

    fn save(&self, body: B) -> (B, Self::Saved) {
        (body.clone(), body)
    }

    fn restore(saved: Self::Saved) -> Option<B> {
        Some(saved)
    }
}
