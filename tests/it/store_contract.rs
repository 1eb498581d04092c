//! Every store keeps its contract on both backends, on its own and when what it stands on fails.

mod meters;
mod mongo;
mod sqlite;
mod tokens;

use actors::session::Session;
use actors::store::Write;

fn inserts(sessions: &[Session]) -> Vec<Write> {
    sessions.iter().cloned().map(Write::Insert).collect()
}
