//! A TCP relay that fails on demand, to stand between the proxy and its database or Enedis.
//!
//! It owns its port for as long as it lives, even while it is cut: a connection made then is accepted by the
//! system and closed at once, before any byte. It promises that no byte passes after [`Cutter::cut`] or
//! [`Cutter::hang`] has taken effect, and that a hung connection goes on where it stopped. Half-closed connections
//! are relayed as such.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Size of the buffer of one direction of one connection, in bytes.
const BUFFER: usize = 16 * 1024;

/// A running relay; dropped, it closes its port and every connection.
#[derive(Debug)]
pub struct Cutter {
    address: SocketAddr,
    line: watch::Sender<Line>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    Hang,
    Cut,
}

/// The state of the line; a connection dies with the cut that follows its beginning, even if the line is restored
/// before its task runs.
#[derive(Clone, Copy, Debug)]
struct Line {
    mode: Mode,
    cuts: u64,
}

impl Cutter {
    /// Starts a relay to `upstream` on a free port of 127.0.0.1, as a task of the current Tokio runtime.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (line, watcher) = watch::channel(Line { mode: Mode::Forward, cuts: 0 });
        let (accepted, open) = (Arc::default(), Arc::default());
        let server =
            tokio::spawn(serve(listener, upstream, watcher, Arc::clone(&accepted), Arc::clone(&open)));
        Ok(Self { address, line, accepted, open, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Drops every connection and closes new ones at once, until [`Cutter::restore`].
    pub fn cut(&self) {
        self.line.send_modify(|line| *line = Line { mode: Mode::Cut, cuts: line.cuts + 1 });
    }

    /// Drops every connection; new ones are served.
    pub fn cut_once(&self) {
        self.line.send_modify(|line| *line = Line { mode: Mode::Forward, cuts: line.cuts + 1 });
    }

    /// Keeps connections open and accepts new ones, but passes nothing on, until [`Cutter::restore`].
    pub fn hang(&self) {
        self.line.send_modify(|line| line.mode = Mode::Hang);
    }

    /// Serves again; hung connections go on.
    pub fn restore(&self) {
        self.line.send_modify(|line| line.mode = Mode::Forward);
    }

    /// Connections accepted since the start, those closed at once included.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    listener: TcpListener,
    upstream: SocketAddr,
    line: watch::Receiver<Line>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                accepted.fetch_add(1, Ordering::SeqCst);
                let now = *line.borrow();
                if now.mode != Mode::Cut {
                    let open = Open::enter(&open);
                    connections.spawn(relay(stream, upstream, line.clone(), now.cuts, open));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as open while it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves one connection until both sides are done or a cut comes after cut number `cuts`.
async fn relay(client: TcpStream, upstream: SocketAddr, line: watch::Receiver<Line>, cuts: u64, _open: Open) {
    let mut cut = line.clone();
    tokio::select! {
        biased;
        _ = cut.wait_for(|line| line.cuts > cuts) => {}
        _ = forward(client, upstream, line) => {}
    }
}

async fn forward(client: TcpStream, upstream: SocketAddr, mut line: watch::Receiver<Line>) -> io::Result<()> {
    flowing(&mut line).await;
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::try_join!(pipe(client_read, server_write, line.clone()), pipe(server_read, client_write, line))?;
    Ok(())
}

async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        flowing(&mut line).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Returns once the line forwards; never, if the relay is gone.
async fn flowing(line: &mut watch::Receiver<Line>) {
    if line.wait_for(|line| line.mode == Mode::Forward).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_cut_drops_connections_and_closes_new_ones_until_restored() {
        let cutter = Cutter::start(echo().await).await.expect("a relay");
        let mut stream = TcpStream::connect(cutter.addr()).await.expect("a connection");
        assert_eq!(ask(&mut stream).await.expect("an answer"), *b"ping");
        cutter.cut();
        assert!(ask(&mut stream).await.is_err());
        let mut refused = TcpStream::connect(cutter.addr()).await.expect("the port stays bound");
        assert!(ask(&mut refused).await.is_err());
        cutter.restore();
        let mut stream = TcpStream::connect(cutter.addr()).await.expect("a connection");
        assert_eq!(ask(&mut stream).await.expect("an answer"), *b"ping");
        assert_eq!(cutter.accepted(), 3);
    }

    #[tokio::test]
    async fn a_cut_reaches_connections_even_if_restored_at_once() {
        let cutter = Cutter::start(echo().await).await.expect("a relay");
        let mut stream = TcpStream::connect(cutter.addr()).await.expect("a connection");
        ask(&mut stream).await.expect("an answer");
        cutter.cut_once();
        assert!(ask(&mut stream).await.is_err());
    }

    #[tokio::test]
    async fn a_hung_line_passes_nothing_and_then_goes_on() {
        let cutter = Cutter::start(echo().await).await.expect("a relay");
        let mut stream = TcpStream::connect(cutter.addr()).await.expect("a connection");
        ask(&mut stream).await.expect("an answer");
        cutter.hang();
        let mut late = TcpStream::connect(cutter.addr()).await.expect("a connection");
        let (first, second) = tokio::join!(
            tokio::time::timeout(Duration::from_millis(100), ask(&mut stream)),
            tokio::time::timeout(Duration::from_millis(100), ask(&mut late)),
        );
        assert!(first.is_err() && second.is_err());
        cutter.restore();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.expect("the held bytes");
        late.read_exact(&mut answer).await.expect("the held bytes");
        assert_eq!(answer, *b"ping");
    }
}
