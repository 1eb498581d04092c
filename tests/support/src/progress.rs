//! Owns how a run tells on standard error how far it is: a bar on a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two looks at the work.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// The bar, or the lines.
pub struct Progress {
    wanted: bool,
    bar: ProgressBar,
    line: Option<Instant>,
}

impl Progress {
    /// Tells nothing unless `wanted`.
    pub fn new(wanted: bool) -> Self {
        let target = if wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{bar:25} {wide_msg}");
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { wanted, bar, line: None }
    }

    /// So much is `done` of the whole.
    pub fn tell(&mut self, (done, whole): (u64, u64), message: String) {
        if !self.bar.is_hidden() {
            if self.bar.is_finished() {
                self.bar.reset();
            }
            self.bar.set_length(whole);
            self.bar.set_position(done);
            self.bar.set_message(message);
        } else if self.wanted && self.line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            eprintln!("{message}");
            self.line = Some(Instant::now());
        }
    }

    /// Waits for `work`, telling what `look` sees; then the bar is taken away.
    pub async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
        look: impl Fn() -> ((u64, u64), String),
    ) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.clear();
                    return done;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let (done, message) = look();
                    self.tell(done, message);
                }
            }
        }
    }

    /// Takes the bar away, before anything else is written.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
