//! Grants and access tokens on both backends.

mod mongo;
mod sqlite;
