//! Every store keeps its contract on both backends, on its own and when what it stands on fails.

mod audit;
mod kept;
mod ledger;
mod meters;
mod mongo;
mod sqlite;
mod tokens;

use actors::device_flow::session::Session;
use actors::device_flow::store::Write;

fn inserts(sessions: &[Session]) -> Vec<Write> {
    sessions.iter().cloned().map(Write::Insert).collect()
}
