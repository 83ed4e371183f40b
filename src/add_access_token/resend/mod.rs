//! Strategies to copy the body of a request, so that it can be resent.
//!
//! `follow_up` keeps the copy while the response is awaited. If `refusal` finds an objection in the response, `future` restores the
//! request from the copy, and `unsent` sends it.

mod buffer_body;
mod buffered_body;

use http::Request;

pub(super) use self::sealed::Slot;
use self::sealed::{KeepBody, NoSlot};
pub use self::{buffer_body::BufferBody, buffered_body::BufferedBody};

/// A strategy to resend a request whose token was refused: it keeps the body.
///
/// Implemented by [`NoResend`], [`CloneBody`] and [`BufferBody`].
///
/// This trait is sealed: other types cannot implement it. How a body is kept may change without a breaking release.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot keep the request body `{B}`, to resend it",
    label = "this strategy cannot resend requests with the body `{B}`",
    note = "`CloneBody` keeps bodies that are `Clone`, such as `Full<Bytes>`; for the bodies of tonic use `BufferBody::tonic(65_536)`, for \
            those of reqwest `BufferBody::reqwest(65_536)`, and for any other body `BufferBody::new(65_536, wrap)`, where `wrap` is for \
            example `axum::body::Body::new`",
    note = "`BufferBody` records bodies that are an `http_body::Body<Data = Bytes> + Unpin`, with an error that is `Into<BoxError>`"
)]
pub trait Resend<B>: sealed::KeepBody<B> {}

impl<B> Resend<B> for NoResend {}
#[diagnostic::do_not_recommend]
impl<B: Clone> Resend<B> for CloneBody {}

pub(crate) mod sealed {
    use std::marker::PhantomData;

    use http::Request;

    /// How a body is kept while the response is awaited, and restored.
    pub trait KeepBody<B>: Clone {
        /// What is kept of a body.
        type Saved;

        /// What is kept of a request, if requests are resent.
        type Slot<T>: Slot<T>;

        /// Whether requests are resent at all.
        const IS_ON: bool;

        /// Splits a request into the request to send and what is kept of its body.
        fn save(&self, request: Request<B>) -> (Request<B>, Self::Saved);

        /// Restores the body. Returns `None` if it cannot be restored.
        fn restore(saved: Self::Saved) -> Option<B>;
    }

    /// A place for a value, or for none.
    pub trait Slot<T> {
        fn empty() -> Self;
        fn full(value: T) -> Self;
        fn get(&self) -> Option<&T>;
        fn take(&mut self) -> Option<T>;
    }

    impl<T> Slot<T> for Option<T> {
        fn empty() -> Self {
            None
        }

        fn full(value: T) -> Self {
            Some(value)
        }

        fn get(&self) -> Option<&T> {
            self.as_ref()
        }

        fn take(&mut self) -> Option<T> {
            self.take()
        }
    }

    /// No place at all: the futures of a layer that never resends stay small.
    #[derive(Debug)]
    pub struct NoSlot<T>(PhantomData<T>);

    impl<T> Slot<T> for NoSlot<T> {
        fn empty() -> Self {
            Self(PhantomData)
        }

        fn full(_: T) -> Self {
            Self::empty()
        }

        fn get(&self) -> Option<&T> {
            None
        }

        fn take(&mut self) -> Option<T> {
            None
        }
    }
}

/// Never resends a request: the caller gets the refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResend;

impl<B> KeepBody<B> for NoResend {
    type Saved = ();
    type Slot<T> = NoSlot<T>;
    const IS_ON: bool = false;

    fn save(&self, request: Request<B>) -> (Request<B>, Self::Saved) {
        (request, ())
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
    type Slot<T> = Option<T>;
    const IS_ON: bool = true;

    #[inline(always)]
    fn save(&self, request: Request<B>) -> (Request<B>, Self::Saved) {
        let saved = request.body().clone();
        (request, saved)
    }

    fn restore(saved: Self::Saved) -> Option<B> {
        Some(saved)
    }
}
