//! A link to a server that delays what the server sends.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{self, Instant},
};

pub(super) struct Link {
    pub(super) address: SocketAddr,
    /// How long each byte of the server takes, in milliseconds.
    pub(super) delay: Arc<AtomicU64>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Link {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (delay, connections) = (Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
        let (shared_delay, counter) = (delay.clone(), connections.clone());
        let task = tokio::spawn(async move {
            // They end together with this task.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let delay = shared_delay.clone();
                connections.spawn(async move {
                    let _ = pass(client, target, delay).await;
                });
            }
        });
        Self {
            address,
            delay,
            connections,
            task,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many connections there have been.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, target: SocketAddr, delay: Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let arrives = async move {
        while let Some((at, bytes)) = receiver.recv().await {
            time::sleep_until(at).await;
            to_client.write_all(&bytes).await?;
        }
        to_client.shutdown().await
    };
    let receives = async move {
        let mut buffer = [0; 65_536];
        loop {
            let read = from_server.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let delay = Duration::from_millis(delay.load(Ordering::SeqCst));
            // The receiver is dropped when the client is gone.
            if sender
                .send((Instant::now() + delay, buffer[..read].to_vec()))
                .is_err()
            {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let sends = async move {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    tokio::try_join!(sends, receives, arrives)?;
    Ok(())
}
