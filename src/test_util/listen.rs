//! The authorization server on a TCP port.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response, Uri};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tower_service::Service;

use super::{AuthorizationServer, body::ResponseBody, endpoints};

/// An [`AuthorizationServer`] that listens on a port, returned by [`AuthorizationServer::listen`].
///
/// It speaks HTTP/1.1 without TLS. It dereferences to the `AuthorizationServer`, which makes requests fail and counts them.
///
/// Dropping it stops it: the runtime closes the port and all connections soon afterwards. [`stop`](Self::stop) waits
/// until they are closed. The `AuthorizationServer` itself, its tokens and its counters remain, and it can listen again.
///
/// # Panics
///
/// If serving a request panics, in a check of
/// [`assertion_client_with`](super::AuthorizationServerBuilder::assertion_client_with) or a rule of
/// [`fail_when`](AuthorizationServer::fail_when), the connection is closed. The panic resumes when the `Listening` is
/// stopped or dropped, so that the test fails.
#[must_use = "the server stops when this is dropped"]
pub struct Listening {
    server: AuthorizationServer,
    addr: SocketAddr,
    base: Uri,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    panic: CaughtPanic,
}

type CaughtPanic = Arc<Mutex<Option<Box<dyn Any + Send>>>>;

impl AuthorizationServer {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// Use paused tokio time only with the server in process. On a port, the paused clock jumps forward whenever the test
    /// waits for the network alone.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no free port.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with I/O enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_oauth2_client::test_util::AuthorizationServer;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::new();
    /// let listening = server.listen().await?;
    /// assert_eq!(listening.token_endpoint().path(), "/token");
    /// assert_eq!(listening.token_endpoint().host(), Some("127.0.0.1"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen(&self) -> io::Result<Listening> {
        self.listen_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
    }

    /// Listens on this address, for example on the address of a server that was stopped.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be bound.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with I/O enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_oauth2_client::test_util::AuthorizationServer;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::new();
    /// let listening = server.listen().await?;
    /// let addr = listening.addr();
    ///
    /// listening.stop().await; // from here on, connections are refused
    /// let listening = server.listen_on(addr).await?;
    /// # let _ = listening;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen_on(&self, addr: SocketAddr) -> io::Result<Listening> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let base = Uri::builder()
            .scheme("http")
            .authority(addr.to_string())
            .path_and_query("/");
        let base = base.build().map_err(io::Error::other)?;
        let (stop, stopped) = oneshot::channel();
        let panic = CaughtPanic::default();
        let task = tokio::spawn(accept(self.clone(), listener, stopped, Arc::clone(&panic)));
        Ok(Listening {
            server: self.clone(),
            addr,
            base,
            stop: Some(stop),
            task: Some(task),
            panic,
        })
    }
}

impl Listening {
    /// Returns the address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the issuer, such as `http://127.0.0.1:40811`, to be passed to
    /// [`TokenEndpoint::discover`](crate::TokenEndpoint::discover).
    ///
    /// It is the [`issuer`](super::AuthorizationServerBuilder::issuer) of the server if one was set.
    pub fn issuer(&self) -> String {
        let own = self.server.core.config.issuer.as_ref();
        endpoints::address(own.unwrap_or(&self.base)).unwrap_or_default()
    }

    /// Returns the URI of the token endpoint, such as `http://127.0.0.1:40811/token`.
    pub fn token_endpoint(&self) -> Uri {
        self.uri(endpoints::TOKEN)
    }

    /// Returns the URI of a path, which starts with a slash and may have a query.
    ///
    /// An invalid path yields the root.
    pub fn uri(&self, path: &str) -> Uri {
        super::with_path(&self.base, path)
    }

    /// Stops listening, and returns once the port and all connections are closed.
    ///
    /// # Panics
    ///
    /// Panics with the same payload if a request handler panicked.
    pub async fn stop(mut self) {
        self.stop.take();
        if let Some(task) = self.task.take() {
            // This is an error only if the runtime has shut down, and then everything is closed.
            let _ = task.await;
        }
    }
}

impl Deref for Listening {
    type Target = AuthorizationServer;

    fn deref(&self) -> &AuthorizationServer {
        &self.server
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.take();
        let payload = self
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match payload {
            Some(payload) if !std::thread::panicking() => resume_unwind(payload),
            _ => {}
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

async fn accept(
    server: AuthorizationServer,
    listener: TcpListener,
    mut stopped: oneshot::Receiver<()>,
    panic: CaughtPanic,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve(server.clone(), stream, Arc::clone(&panic)));
            }
            // Out of file descriptors. This lasts until a connection closes.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve(server: AuthorizationServer, stream: TcpStream, panic: CaughtPanic) {
    // Small responses must not wait for the acknowledgement of earlier ones. Without this option they do, which is slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(server.clone(), request, Arc::clone(&panic)));
    // An error means that the client went away or that the connection was to be dropped. The connection ends in both cases.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    mut server: AuthorizationServer,
    request: Request<Incoming>,
    panic: CaughtPanic,
) -> io::Result<Response<ResponseBody>> {
    let mut future = pin!(server.call(request));
    // The panic is stored before the connection closes, so that code that sees the closed connection finds the panic.
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => {
                *panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
                std::task::Poll::Ready(Err(io::Error::other("the request panicked")))
            }
        },
    )
    .await
}
