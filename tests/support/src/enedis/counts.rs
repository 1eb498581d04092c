//! Owns the names of the APIs and resources, and the numbers a quota is judged by.

use std::collections::HashMap;

use super::values::Direction;

/// What has a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// `metering_data_…/v5`.
    DataV5,
    /// `mesure_synchrone_auto/v2`.
    Data2026,
    /// `subscribed_services/v1`.
    SubscribedServices,
    /// The token endpoint, which is counted only if [`super::Options::token_quota`] gives it a quota.
    Token,
}

/// What can be asked about a meter, in either API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Half-hour curve of consumption.
    ConsumptionCurve,
    /// Half-hour curve of production.
    ProductionCurve,
    /// Energy consumed per day.
    DailyConsumption,
    /// Energy produced per day.
    DailyProduction,
    /// Largest power drawn per day.
    MaxPower,
}

impl Resource {
    /// Every resource.
    pub const ALL: [Self; 5] = [
        Self::ConsumptionCurve,
        Self::ProductionCurve,
        Self::DailyConsumption,
        Self::DailyProduction,
        Self::MaxPower,
    ];

    /// Path in API v5.
    pub const fn v5_path(self) -> &'static str {
        match self {
            Self::ConsumptionCurve => "/metering_data_clc/v5/consumption_load_curve",
            Self::ProductionCurve => "/metering_data_plc/v5/production_load_curve",
            Self::DailyConsumption => "/metering_data_dc/v5/daily_consumption",
            Self::DailyProduction => "/metering_data_dp/v5/daily_production",
            Self::MaxPower => "/metering_data_dcmp/v5/daily_consumption_max_power",
        }
    }

    /// Path in the API of 2026.
    pub const fn path_2026(self) -> &'static str {
        match self {
            Self::ConsumptionCurve => "/mesure_synchrone_auto/v2/courbe_de_charge_consommation",
            Self::ProductionCurve => "/mesure_synchrone_auto/v2/courbe_de_charge_production",
            Self::DailyConsumption => "/mesure_synchrone_auto/v2/consommation_quotidienne",
            Self::DailyProduction => "/mesure_synchrone_auto/v2/production_quotidienne",
            Self::MaxPower => "/mesure_synchrone_auto/v2/puissance_conso_max_quotidienne",
        }
    }

    /// The API and resource behind `path`.
    pub(super) fn at(path: &str) -> Option<(Api, Self)> {
        Self::ALL.into_iter().find_map(|resource| {
            if path == resource.v5_path() {
                Some((Api::DataV5, resource))
            } else {
                (path == resource.path_2026()).then_some((Api::Data2026, resource))
            }
        })
    }

    /// Consumption or production.
    pub const fn direction(self) -> Direction {
        match self {
            Self::ConsumptionCurve | Self::DailyConsumption | Self::MaxPower => Direction::Consumption,
            Self::ProductionCurve | Self::DailyProduction => Direction::Production,
        }
    }

    /// Tells whether it has a value per half hour.
    pub const fn is_curve(self) -> bool {
        matches!(self, Self::ConsumptionCurve | Self::ProductionCurve)
    }
}

/// What reached the gateway since the start, or since the last [`super::Simulator::reset_counts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that arrived, per API, whatever became of them.
    pub requests: HashMap<Api, u64>,
    /// Data requests that arrived, per API, usage point as it was sent, and resource.
    pub per_meter: HashMap<(Api, String, Resource), u64>,
    /// Requests answered 429 because the quota was spent; scripted ones are not among them.
    pub throttled: HashMap<Api, u64>,
    /// Requests answered 200.
    pub served: HashMap<Api, u64>,
    /// Tokens of the application issued.
    pub application_tokens: u64,
    /// Most requests that arrived in one second of the quota, per API, refused ones included.
    pub most_in_a_second: HashMap<Api, u32>,
    /// Most requests that arrived in one hour of the quota, per API; those of the same hour before a reset count.
    pub most_in_an_hour: HashMap<Api, u32>,
}

impl Counts {
    /// Requests to `api` that arrived.
    pub fn requests(&self, api: Api) -> u64 {
        self.requests.get(&api).copied().unwrap_or(0)
    }

    /// Requests to both data APIs that arrived.
    pub fn data_requests(&self) -> u64 {
        self.requests(Api::DataV5) + self.requests(Api::Data2026)
    }

    /// Data requests about usage point `point` for `resource` that arrived, on either API.
    pub fn of_meter(&self, point: &str, resource: Resource) -> u64 {
        let of = |(_, asked, what): &(Api, String, Resource)| asked == point && *what == resource;
        self.per_meter.iter().filter(|(key, _)| of(key)).map(|(_, count)| count).sum()
    }

    /// Requests to `api` answered 429 because the quota was spent.
    pub fn throttled(&self, api: Api) -> u64 {
        self.throttled.get(&api).copied().unwrap_or(0)
    }

    /// The same over all APIs.
    pub fn throttled_in_all(&self) -> u64 {
        self.throttled.values().sum()
    }

    /// The most requests that arrived in one second of the quota, on the busiest API.
    pub fn busiest_second(&self) -> u32 {
        self.most_in_a_second.values().copied().max().unwrap_or(0)
    }

    /// The most requests that arrived in one hour of the quota, on the busiest API.
    pub fn busiest_hour(&self) -> u32 {
        self.most_in_an_hour.values().copied().max().unwrap_or(0)
    }

    /// Notes that the windows of `api` hold so many requests now.
    pub(super) fn note_rate(&mut self, api: Api, second: u32, hour: u32) {
        for (most, count) in [(&mut self.most_in_a_second, second), (&mut self.most_in_an_hour, hour)] {
            let most = most.entry(api).or_default();
            *most = count.max(*most);
        }
    }

    /// Requests to `api` answered 200.
    pub fn served(&self, api: Api) -> u64 {
        self.served.get(&api).copied().unwrap_or(0)
    }
}
