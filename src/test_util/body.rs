//! A response body that is complete, cut short, or stalled.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The response body of an [`AuthorizationServer`](super::AuthorizationServer).
///
/// The body is complete unless a [`Failure`](super::Failure) was requested. A body that is cut short or stalls still
/// announces its full length, like that of a server whose connection is lost halfway.
///
/// In process, a body that is cut short ends with an [`io::Error`] of kind
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset). Over a real connection, the client sees the connection close
/// before the announced end.
pub struct ResponseBody {
    part: Option<Bytes>,
    missing: u64,
    end: BodyEnd,
}

#[derive(Clone, Copy, PartialEq)]
enum BodyEnd {
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
            end: BodyEnd::Whole,
        }
    }

    pub(super) fn truncated(body: Bytes, at: usize) -> Self {
        Self::cut(body, at, BodyEnd::Breaks { flushed: false })
    }

    pub(super) fn stalled(body: Bytes, at: usize) -> Self {
        Self::cut(body, at, BodyEnd::Stalls)
    }

    /// Holds back at least one byte: a body of the announced length is complete, whatever follows it.
    fn cut(mut body: Bytes, at: usize, end: BodyEnd) -> Self {
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
            BodyEnd::Whole | BodyEnd::Over => Poll::Ready(None),
            BodyEnd::Stalls => Poll::Pending,
            // hyper flushes the head and the buffered part of the body only once the body is pending.
            // An error that came immediately would discard that part.
            BodyEnd::Breaks { flushed: false } => {
                self.end = BodyEnd::Breaks { flushed: true };
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            BodyEnd::Breaks { flushed: true } => {
                self.end = BodyEnd::Over;
                Poll::Ready(Some(Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "the authorization server cut the response short, as instructed",
                ))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.part.is_none() && matches!(self.end, BodyEnd::Whole | BodyEnd::Over)
    }

    fn size_hint(&self) -> SizeHint {
        let part = self.part.as_ref().map_or(0, |part| part.len() as u64);
        match self.end {
            BodyEnd::Over => SizeHint::with_exact(0),
            _ => SizeHint::with_exact(part + self.missing),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
