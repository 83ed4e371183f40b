//! Keeps a copy of a body that cannot be cloned, while it is sent.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Resend;

/// Keeps what is sent of a body, up to a bound, so that it can be sent once more: for bodies that are streams, such as tonic's.
///
/// A body that is larger is sent all the same, but not a second time; nor is one that had not been sent to its end when the
/// refusal came. What is kept shares the memory of what is sent.
///
/// # Examples
///
/// ```
/// use axum::body::Body;
/// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::BufferBody};
///
/// # fn example(source: TokenSource) {
/// let layer = AddAccessTokenLayer::new(source).resend(BufferBody::new(64 * 1024, Body::new));
/// # }
/// ```
pub struct BufferBody<B> {
    limit: usize,
    wrap: fn(BufferedBody<B>) -> B,
}

impl<B> BufferBody<B> {
    /// Keeps bodies of up to `limit` bytes. `wrap` makes the body that the inner service takes out of one that is watched.
    pub fn new(limit: usize, wrap: fn(BufferedBody<B>) -> B) -> Self {
        Self { limit, wrap }
    }
}

impl<B> Resend<B> for BufferBody<B>
where
    B: Body<Data = Bytes>,
{
    type Saved = Buffered<B>;
    const IS_ON: bool = true;

    fn save(&self, body: B) -> (B, Self::Saved) {
        let record = Arc::new(Mutex::new(Record {
            frames: VecDeque::new(),
            room: Some(self.limit),
            is_complete: body.is_end_stream(),
        }));
        let saved = Buffered {
            record: record.clone(),
            wrap: self.wrap,
        };
        (
            (self.wrap)(BufferedBody {
                inner: Inner::Sent { body, record },
            }),
            saved,
        )
    }

    fn restore(saved: Self::Saved) -> Option<B> {
        let mut record = lock(&saved.record);
        if !record.is_complete || record.room.is_none() {
            return None;
        }
        let frames = std::mem::take(&mut record.frames);
        drop(record);
        Some((saved.wrap)(BufferedBody {
            inner: Inner::Again { frames },
        }))
    }
}

impl<B> Clone for BufferBody<B> {
    fn clone(&self) -> Self {
        Self {
            limit: self.limit,
            wrap: self.wrap,
        }
    }
}

impl<B> fmt::Debug for BufferBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferBody")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// What was kept of a body; see [`BufferBody`].
pub struct Buffered<B> {
    record: Arc<Mutex<Record>>,
    wrap: fn(BufferedBody<B>) -> B,
}

impl<B> fmt::Debug for Buffered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").finish_non_exhaustive()
    }
}

struct Record {
    frames: VecDeque<Kept>,
    /// How many bytes may still come; `None` once nothing is kept.
    room: Option<usize>,
    is_complete: bool,
}

enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Record {
    fn note(&mut self, frame: &Frame<Bytes>) {
        let size = frame.data_ref().map_or(0, Bytes::len);
        self.room = self.room.and_then(|room| room.checked_sub(size));
        if self.room.is_none() {
            self.give_up();
        } else if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
            self.frames.push_back(Kept::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.push_back(Kept::Trailers(trailers.clone()));
        }
    }

    /// Nothing is kept any more: there was too much, or it broke off.
    fn give_up(&mut self) {
        self.room = None;
        self.frames = VecDeque::new();
    }
}

