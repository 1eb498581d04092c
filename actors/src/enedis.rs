//! Enedis as the actors see it: the port to its services, and the actor that owns the way to its authorization server.

pub mod contract;
pub mod exchanger;
pub mod port;
