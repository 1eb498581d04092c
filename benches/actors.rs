//! What an answer costs inside the process: the pure cores, each ask beside a bare channel, and a device's whole journey.
//!
//! `cargo bench --bench actors` measures; the actors run on the embedded store in a directory of their own. Compare
//! lines of one run with each other, not runs with runs. Nothing is asserted but that the answers are the expected ones.

#[path = "actors/asks.rs"]
mod asks;
#[path = "actors/fakes.rs"]
mod fakes;
#[path = "actors/pure.rs"]
mod pure;
#[path = "actors/running.rs"]
mod running;
#[path = "actors/upstream.rs"]
mod upstream;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    cores,
    pure::codes,
    pure::sessions,
    pure::limits,
    pure::questions,
    pure::memory,
    pure::pages
);
criterion_group!(asks, asks::polls, asks::stalled, asks::people, asks::writes, asks::together);
criterion_group!(enedis, upstream::exchanger, upstream::relay, upstream::tokens, asks::journeys);
// The server's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_main!(cores, asks, enedis);
