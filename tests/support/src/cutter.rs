//! A TCP relay that fails on demand, to stand between the proxy and its database or Enedis.
//!
//! It owns its port for as long as it lives, even while it is cut: a connection made then is accepted by the
//! system and closed at once, before any byte. It promises that no byte passes after [`Cutter::cut`] or
//! [`Cutter::hold`] has taken effect.
//! Half-closed connections are relayed as such.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A running relay; dropped, it closes its port and every connection.
#[derive(Debug)]
pub struct Cutter {
    address: SocketAddr,
    line: watch::Sender<Line>,
    server: JoinHandle<()>,
}

/// The state of the line; a connection dies with the cut that follows its beginning, even if the line is restored
/// before its task runs.
#[derive(Clone, Copy, Debug)]
struct Line {
    open: bool,
    held: bool,
    cuts: u64,
}

impl Cutter {
    /// Starts a relay to `upstream` on a free port of 127.0.0.1, as a task of the current Tokio runtime.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (line, watcher) = watch::channel(Line { open: true, held: false, cuts: 0 });
        let server = tokio::spawn(serve(listener, upstream, watcher));
        Ok(Self { address, line, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Drops every connection and closes new ones at once, until [`Cutter::restore`].
    pub fn cut(&self) {
        self.line.send_modify(|line| *line = Line { open: false, cuts: line.cuts + 1, ..*line });
    }

    /// Drops every connection; new ones are served.
    pub fn cut_once(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    /// Keeps every byte back, on connections that stay open and on new ones, until [`Cutter::restore`].
    pub fn hold(&self) {
        self.line.send_modify(|line| line.held = true);
    }

    /// Serves again.
    pub fn restore(&self) {
        self.line.send_modify(|line| *line = Line { open: true, held: false, ..*line });
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, line: watch::Receiver<Line>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let now = *line.borrow();
                if now.open {
                    connections.spawn(relay(stream, upstream, line.clone(), now.cuts));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until both sides are done or a cut comes after cut number `cuts`.
async fn relay(mut client: TcpStream, upstream: SocketAddr, mut line: watch::Receiver<Line>, cuts: u64) {
    let forward = async {
        let mut server = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    };
    let mut forward = std::pin::pin!(forward);
    loop {
        let Line { held, cuts: now, .. } = *line.borrow_and_update();
        if now > cuts {
            return;
        }
        tokio::select! {
            biased;
            changed = line.changed() => if changed.is_err() { return },
            _ = &mut forward, if !held => return,
        }
    }
}
