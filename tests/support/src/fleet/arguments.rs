//! Owns the command line of `cargo fleet`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::{ApiMode, Authorize, FleetError, Outage, Plan, Report, StoreKind, run};
use crate::proxy_build;
use crate::report::{Judged as _, write_json};

/// Boxes of the field against the real server in front of a simulated Enedis, over several days.
///
/// Every morning all boxes arrive within a minute. Prints a table per day and a verdict per requirement; the exit
/// status is 1 if one is not met. Days pass at the pace of the field, a few minutes each.
#[derive(Clone, Debug, Parser)]
#[command(name = "fleet")]
pub struct Arguments {
    /// How many boxes, one meter each.
    #[arg(long, default_value_t = 200)]
    pub boxes: u32,
    /// How many days.
    #[arg(long, default_value_t = 3)]
    pub days: u32,
    /// Seconds within which the boxes arrive each morning.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub arrive_within: u64,
    /// `ENEDIS_API_MODE` of the server.
    #[arg(long, value_enum, default_value = "auto")]
    pub api: ApiMode,
    /// Where the server keeps what it must not lose.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: StoreKind,
    /// Version of Enedis' consent page.
    #[arg(long, value_enum, default_value = "v1")]
    pub authorize: Authorize,
    /// Every so-many-th meter also produces; 0: none.
    #[arg(long, default_value_t = 0, value_name = "EVERY_N")]
    pub producers: u32,
    /// Decides what is drawn at random: arrivals, owners, minutes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Days of history that each box wants.
    #[arg(long, default_value_t = 7, value_name = "DAYS")]
    pub history_days: i64,
    /// What is wrong at Enedis on day 2.
    #[arg(long, value_enum)]
    pub outage: Option<Outage>,
    /// After the last day, let every box forget its data and ask that day again.
    #[arg(long)]
    pub again: bool,
    /// How much faster the clocks of the boxes run; other than 1, the server's limits are tried less.
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run this server; without it, the workspace's is built.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
}

impl Arguments {
    /// Runs what they say, writes the JSON file if one is wanted, and returns the report.
    pub async fn run(self) -> Result<Report, FleetError> {
        let json = self.json.clone();
        let report = run(self.plan()?).await?;
        if let Some(path) = json {
            write_json(&path, &report.to_json()).map_err(FleetError::Write)?;
        }
        Ok(report)
    }

    fn plan(self) -> Result<Plan, FleetError> {
        let binary = self.binary.map_or_else(proxy_build::proxy, Ok)?;
        Ok(Plan {
            boxes: self.boxes,
            days: self.days,
            arrive_within: Duration::from_secs(self.arrive_within),
            api: self.api,
            store: self.store,
            authorize: self.authorize,
            producer_every: self.producers,
            seed: self.seed,
            history_days: self.history_days,
            outage: self.outage,
            again: self.again,
            speed: self.speed,
            progress: true,
            ..Plan::new(binary)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn plan(arguments: &[&str]) -> Plan {
        let all = ["fleet", "--binary", "server"].iter().chain(arguments);
        Arguments::try_parse_from(all).expect("arguments").plan().expect("a plan")
    }

    #[test]
    fn without_options_the_fleet_is_the_one_of_the_stress_test() {
        Arguments::command().debug_assert();
        let plan = plan(&[]);
        assert_eq!((plan.boxes, plan.days, plan.arrive_within), (200, 3, Duration::from_secs(60)));
        assert_eq!((plan.api, plan.store, plan.authorize), (ApiMode::Auto, StoreKind::Sqlite, Authorize::V1));
        assert!(plan.outage.is_none() && !plan.again);
    }

    #[test]
    fn options_reach_the_plan() {
        let plan = plan(&["--outage", "500", "--store", "mongodb", "--authorize", "v2", "--api", "legacy"]);
        assert_eq!((plan.outage, plan.store), (Some(Outage::Errors), StoreKind::Mongodb));
        assert_eq!((plan.authorize, plan.api), (Authorize::V2, ApiMode::Legacy));
        assert!(Arguments::try_parse_from(["fleet", "--outage", "flood"]).is_err());
    }
}
