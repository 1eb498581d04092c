//! What is told of a meter's contract: the fields of Enedis' v5 that are permitted, and no others. Enedis' own answers of
//! 2026 name the owner, with address, telephone and e-mail.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::meter::Meter;

/// The permitted fields, each short; `None` where Enedis does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contract {
    /// `com` or `no_com`: whether the meter is read from afar.
    pub usage_point_status: Option<String>,
    /// `AMM` is a Linky.
    pub meter_type: Option<String>,
    /// `C5`, `P4` and others.
    pub segment: Option<String>,
    /// Such as `9 kVA`.
    pub subscribed_power: Option<String>,
    /// Day and offset, such as `2019-03-04+01:00`.
    pub last_activation_date: Option<String>,
    /// A code in v5, a label in 2026.
    pub distribution_tariff: Option<String>,
    /// Such as `HC (22H30-6H30)`, in French time.
    pub offpeak_hours: Option<String>,
    /// Such as `Contrat GRD-F`.
    pub contract_type: Option<String>,
    /// `SERVC`: in service.
    pub contract_status: Option<String>,
    /// Day and offset.
    pub last_distribution_tariff_change_date: Option<String>,
    /// A service that might say more was in trouble.
    #[serde(skip)]
    pub is_partial: bool,
}

impl Contract {
    /// Each field from `self`, else from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            usage_point_status: self.usage_point_status.or(other.usage_point_status),
            meter_type: self.meter_type.or(other.meter_type),
            segment: self.segment.or(other.segment),
            subscribed_power: self.subscribed_power.or(other.subscribed_power),
            last_activation_date: self.last_activation_date.or(other.last_activation_date),
            distribution_tariff: self.distribution_tariff.or(other.distribution_tariff),
            offpeak_hours: self.offpeak_hours.or(other.offpeak_hours),
            contract_type: self.contract_type.or(other.contract_type),
            contract_status: self.contract_status.or(other.contract_status),
            last_distribution_tariff_change_date: self
                .last_distribution_tariff_change_date
                .or(other.last_distribution_tariff_change_date),
            is_partial: self.is_partial || other.is_partial,
        }
    }

    /// The answer of v5 about `meter`. All members are there, since some clients break on a missing one.
    pub fn body(&self, meter: Meter) -> String {
        let Self { usage_point_status, meter_type, .. } = self;
        json!({"customer": {"customer_id": "", "usage_points": [{
            "usage_point": {
                "usage_point_id": meter.to_string(),
                "usage_point_status": usage_point_status,
                "meter_type": meter_type,
            },
            "contracts": {
                "segment": self.segment,
                "subscribed_power": self.subscribed_power,
                "last_activation_date": self.last_activation_date,
                "distribution_tariff": self.distribution_tariff,
                "offpeak_hours": self.offpeak_hours,
                "contract_type": self.contract_type,
                "contract_status": self.contract_status,
                "last_distribution_tariff_change_date": self.last_distribution_tariff_change_date,
            },
        }]}})
        .to_string()
    }
}
