//! A Redis server that belongs to one test, and a proxy in front of it.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time,
};

/// A server without persistence. It is killed when it is dropped.
pub(crate) struct Server {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with more settings.
    pub(crate) async fn start_with(settings: &[&str]) -> Self {
        // Another process can take the port first.
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            if let Some(server) = Self::start_at(port, settings).await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    async fn start_at(port: u16, settings: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU16 = AtomicU16::new(0);

        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("interop-redis-{}-{number}", std::process::id()));
        Self::start_in(folder, port, settings).await
    }

    async fn start_in(folder: PathBuf, port: u16, settings: &[&str]) -> Option<Self> {
        fs::create_dir_all(&folder).unwrap();
        let process = program()
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(&folder)
            .args(settings)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            process,
            port,
            folder,
        };
        for _ in 0..200 {
            if server.process.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(server.address()).await.is_ok() {
                return Some(server);
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Kills the server, whose data are lost, and starts another one at the same address.
    pub(crate) async fn restart(self) -> Self {
        let port = self.port;
        drop(self);
        Self::start_at(port, &[]).await.unwrap()
    }

    /// Kills the server, and starts another one at the same address with the data that the first one has saved.
    pub(crate) async fn restart_with_data(mut self, settings: &[&str]) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let folder = std::mem::take(&mut self.folder);
        Self::start_in(folder, self.port, settings).await.unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Returns all keys with everything that they contain.
    pub(crate) async fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await
            .unwrap();
        let mut contents = Vec::new();
        for key in keys {
            let values: Vec<Vec<u8>> = redis::cmd("HGETALL")
                .arg(&key)
                .query_async(&mut connection)
                .await
                .unwrap();
            contents.push((key, values.concat()));
        }
        contents
    }

    pub(crate) async fn command(&self, words: &[&str]) -> redis::Value {
        super::command_at(&self.url(), words).await
    }
}

/// The server to test, which is not always Redis.
fn program() -> Command {
    static DEBUG: OnceLock<bool> = OnceLock::new();

    let program = env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
    let has_setting = DEBUG.get_or_init(|| {
        let version = Command::new(&program).arg("--version").output().unwrap();
        // Redis 6 has no such setting, and allows it.
        !String::from_utf8_lossy(&version.stdout).contains("v=6.")
    });
    let mut command = Command::new(program);
    if *has_setting {
        command.args(["--enable-debug-command", "local"]);
    }
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A proxy that cuts each connection, or falls silent, after some bytes from the server.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// How many bytes of the server each new connection passes on.
    pub(crate) passes: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// `is_silent` keeps the connection open once the bytes have been passed on.
    pub(crate) async fn start(server: &Server, is_silent: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passes = Arc::new(AtomicUsize::new(usize::MAX));
        let (target, bytes) = (server.address(), passes.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let bytes = bytes.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let _ = pass(client, target, bytes, is_silent).await;
                });
            }
        });
        Self {
            address,
            passes,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    client: TcpStream,
    target: SocketAddr,
    bytes: usize,
    is_silent: bool,
) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let sends =
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut left = bytes;
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = buffer.len().min(left);
        let read = from_server.read(&mut buffer[..most]).await?;
        if read == 0 {
            break;
        }
        to_client.write_all(&buffer[..read]).await?;
        left -= read;
    }
    if is_silent && left == 0 {
        std::future::pending::<()>().await;
    }
    sends.abort();
    Ok(())
}
