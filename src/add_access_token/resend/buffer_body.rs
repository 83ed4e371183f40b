//! Keeps a copy of a body that cannot be cloned, while it is sent.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http_body::Body;

use super::{
    Resend,
    buffered_body::{BodyRecord, BufferedBody},
};
use crate::error::BoxError;

/// Keeps what is sent of a body, up to a bound, so that it can be sent once more: for bodies that are streams, such as tonic's.
///
/// A refusal may come while the body is still on its way. What was sent of it is then sent again, and the rest after it: a stream
/// that stays open goes on over the second request. The first request ends with an error of its body, which the caller does not
/// see.
///
/// A body of which more than the bound was sent is not sent a second time. What is kept shares the memory of what is sent.
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
    /// Keeps up to `limit` bytes of each body. `wrap` makes the body that the inner service takes out of one that is watched.
    pub fn new(limit: usize, wrap: fn(BufferedBody<B>) -> B) -> Self {
        Self { limit, wrap }
    }
}

impl<B> Resend<B> for BufferBody<B>
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

/// What was kept of a body; see [`BufferBody`].
pub struct Buffered<B> {
    record: Arc<BodyRecord<B>>,
    wrap: fn(BufferedBody<B>) -> B,
}

impl<B> Drop for Buffered<B> {
    /// The response has come: a stream that stays open is not kept for nothing.
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
    async fn a_body_that_is_still_on_its_way_is_sent_again_with_its_rest() {
        for sent_before in 0..=3 {
            // The bound is for what was sent, not for what comes.
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

    /// It has to end with an error: half a body must not look like a whole one.
    #[tokio::test]
    async fn what_was_taken_from_the_first_request_does_not_look_whole_there() {
        let (mut sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        sent.frame().await.unwrap().unwrap();
        let again = BufferBody::restore(saved).unwrap();
        assert!(!sent.is_end_stream());
        assert_ne!(sent.size_hint().exact(), Some(0));
        assert!(sent.frame().await.unwrap().is_err());
        assert_eq!(again.collect().await.unwrap().to_bytes(), "onetwo");
    }

    #[tokio::test]
    async fn a_first_request_that_waits_for_more_is_told_that_it_gets_none() {
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
    async fn nothing_is_kept_once_it_is_known_that_the_body_is_not_sent_again() {
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

    /// The connection may ask for the end only after the refusal has come.
    #[tokio::test]
    async fn a_body_that_was_sent_to_its_end_ends_well_both_times() {
        let (mut sent, saved) = BufferBody::new(6, wrap).save(stream().await);
        while sent.frame().await.is_some() {}
        let again = BufferBody::restore(saved).unwrap();
        assert!(sent.frame().await.is_none());
        assert_eq!(again.collect().await.unwrap().to_bytes(), "onetwo");
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
