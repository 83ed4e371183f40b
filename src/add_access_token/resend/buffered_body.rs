//! `BufferedBody`: the body of a first request, which is recorded, or the body of a second request, which repeats the record.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::error::BoxError;

/// The body of a request that may be resent, or that is resent. See [`BufferBody`](super::BufferBody).
pub struct BufferedBody<B>(Transmission<B>);

enum Transmission<B> {
    // The lock is held while the body is polled. Only the future that gets the response contends for it.
    First(Arc<BodyRecord<B>>),
    Second {
        frames: VecDeque<RecordedFrame>,
        rest: Option<B>,
    },
}

/// A body that is being sent, and what was sent of it.
pub(super) struct BodyRecord<B>(Mutex<Recorded<B>>);

struct Recorded<B> {
    frames: VecDeque<RecordedFrame>,
    /// How many more bytes are recorded. `None` once nothing is recorded any longer.
    room: Option<usize>,
    rest: Remainder<B>,
    /// The task of the first request, if it waits for more. It is woken when the second request takes the rest.
    waiting: Option<Waker>,
}

/// What of a body was not sent yet.
enum Remainder<B> {
    Here(B),
    /// All of it was sent.
    Empty,
    /// The second request sends it.
    Taken,
}

enum RecordedFrame {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl<B> BufferedBody<B> {
    /// Sends a body for the first time, and records up to `limit` bytes of it.
    pub(super) fn first(body: B, limit: usize) -> (Self, Arc<BodyRecord<B>>) {
        let record = Arc::new(BodyRecord(Mutex::new(Recorded {
            frames: VecDeque::new(),
            room: Some(limit),
            rest: Remainder::Here(body),
            waiting: None,
        })));
        (Self(Transmission::First(record.clone())), record)
    }

    /// Sends what was recorded, and then the rest of the body. `None` if the record is not complete.
    pub(super) fn second(record: &BodyRecord<B>) -> Option<Self> {
        let mut recorded = record.lock();
        recorded.room?;
        let frames = std::mem::take(&mut recorded.frames);
        let rest = recorded.rest.take();
        let waiting = recorded.waiting.take();
        drop(recorded);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        Some(Self(Transmission::Second { frames, rest }))
    }
}

impl<B> BodyRecord<B> {
    fn lock(&self) -> MutexGuard<'_, Recorded<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn discard(&self) {
        self.lock().discard();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().frames.is_empty()
    }
}

impl<B> Recorded<B> {
    fn record(&mut self, frame: &Frame<Bytes>) {
        let size = frame.data_ref().map_or(0, Bytes::len);
        self.room = self.room.and_then(|room| room.checked_sub(size));
        if self.room.is_none() {
            self.discard();
        } else if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
            self.frames.push_back(RecordedFrame::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            let trailers = trailers.clone();
            self.frames.push_back(RecordedFrame::Trailers(trailers));
        }
    }

    /// Drops the record and stops recording: the body is too large, it failed, or it is not sent again.
    fn discard(&mut self) {
        self.room = None;
        self.frames = VecDeque::new();
    }
}

impl<B> Recorded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = match &mut self.rest {
            Remainder::Here(body) => body,
            Remainder::Empty => return Poll::Ready(None),
            // If it simply ended, half a body would look like a whole one.
            Remainder::Taken => return Poll::Ready(Some(Err(TAKEN.into()))),
        };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                // Nothing follows trailers, so a connection need not ask for more.
                if frame.is_trailers() {
                    self.rest = Remainder::Empty;
                }
                self.record(frame);
            }
            // What came before an error is not the whole body.
            Some(Err(_)) => self.discard(),
            None => self.rest = Remainder::Empty,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
}

const TAKEN: &str =
    "the request was refused and is resent; the second request sends the rest of the body";

impl<B> Remainder<B> {
    /// Takes the rest away from the first request.
    fn take(&mut self) -> Option<B> {
        match std::mem::replace(self, Self::Taken) {
            Self::Here(body) => Some(body),
            Self::Taken => None,
            Self::Empty => {
                *self = Self::Empty;
                None
            }
        }
    }
}

impl RecordedFrame {
    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }
}

impl<B> Body for BufferedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Transmission::First(record) => record.lock().poll_frame(cx),
            Transmission::Second { frames, rest } => match (frames.pop_front(), rest) {
                (Some(recorded), _) => Poll::Ready(Some(Ok(recorded.into_frame()))),
                (None, Some(rest)) => Pin::new(rest)
                    .poll_frame(cx)
                    .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
                (None, None) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Transmission::First(record) => match &record.lock().rest {
                Remainder::Here(body) => body.is_end_stream(),
                Remainder::Empty => true,
                Remainder::Taken => false,
            },
            Transmission::Second { frames, rest } => {
                frames.is_empty() && rest.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Transmission::First(record) => match &record.lock().rest {
                Remainder::Here(body) => body.size_hint(),
                Remainder::Empty => SizeHint::with_exact(0),
                Remainder::Taken => SizeHint::new(),
            },
            Transmission::Second { frames, rest } => {
                let recorded = frames.iter().map(RecordedFrame::len).sum();
                let rest = match rest {
                    Some(rest) => rest.size_hint(),
                    None => SizeHint::with_exact(0),
                };
                sum(recorded, &rest)
            }
        }
    }
}

fn sum(recorded: u64, rest: &SizeHint) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(recorded.saturating_add(rest.lower()));
    if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(recorded)) {
        hint.set_upper(upper);
    }
    hint
}

impl<B> fmt::Debug for BufferedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedBody").finish_non_exhaustive()
    }
}
