//! `Watched`: a request body that is `Sync` and records when it is first polled.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;

pin_project! {
    /// A body that is `Sync` and records when it is first polled. http-body-util's `map_frame` would lose the body's length.
    ///
    /// A shared reference to it never reaches the inner body. So what the inner body says of itself is kept after each change.
    pub(super) struct Watched<B> {
        #[pin]
        body: SyncWrapper<B>,
        is_end_stream: bool,
        size_hint: SizeHint,
        taken: Arc<AtomicBool>,
    }
}

impl<B: Body> Watched<B> {
    /// `taken` is set when the body is first polled.
    pub(super) fn new(body: B, taken: Arc<AtomicBool>) -> Self {
        Self {
            is_end_stream: body.is_end_stream(),
            size_hint: body.size_hint(),
            body: SyncWrapper::new(body),
            taken,
        }
    }
}

impl<B: Body> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.taken.store(true, Ordering::Relaxed);
        let mut body = this.body.get_pin_mut();
        let polled = body.as_mut().poll_frame(cx);
        *this.is_end_stream = body.is_end_stream();
        *this.size_hint = body.size_hint();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_end_stream
    }

    #[allow(clippy::clone_on_copy, reason = "`Copy` since http-body 1.1 only")]
    fn size_hint(&self) -> SizeHint {
        self.size_hint.clone()
    }
}
