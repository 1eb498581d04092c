//! The integration tests: one binary, its own store and directory each, in any order.

mod store_contract;
