//! `BufferBody`: records a body that cannot be cloned while it is sent.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http_body::Body;

use super::{
    Resend,
    buffered_body::{BodyRecord, BufferedBody},
    sealed::KeepBody,
};
use crate::error::BoxError;

/// Records a body up to a limit while it is sent, so that it can be resent. For bodies that are streams, such as tonic's.
///
/// A refusal may come while the body is still being sent. The second request then sends what was recorded, followed by the rest: a
/// stream that stays open continues in the second request. The body of the first request ends with an error, which the caller does
/// not see.
///
/// A body is not resent if more than the limit was sent. The record shares memory with the body.
///
/// # Examples
///
/// ```
/// use axum::body::Body;
/// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::BufferBody};
///
/// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
/// let layer = AddAccessTokenLayer::new(source)
///     .origin("https://api.example")?
///     .resend(BufferBody::new(64 * 1024, Body::new));
/// # Ok(())
/// # }
/// ```
pub struct BufferBody<B> {
    limit: usize,
    wrap: fn(BufferedBody<B>) -> B,
}

impl<B> BufferBody<B> {
    /// Creates a strategy that records up to `limit` bytes of each body.
    ///
    /// `wrap` turns a recorded body into the body type of the inner service.
    pub fn new(limit: usize, wrap: fn(BufferedBody<B>) -> B) -> Self {
        Self { limit, wrap }
    }
}

#[diagnostic::do_not_recommend]
impl<B> Resend<B> for BufferBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
}

