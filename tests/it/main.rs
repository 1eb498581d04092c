//! The integration tests: one binary, the real server in each, its own store and directory each, in any order.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect shall fail on the spot")]

mod audit;
mod backup;
mod browser;
mod clock;
mod console;
mod contract;
mod deploy;
mod doctor;
mod faults;
mod fixture;
mod fleet;
mod foreign;
mod import;
mod instances;
mod journey;
mod keys;
mod lifecycle;
mod line;
mod metering;
mod metrics;
mod modes;
mod operations;
mod overload;
mod packaging;
mod quota;
mod readme;
mod refreshes;
mod secrecy;
mod secret_key;
mod sessions;
mod settings;
mod store_contract;
mod strangers;
mod tls;
mod trouble;
