//! Both stores keep the contract, on their own and when what they stand on fails.

mod mongo;
mod sqlite;

use actors::session::Session;
use actors::store::Write;

fn inserts(sessions: &[Session]) -> Vec<Write> {
    sessions.iter().cloned().map(Write::Insert).collect()
}
