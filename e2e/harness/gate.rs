//! A connection to a registry that stops in the middle of an upload, so that something can happen then.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections. Once as many bytes as it was told have gone to the server, none go any more until
/// it is opened.
pub struct Gate {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    /// Whether clients ask for a tunnel first (RFC 9110, section 9.3.6), as they do of an `HTTPS_PROXY`.
    tunnel: bool,
    stop_after: u64,
    passed: AtomicU64,
    stopped: watch::Sender<bool>,
    door: watch::Sender<Door>,
}

/// What happens to those that wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Shut,
    Open,
    /// Their connections end.
    Broken,
}

impl Gate {
    /// Forwards to `target`.
    pub async fn plain(target: SocketAddr, stop_after: u64) -> Self {
        Self::listen(target, false, stop_after).await
    }

    /// Is an HTTP proxy for TLS connections, all of which go to `target`.
    pub async fn proxy(target: SocketAddr, stop_after: u64) -> Self {
        Self::listen(target, true, stop_after).await
    }

    async fn listen(target: SocketAddr, tunnel: bool, stop_after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (stopped, door) = (watch::Sender::new(false), watch::Sender::new(Door::Shut));
        let state = Arc::new(State { target, tunnel, stop_after, passed: AtomicU64::new(0), stopped, door });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // An error here is one of the two ends going away: the test sees it at the client.
                tokio::spawn(async move { state.forward(client).await });
            }
        });
        Self { address, state }
    }

    /// Runs a client until the gate has shut on it, then `meanwhile`, and lets the client go on to its end.
    ///
    /// # Panics
    /// When the client ends before: then nothing was interrupted.
    pub async fn interrupt<T: Debug>(&self, client: impl Future<Output = T>, meanwhile: impl Future<Output = ()>) -> T {
        self.stop(client, meanwhile, Door::Open).await
    }

    /// Runs a client until the gate has shut on it, and breaks its connection.
    ///
    /// # Panics
    /// When the client ends before.
    pub async fn break_off<T: Debug>(&self, client: impl Future<Output = T>) -> T {
        self.stop(client, async {}, Door::Broken).await
    }

    async fn stop<T: Debug>(
        &self,
        client: impl Future<Output = T>,
        meanwhile: impl Future<Output = ()>,
        after: Door,
    ) -> T {
        let mut client = pin!(client);
        let mut stopped = self.state.stopped.subscribe();
        tokio::select! {
            result = &mut client => panic!("the client ended before the gate had shut: {result:?}"),
            // The sender lives in `self`.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        println!("the gate has shut after {} bytes", self.state.passed.load(Ordering::Relaxed));
        let then = async {
            meanwhile.await;
            self.state.door.send_replace(after);
        };
        futures::join!(client, then).0
    }
}

impl State {
    async fn forward(&self, mut client: TcpStream) -> std::io::Result<()> {
        if self.tunnel {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await?);
            }
        }
        let server = TcpStream::connect(self.target).await?;
        if self.tunnel {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        }
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = server.into_split();
        // Whichever ends first ends both: a server that dies is felt by the client at once.
        tokio::select! {
            result = self.upload(from_client, to_server) => result,
            result = tokio::io::copy(&mut from_server, &mut to_client) => result.map(|_| ()),
        }
    }

    async fn upload(&self, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) -> std::io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = client.read(&mut buffer).await?;
            if count == 0 {
                return server.shutdown().await;
            }
            server.write_all(&buffer[..count]).await?;
            let passed = self.passed.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
            if passed >= self.stop_after {
                self.stopped.send_replace(true);
                // The sender lives in `self`.
                if self
                    .door
                    .subscribe()
                    .wait_for(|door| *door != Door::Shut)
                    .await
                    .is_ok_and(|door| *door == Door::Broken)
                {
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
            }
        }
    }
}
