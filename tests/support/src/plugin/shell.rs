//! Owns the connections of a box and its heartbeat.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use url::Url;

use super::{Clock, HEARTBEAT, Plugin, Reply, Request, Settings, transport};

/// A box that talks to a server. Dropped, it closes its connections.
#[derive(Debug)]
pub struct FieldBox {
    plugin: Plugin,
    clock: Clock,
    address: String,
    beats: Interval,
    /// Connections of the last requests, which stay open until the next of their kind: codes and tokens, data.
    idle: [Option<TcpStream>; 2],
    /// Number of the request under way.
    current: u64,
    task: Option<JoinHandle<()>>,
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
}

/// What a connection tells; the number is that of its request.
#[derive(Debug)]
enum Event {
    /// It is open, or could not be opened.
    Connected(u64),
    Answered(u64, Reply, TcpStream, bool),
}

impl FieldBox {
    /// A box that talks to the server at `base_url` (`http://`), set up as `change` says, its heartbeat in the time of
    /// `clock`. It must be made within a Tokio runtime.
    ///
    /// # Panics
    /// If `base_url` is not a URL with a host.
    pub fn new(base_url: &str, clock: &Clock, change: impl FnOnce(&mut Settings)) -> Self {
        let url = Url::parse(base_url).expect("a base URL");
        let host = url.host_str().expect("a host");
        let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
        let mut settings = Settings::new(url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")));
        change(&mut settings);
        let mut beats = interval(clock.on_the_wall(HEARTBEAT));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            plugin: Plugin::new(settings, clock.now()),
            clock: clock.clone(),
            address,
            beats,
            idle: [None, None],
            current: 0,
            task: None,
            events: mpsc::unbounded_channel(),
        }
    }

    /// The plugin inside.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The plugin inside, to click "Modify" or to put tokens in.
    pub fn plugin_mut(&mut self) -> &mut Plugin {
        &mut self.plugin
    }

    /// Lives until `done` says so, at most for `within` on the wall; false if the time ran out. It can be called again.
    pub async fn run_until(&mut self, within: Duration, mut done: impl FnMut(&Plugin) -> bool) -> bool {
        let deadline = Instant::now() + within;
        while !done(&self.plugin) {
            let request = tokio::select! {
                () = sleep_until(deadline) => return false,
                Some(event) = self.events.1.recv() => self.take(event),
                _ = self.beats.tick() => {
                    let connected = self.idle[1].as_ref().is_some_and(transport::is_open);
                    self.plugin.heartbeat(self.clock.now(), connected)
                }
            };
            if let Some(request) = request {
                self.send(request);
            }
        }
        true
    }

    fn take(&mut self, event: Event) -> Option<Request> {
        match event {
            Event::Connected(number) if number == self.current => {
                self.plugin.connected();
                None
            }
            Event::Answered(number, reply, stream, login) if number == self.current => {
                self.idle[usize::from(login)] = Some(stream);
                self.plugin.answer(self.clock.now(), &reply)
            }
            Event::Connected(_) | Event::Answered(..) => None,
        }
    }

    /// Opens a connection for `request`; the one before it of the same kind, and the one under way, are closed.
    fn send(&mut self, request: Request) {
        let login = request.kind.is_login();
        self.idle[usize::from(login)] = None;
        self.current += 1;
        let (number, address, events) = (self.current, self.address.clone(), self.events.0.clone());
        let task = tokio::spawn(async move {
            let stream = TcpStream::connect(&address).await;
            let _ = events.send(Event::Connected(number));
            let Ok(mut stream) = stream else { return };
            let _ = stream.set_nodelay(true);
            if let Ok(reply) = transport::exchange(&mut stream, &request).await {
                let _ = events.send(Event::Answered(number, reply, stream, login));
            }
        });
        if let Some(before) = self.task.replace(task) {
            before.abort();
        }
    }
}

impl Drop for FieldBox {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