impl Kept {
    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

pin_project! {
    /// A body of which a copy is kept while it is sent, or that copy; see [`BufferBody`].
    pub struct BufferedBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<B> {
        Sent { #[pin] body: B, record: Arc<Mutex<Record>> },
        Again { frames: VecDeque<Kept> },
    }
}

impl<B> Body for BufferedBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().inner.project() {
            InnerProj::Sent { mut body, record } => {
                let frame = ready!(body.as_mut().poll_frame(cx));
                let mut record = lock(record);
                match &frame {
                    Some(Ok(frame)) => {
                        record.note(frame);
                        // Nothing comes after trailers, nor after the last byte of a known length, so nobody asks for more.
                        record.is_complete = frame.is_trailers()
                            || body.is_end_stream()
                            || body.size_hint().exact() == Some(0);
                    }
                    // What was sent of a body that failed is not the body.
                    Some(Err(_)) => record.give_up(),
                    None => record.is_complete = true,
                }
                Poll::Ready(frame)
            }
            InnerProj::Again { frames } => {
                Poll::Ready(frames.pop_front().map(|kept| Ok(kept.into_frame())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Sent { body, .. } => body.is_end_stream(),
            Inner::Again { frames } => frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Sent { body, .. } => body.size_hint(),
            Inner::Again { frames } => {
                let sizes = frames.iter().map(|kept| match kept {
                    Kept::Data(data) => data.len() as u64,
                    Kept::Trailers(_) => 0,
                });
                SizeHint::with_exact(sizes.sum())
            }
        }
    }
}

impl<B> fmt::Debug for BufferedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, channel::Channel, combinators::BoxBody};

    use super::*;
    use crate::BoxError;

    type TestBody = BoxBody<Bytes, BoxError>;

    fn wrap(body: BufferedBody<TestBody>) -> TestBody {
        TestBody::new(body)
    }

    /// A body of two frames and trailers, which says only at its end that it is over.
    async fn stream() -> TestBody {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(3);
        sender.send_data(Bytes::from("one")).await.unwrap();
        sender.send_data(Bytes::from("two")).await.unwrap();
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        sender.send_trailers(trailers).await.unwrap();
        TestBody::new(body)
    }

    #[tokio::test]
    async fn a_stream_is_kept_whole_with_its_trailers() {
        let (sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        let sent = sent.collect().await.unwrap();
        let again = BufferBody::restore(saved).unwrap().collect().await.unwrap();
        assert_eq!(again.trailers(), sent.trailers());
        assert!(again.trailers().is_some());
        assert_eq!(again.to_bytes(), "onetwo");
        assert_eq!(sent.to_bytes(), "onetwo");
    }

    #[tokio::test]
    async fn more_than_the_limit_is_sent_but_not_kept() {
        let (sent, saved) = BufferBody::new(5, wrap).save(stream().await);
        assert_eq!(sent.collect().await.unwrap().to_bytes(), "onetwo");
        assert!(BufferBody::restore(saved).is_none());
    }

    #[tokio::test]
    async fn half_a_body_is_not_sent_again() {
        let (mut sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        sent.frame().await.unwrap().unwrap();
        assert!(BufferBody::restore(saved).is_none());
    }

    /// As hyper sends it over HTTP/2: nothing comes after trailers.
    #[tokio::test]
    async fn a_body_is_complete_with_its_trailers() {
        let (mut sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        while !sent.frame().await.unwrap().unwrap().is_trailers() {}
        let again = BufferBody::restore(saved).unwrap().collect().await.unwrap();
        assert!(again.trailers().is_some());
        assert_eq!(again.to_bytes(), "onetwo");
    }

    /// A frame, an error, and then the end.
    struct Broken(u8);

    impl Body for Broken {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0 += 1;
            Poll::Ready(match self.0 {
                1 => Some(Ok(Frame::data(Bytes::from("one")))),
                2 => Some(Err("broken".into())),
                _ => None,
            })
        }

        fn is_end_stream(&self) -> bool {
            self.0 >= 2
        }
    }

    #[tokio::test]
    async fn a_body_that_broke_off_is_not_sent_again() {
        for polls in 2..=3 {
            let (mut sent, saved) = BufferBody::new(6, wrap).save(TestBody::new(Broken(0)));
            for _ in 0..polls {
                let _ = sent.frame().await;
            }
            assert!(BufferBody::restore(saved).is_none(), "after {polls} polls");
        }
    }

    #[tokio::test]
    async fn a_body_that_nobody_polls_because_it_is_empty_is_complete() {
        let empty = TestBody::new(Full::<Bytes>::default().map_err(BoxError::from));
        let (_, saved) = BufferBody::new(0, wrap).save(empty);
        let again = BufferBody::restore(saved).unwrap();
        assert!(again.is_end_stream());
    }

    #[tokio::test]
    async fn the_length_is_told_both_times() {
        let full = TestBody::new(Full::from("12345").map_err(BoxError::from));
        let (sent, saved) = BufferBody::new(9, wrap).save(full);
        assert_eq!(sent.size_hint().exact(), Some(5));
        sent.collect().await.unwrap();
        let again = BufferBody::restore(saved).unwrap();
        assert_eq!(again.size_hint().exact(), Some(5));
        assert_eq!(again.collect().await.unwrap().to_bytes(), "12345");
    }
}