impl<B> KeepBody<B> for BufferBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Saved = Buffered<B>;
    const IS_ON: bool = true;

    fn save(&self, body: B) -> (B, Self::Saved) {
        let (body, record) = BufferedBody::first(body, self.limit);
        let wrap = self.wrap;
        (wrap(body), Buffered { record, wrap })
    }

    fn restore(saved: Self::Saved) -> Option<B> {
        BufferedBody::second(&saved.record).map(saved.wrap)
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

/// The record of a body. See [`BufferBody`].
pub struct Buffered<B> {
    record: Arc<BodyRecord<B>>,
    wrap: fn(BufferedBody<B>) -> B,
}

impl<B> Drop for Buffered<B> {
    /// Stops recording: a stream that stays open after its response would otherwise be recorded for nothing.
    fn drop(&mut self) {
        self.record.discard();
    }
}

impl<B> fmt::Debug for Buffered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::{BodyExt, Full, channel::Channel, combinators::BoxBody};

    use super::*;

    type TestBody = BoxBody<Bytes, BoxError>;

    fn wrap(body: BufferedBody<TestBody>) -> TestBody {
        TestBody::new(body)
    }

    /// Two frames and trailers. The body does not know its length in advance.
    async fn stream() -> TestBody {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(3);
        sender.send_data(Bytes::from("one")).await.unwrap();
        sender.send_data(Bytes::from("two")).await.unwrap();
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        sender.send_trailers(trailers).await.unwrap();
        TestBody::new(body)
    }

    #[tokio::test]
    async fn a_stream_is_restored_whole_with_its_trailers() {
        let (sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        let sent = sent.collect().await.unwrap();
        let again = BufferBody::restore(saved).unwrap().collect().await.unwrap();
        assert_eq!(again.trailers(), sent.trailers());
        assert!(again.trailers().is_some());
        assert_eq!(again.to_bytes(), "onetwo");
        assert_eq!(sent.to_bytes(), "onetwo");
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_sent_but_not_restored() {
        let (sent, saved) = BufferBody::new(5, wrap).save(stream().await);
        assert_eq!(sent.collect().await.unwrap().to_bytes(), "onetwo");
        assert!(BufferBody::restore(saved).is_none());
    }

    #[tokio::test]
    async fn a_partly_sent_body_is_restored_with_its_rest() {
        for sent_before in 0..=3 {
            // The limit applies to what was sent, not to the rest.
            let (mut sent, saved) =
                BufferBody::new(3 * sent_before.min(2), wrap).save(stream().await);
            for _ in 0..sent_before {
                sent.frame().await.unwrap().unwrap();
            }
            let again = BufferBody::restore(saved).unwrap().collect().await.unwrap();
            assert!(again.trailers().is_some());
            assert_eq!(again.to_bytes(), "onetwo", "{sent_before} frames before");
        }
    }

    /// It must end with an error: half a body must not look like a whole one.
    #[tokio::test]
    async fn the_first_body_fails_when_its_rest_was_taken() {
        let (mut sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        sent.frame().await.unwrap().unwrap();
        let again = BufferBody::restore(saved).unwrap();
        assert!(!sent.is_end_stream());
        assert_ne!(sent.size_hint().exact(), Some(0));
        assert!(sent.frame().await.unwrap().is_err());
        assert_eq!(again.collect().await.unwrap().to_bytes(), "onetwo");
    }

    #[tokio::test]
    async fn the_first_body_is_woken_when_its_rest_is_taken() {
        let (sender, body) = Channel::<Bytes, BoxError>::new(1);
        let (sent, saved) = BufferBody::new(6, wrap).save(TestBody::new(body));
        let mut collecting = tokio_test::task::spawn(sent.collect());
        tokio_test::assert_pending!(collecting.poll());
        let _again = BufferBody::restore(saved).unwrap();
        assert!(collecting.is_woken());
        assert!(tokio_test::assert_ready!(collecting.poll()).is_err());
        drop(sender);
    }

    /// A stream may stay open for hours after its response has come.
    #[tokio::test]
    async fn recording_stops_when_the_record_is_dropped() {
        let (mut sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        let data = |frame: Frame<Bytes>| frame.into_data().unwrap();
        let one = data(sent.frame().await.unwrap().unwrap());
        let record = saved.record.clone();
        drop(saved);
        assert!(record.is_empty());
        let two = data(sent.frame().await.unwrap().unwrap());
        assert!(record.is_empty());
        assert_eq!((&*one, &*two), (&b"one"[..], &b"two"[..]));
    }

    /// A connection may poll for the end of the body after the refusal has come.
    #[tokio::test]
    async fn a_body_that_was_sent_completely_ends_without_an_error_both_times() {
        let (mut sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        while sent.frame().await.is_some() {}
        let again = BufferBody::restore(saved).unwrap();
        assert!(sent.frame().await.is_none());
        assert_eq!(again.collect().await.unwrap().to_bytes(), "onetwo");
    }

    /// Over HTTP/2, hyper does not poll a body after its trailers.
    #[tokio::test]
    async fn a_body_is_complete_after_its_trailers() {
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
    async fn a_body_that_failed_is_not_restored() {
        for polls in 2..=3 {
            let (mut sent, saved) = BufferBody::new(6, wrap).save(TestBody::new(Broken(0)));
            for _ in 0..polls {
                let _ = sent.frame().await;
            }
            assert!(BufferBody::restore(saved).is_none(), "after {polls} polls");
        }
    }

    #[tokio::test]
    async fn an_empty_body_that_was_never_polled_is_complete() {
        let empty = TestBody::new(Full::<Bytes>::default().map_err(BoxError::from));
        let (_, saved) = BufferBody::new(0, wrap).save(empty);
        let again = BufferBody::restore(saved).unwrap();
        assert!(again.is_end_stream());
    }

    #[tokio::test]
    async fn the_length_is_known_both_times() {
        let full = TestBody::new(Full::from("12345").map_err(BoxError::from));
        let (sent, saved) = BufferBody::new(9, wrap).save(full);
        assert_eq!(sent.size_hint().exact(), Some(5));
        sent.collect().await.unwrap();
        let again = BufferBody::restore(saved).unwrap();
        assert_eq!(again.size_hint().exact(), Some(5));
        assert_eq!(again.collect().await.unwrap().to_bytes(), "12345");
    }
}
