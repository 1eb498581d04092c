//! Metering data that was fetched before, on both backends.

mod mongo;
mod sqlite;
