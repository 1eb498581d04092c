//! Owns the bar that tells on standard error how far a run is; hidden unless that is a terminal.

use std::future::Future;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::devices::{Devices, Standing};
use super::flows::Flows;
use super::{FillError, Plan};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The bar.
pub(super) struct Progress {
    wanted: bool,
    devices: u64,
    length: Duration,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { wanted: plan.progress, devices: plan.devices.into(), length: plan.length }
    }

    /// Waits until every device has its code.
    pub(super) async fn filling(&self, devices: &mut Devices) -> Result<(), FillError> {
        let bar = self.bar(self.devices, "device codes {bar:40} {human_pos} of {human_len}, {per_sec}");
        let count = devices.counter();
        let filled = watch(devices.filled(), || bar.set_position(count())).await;
        bar.finish_and_clear();
        filled
    }

    /// Waits until every poll and flow from `start` on has come to its end.
    pub(super) async fn running(&self, start: Instant, devices: Option<&mut Devices>, flows: &Flows) {
        let bar = self.bar(self.length.as_secs(), "{bar:40} {pos} of {len} s  {msg}");
        let standing = devices.as_ref().map(|devices| devices.standing());
        let wanted = standing.is_some();
        let tell = || {
            let polls = standing.as_ref().map(|standing| standing()).unwrap_or_default();
            bar.set_position(start.elapsed().as_secs().min(self.length.as_secs()));
            bar.set_message(line(wanted.then_some(polls), flows));
        };
        let polled = async {
            if let Some(devices) = devices {
                devices.finished().await;
            }
        };
        watch(async { tokio::join!(polled, flows.run_from(start)) }, tell).await;
        bar.finish_and_clear();
    }

    fn bar(&self, length: u64, template: &str) -> ProgressBar {
        let target = if self.wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(template);
        ProgressBar::with_draw_target(Some(length), target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

/// Waits for `work`, and calls `look` now and then.
async fn watch<T>(work: impl Future<Output = T>, look: impl Fn()) -> T {
    let mut work = std::pin::pin!(work);
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = looks.tick() => look(),
        }
    }
}

fn line(polls: Option<Standing>, flows: &Flows) -> String {
    let mut parts = Vec::new();
    if let Some(polls) = polls {
        let waiting = polls.sent.saturating_sub(polls.answered + polls.errors);
        parts.push(format!("polls {}, under way {waiting}, errors {}", polls.answered, polls.errors));
    }
    if flows.rate > 0.0 {
        let (completed, failed) = flows.standing();
        parts.push(format!("consents {completed}, failed {failed}"));
    }
    parts.join("; ")
}
