//! The connection's stream: how it goes to the server, and what is read from it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::{
    rt::{Read, ReadBufCursor, Write},
    upgrade::Upgraded,
};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::net::TcpStream;

use super::silence::{Silence, SilenceOf};

/// A stream to the server, or to a proxy for it. TLS with the server, if any, goes over it.
#[allow(clippy::large_enum_variant, reason = "one exists per connection")]
pub(super) enum Transport {
    Direct(TokioIo<TcpStream>),
    /// A proxy that forwards single requests for `http` URIs. It is connected over plain TCP or TLS.
    Forwarding(MaybeHttpsStream<TokioIo<TcpStream>>),
    /// A tunnel through a proxy.
    Tunnel(Upgraded),
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        match self {
            Self::Direct(stream) => stream.connected(),
            Self::Forwarding(stream) => stream.connected().proxy(true),
            Self::Tunnel(_) => Connected::new(),
        }
    }
}

/// A stream that notes each read.
pub(super) struct Watched<T> {
    stream: T,
    silence: Option<Arc<Silence>>,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, silence: Option<Arc<Silence>>) -> Self {
        Self { stream, silence }
    }
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        let connected = self.stream.connected();
        match &self.silence {
            Some(silence) => connected.extra(SilenceOf(Arc::downgrade(silence))),
            None => connected,
        }
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if let Some(silence) = &self.silence {
            silence.end();
        }
        Poll::Ready(result)
    }
}

impl Read for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Forwarding(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tunnel(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

/// Implements `Write` by a macro that evaluates an expression for the inner stream.
macro_rules! write_through {
    ($with:ident, $self:ident) => {
        fn poll_write(
            $self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            $with!($self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
        }

        fn poll_flush($self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            $with!($self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
        }

        fn poll_shutdown($self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            $with!($self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
        }

        fn is_write_vectored(&$self) -> bool {
            $with!($self, stream => stream.is_write_vectored())
        }

        fn poll_write_vectored(
            $self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            $with!($self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
        }
    };
}

macro_rules! with_transport {
    ($transport:expr, $stream:ident => $result:expr) => {
        match $transport {
            Transport::Direct($stream) => $result,
            Transport::Forwarding($stream) => $result,
            Transport::Tunnel($stream) => $result,
        }
    };
}

macro_rules! with_watched {
    ($watched:expr, $stream:ident => $result:expr) => {
        match $watched {
            Watched {
                stream: $stream, ..
            } => $result,
        }
    };
}

impl Write for Transport {
    write_through!(with_transport, self);
}

impl<T: Write + Unpin> Write for Watched<T> {
    write_through!(with_watched, self);
}
