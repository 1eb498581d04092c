//! The world around the proxy, simulated: Enedis, boxes, people with a browser, stores that fail.
//!
//! The kit speaks HTTP (and, to databases, TCP) only. It depends on no other crate of the workspace, so that a
//! misreading of a specification in the proxy cannot be repeated here unnoticed. Everything listens on 127.0.0.1,
//! on a port the system picks, and stops when its value is dropped.
//!
//! # Layout
//!
//! - [`enedis`] the simulator of Enedis' consent pages, token, subscription and data services, with faults on demand
//!   and a record of what it saw; [`calendar`] is what it and the boxes count days with;
//! - [`device`] a box that follows RFC 8628; [`plugin`] one that behaves as those in the field do;
//! - [`person`] a browser without JavaScript, which types codes and clicks buttons; [`html`] is what it reads with;
//! - [`server`] the real binary as a child process, its log captured;
//! - [`mongod`] a database of one's own; [`cutter`] a TCP relay that fails on demand; [`preload`] a machine that does;
//! - [`world`] what a server stands between: Enedis and a store;
//! - [`http`] what the clients send with and the answers they read; [`tls`] certificates that they trust; [`net`],
//!   [`process`] small helpers;
//! - [`demo`] all of it together, for `cargo demo`; [`fleet`] many boxes over days, for `cargo fleet`; [`load`] more
//!   devices than a town has, for `cargo fleet polling` and its like, and for the benches; [`faults`] all that can go
//!   wrong, for `cargo faults`; [`report`] tells how far a run is, and what came of it.

#![forbid(unsafe_code)]

pub mod calendar;
pub mod cutter;
pub mod demo;
pub mod device;
pub mod enedis;
pub mod faults;
pub mod fleet;
pub mod html;
pub mod http;
pub mod load;
pub mod mongod;
pub mod net;
pub mod person;
pub mod plugin;
pub mod preload;
pub mod process;
pub mod report;
pub mod server;
pub mod tls;
pub mod world;
