//! The body of an answer: whole, broken off, or stalled.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of an answer of [`AuthorizationServer`](super::AuthorizationServer).
///
/// It is whole unless a [`Failure`](super::Failure) was asked for. A body that breaks off or stalls
/// still announces its full length, as a server does whose connection is lost on the way.
///
/// Breaking off is an [`io::Error`] of the kind [`ConnectionReset`](io::ErrorKind::ConnectionReset);
/// over a real connection the client sees the connection close before the announced end.
pub struct ResponseBody {
    part: Option<Bytes>,
    missing: u64,
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    Breaks { flushed: bool },
    Stalls,
    Over,
}

impl ResponseBody {
    pub(super) fn whole(body: Bytes) -> Self {
        Self {
            part: Some(body).filter(|body| !body.is_empty()),
            missing: 0,
            end: End::Whole,
        }
    }

    pub(super) fn truncated(body: Bytes, at: usize) -> Self {
        Self::cut(body, at, End::Breaks { flushed: false })
    }

    pub(super) fn stalled(body: Bytes, at: usize) -> Self {
        Self::cut(body, at, End::Stalls)
    }

    /// Keeps at least one byte back: a body of the announced length is complete, whatever comes after it.
    fn cut(mut body: Bytes, at: usize, end: End) -> Self {
        let whole = body.len().max(1);
        body.truncate(at.min(whole - 1));
        let missing = (whole - body.len()) as u64;
        Self {
            part: Some(body).filter(|body| !body.is_empty()),
            missing,
            end,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(part) = self.part.take() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        match self.end {
            End::Whole | End::Over => Poll::Ready(None),
            End::Stalls => Poll::Pending,
            // hyper flushes the head and what it has of the body only once the body is pending:
            // an error that came at once would take the part with it.
            End::Breaks { flushed: false } => {
                self.end = End::Breaks { flushed: true };
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Breaks { flushed: true } => {
                self.end = End::Over;
                Poll::Ready(Some(Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "the authorization server broke off its answer, as it was told",
                ))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.part.is_none() && matches!(self.end, End::Whole | End::Over)
    }

    fn size_hint(&self) -> SizeHint {
        let part = self.part.as_ref().map_or(0, |part| part.len() as u64);
        match self.end {
            End::Over => SizeHint::with_exact(0),
            _ => SizeHint::with_exact(part + self.missing),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
