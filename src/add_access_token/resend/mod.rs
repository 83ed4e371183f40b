//! Strategies to copy the body of a request, so that it can be resent.
//!
//! `follow_up` keeps the copy while the response is awaited. If `refusal` finds an objection in the response, `future` restores the
//! request from the copy, and `unsent` sends it.

mod buffer_body;
mod buffered_body;

use self::sealed::KeepBody;
pub use self::{buffer_body::BufferBody, buffered_body::BufferedBody};

/// A strategy to resend a request whose token was refused: it keeps the body.
///
/// Implemented by [`NoResend`], [`CloneBody`] and [`BufferBody`].
///
/// This trait is sealed: other types cannot implement it. How a body is kept may change without a breaking release.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot keep the request body `{B}`, to resend it",
    label = "this strategy cannot resend requests with the body `{B}`",
    note = "`CloneBody` keeps bodies that are `Clone`, such as `Full<Bytes>`; for any other body use \
            `BufferBody::new(64 * 1024, wrap)`, where `wrap` is for example `axum::body::Body::new`",
    note = "`BufferBody` records bodies that are an `http_body::Body<Data = Bytes> + Unpin`, with an error that is `Into<BoxError>`"
)]
pub trait Resend<B>: sealed::KeepBody<B> {}

impl<B> Resend<B> for NoResend {}
#[diagnostic::do_not_recommend]
impl<B: Clone> Resend<B> for CloneBody {}

mod sealed {
    /// How a body is kept while the response is awaited, and restored.
    pub trait KeepBody<B>: Clone {
        /// What is kept of a body.
        type Saved;

        /// Whether requests are resent at all.
        const IS_ON: bool;

        /// Splits a body into the body to send and the part to keep.
        fn save(&self, body: B) -> (B, Self::Saved);

        /// Restores the body. Returns `None` if it cannot be restored.
        fn restore(saved: Self::Saved) -> Option<B>;
    }
}

/// Never resends a request: the caller gets the refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResend;

impl<B> KeepBody<B> for NoResend {
    type Saved = ();
    const IS_ON: bool = false;

    fn save(&self, body: B) -> (B, Self::Saved) {
        (body, ())
    }

    fn restore(_: Self::Saved) -> Option<B> {
        None
    }
}

/// Keeps a clone of the body. For bodies such as `Full<Bytes>`, whose clones share their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneBody;

impl<B: Clone> KeepBody<B> for CloneBody {
    type Saved = B;
    const IS_ON: bool = true;

    fn save(&self, body: B) -> (B, Self::Saved) {
        (body.clone(), body)
    }

    fn restore(saved: Self::Saved) -> Option<B> {
        Some(saved)
    }
}
