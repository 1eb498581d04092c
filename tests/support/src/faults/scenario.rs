//! Owns what goes wrong in a scenario, and when: plain data, drawn from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use serde_json::json;

use super::Plan;
use crate::enedis::{Endpoint, Fault};
use crate::world::StoreKind;

/// How long most troubles last, and those of a member of a replica set, whose elections take longer, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 100..1_500;
const MEMBER_LASTS_MS: std::ops::Range<u64> = 12_000..18_000;
/// Lives of codes in seconds; most outlive the scenario.
const LIVES: [u64; 4] = [3, 300, 300, 300];
/// How many troubles there are unless the command line says so.
const STRIKES: std::ops::RangeInclusive<u32> = 3..=8;
/// How far a clock is moved, in seconds: a blink, hours, two days back, four years ahead. Further back, a consent of those
/// days would have ended by now.
const STEPS: [i64; 6] = [-2, 30, -7_200, 7_200, -172_800, 126_230_400];

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Trouble {
    /// An instance is killed, and started again at once.
    Kill,
    /// An instance stands still.
    Pause,
    /// The wall clock of an instance is moved, and back.
    Clock,
    /// Enedis answers some requests in another way than it should.
    Enedis,
    /// SQLite: the disk is full.
    FullDisk,
    /// SQLite: the disk takes long for a sync.
    SlowDisk,
    /// SQLite: a sync fails, at which the process ends.
    LostSync,
    /// MongoDB: an instance's connections are cut, and new ones too.
    Cut,
    /// MongoDB: nothing passes between an instance and the store.
    Stall,
    /// Replica set: a member is killed, the primary or another, and started again later.
    MemberKill,
    /// Replica set: a member stands still.
    MemberPause,
    /// Replica set: the network of a member is cut.
    MemberCut,
    /// Replica set: the disk of a member is full, at which it ends; it is started again later.
    MemberFullDisk,
}

impl Trouble {
    const ALL: [Self; 13] = [
        Self::Kill,
        Self::Pause,
        Self::Clock,
        Self::Enedis,
        Self::FullDisk,
        Self::SlowDisk,
        Self::LostSync,
        Self::Cut,
        Self::Stall,
        Self::MemberKill,
        Self::MemberPause,
        Self::MemberCut,
        Self::MemberFullDisk,
    ];

    /// It can be had with this store.
    pub(super) fn fits(self, plan: &Plan) -> bool {
        let sqlite = plan.store == StoreKind::Sqlite;
        match self {
            Self::Kill | Self::Pause | Self::Clock | Self::Enedis => true,
            Self::FullDisk | Self::SlowDisk | Self::LostSync => sqlite,
            Self::Cut | Self::Stall => !sqlite && !plan.replica_set,
            Self::MemberKill | Self::MemberPause | Self::MemberCut | Self::MemberFullDisk => plan.replica_set,
        }
    }

    pub(super) fn is_members(self) -> bool {
        matches!(self, Self::MemberKill | Self::MemberPause | Self::MemberCut | Self::MemberFullDisk)
    }
}

/// One trouble.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strike {
    /// When it begins, since the start of the scenario, in milliseconds.
    pub at_ms: u64,
    /// How long it lasts, in milliseconds.
    pub lasts_ms: u64,
    /// Whom it meets: an instance; of a replica set's members, 0 is the primary.
    pub whom: usize,
    /// What goes wrong.
    pub trouble: Trouble,
    /// More about it: seconds of a clock, milliseconds of a sync, which of Enedis' faults.
    pub amount: i64,
}

/// What happens in one world.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// What it is drawn from, and what the boxes draw from.
    pub seed: u64,
    /// `FLOW=DEVICE` (0), or Enedis' consent page with `FLOW=CLIENT_CREDENTIALS` (1 or 2).
    pub page: u8,
    /// `CODE_LIFETIME_SECS`.
    pub life: u64,
    /// What goes wrong, by its beginning.
    pub strikes: Vec<Strike>,
}

impl Scenario {
    /// The scenario of `seed`: the same for the same plan.
    pub fn draw(plan: &Plan, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let fitting: Vec<_> = Trouble::ALL.into_iter().filter(|trouble| trouble.fits(plan)).collect();
        let wanted = if plan.only.is_empty() { &fitting } else { &plan.only };
        let count = plan.strikes.unwrap_or_else(|| rng.random_range(STRIKES));
        let end_ms = u64::try_from(plan.length.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut strikes: Vec<_> = (0..count)
            .map(|_| {
                let trouble = *wanted.choose(&mut rng).unwrap_or(&Trouble::Kill);
                // What a member suffers is to be over before the boxes stop.
                let (within, lasts, whoms) = if trouble.is_members() {
                    (end_ms.div_ceil(4), MEMBER_LASTS_MS, 2)
                } else {
                    (end_ms, LASTS_MS, plan.instances)
                };
                Strike {
                    at_ms: rng.random_range(0..within),
                    lasts_ms: rng.random_range(lasts),
                    whom: rng.random_range(0..whoms),
                    trouble,
                    amount: match trouble {
                        Trouble::Clock => *STEPS.choose(&mut rng).unwrap_or(&0),
                        Trouble::SlowDisk => rng.random_range(20..500),
                        Trouble::Enedis => rng.random_range(0..1_000),
                        _ => 0,
                    },
                }
            })
            .collect();
        let page = rng.random_range(0..3);
        let life = LIVES.choose(&mut rng).copied().filter(|_| !plan.replica_set).unwrap_or(300);
        strikes.sort_by_key(|strike| strike.at_ms);
        Self { seed, page, life, strikes }
    }
}

impl Strike {
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_millis(self.lasts_ms)
    }

    /// What Enedis does wrong, at which door, how often in a row.
    pub(super) fn at_enedis(&self) -> (Endpoint, Vec<Fault>) {
        let anywhere = [
            Fault::CutBefore,
            Fault::CutAfter,
            Fault::NotJson,
            Fault::Html,
            Fault::Hang,
            Fault::SlowAnswer(Duration::from_millis(1_500)),
            Fault::server_error(),
            Fault::unavailable(),
            Fault::throttled(),
            Fault::too_many(1),
            Fault::invalid_credentials(),
            Fault::not_subscribed(),
        ];
        // Words of OAuth, for which there is one door.
        let for_tokens =
            [Fault::oauth_error("invalid_grant"), Fault::json(401, &json!({"error": "invalid_client"}))];
        let number = usize::try_from(self.amount).unwrap_or(0);
        let times = 1 + number % 4;
        let (door, fault) = match number / 7 % 14 {
            12 => (Endpoint::Token, &for_tokens[0]),
            13 => (Endpoint::Token, &for_tokens[1]),
            fault => (Endpoint::ALL[number % Endpoint::ALL.len()], &anywhere[fault]),
        };
        (door, vec![fault.clone(); times])
    }
}
