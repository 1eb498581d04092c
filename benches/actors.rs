//! What an answer costs inside the process: the pure cores, each ask beside a bare channel, and a device's whole journey.
//!
//! `cargo bench --bench actors` measures; the actors run on the embedded store in a directory of their own. Compare
//! lines of one run with each other, not runs with runs. Nothing is asserted but that the answers are the expected ones.

#[path = "actors/asks.rs"]
mod asks;
#[path = "actors/durable.rs"]
mod durable;
#[path = "actors/fakes.rs"]
mod fakes;
#[path = "actors/flow.rs"]
mod flow;
#[path = "actors/journey.rs"]
mod journey;
#[path = "actors/limits.rs"]
mod limits;
#[path = "actors/meters.rs"]
mod meters;
#[path = "actors/pages.rs"]
mod pages;
#[path = "actors/running.rs"]
mod running;
#[path = "actors/upstream.rs"]
mod upstream;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    pure,
    flow::codes,
    flow::sessions,
    limits::limits,
    meters::questions,
    meters::memory,
    pages::pages
);
criterion_group!(asks, asks::polls, asks::people, durable::writes, durable::together);
criterion_group!(enedis, upstream::exchanger, upstream::relay, upstream::tokens, journey::journeys);
// The server's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_main!(pure, asks, enedis);
