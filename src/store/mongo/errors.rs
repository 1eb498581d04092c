//! What a failure of the driver means for a write, and for an operator.
//!
//! A write is certainly not done only if it was not sent, or if the server says so. In every other case its outcome
//! is unknown, which costs the caller one look-up; a wrong "certainly not" would cost a consent. The driver keeps the
//! first error of an operation if its retry fails before it was sent, so that what is seen here covers both.

use actors::base::store::StoreError;
use mongodb::error::{Error, ErrorKind, NO_WRITES_PERFORMED, WriteFailure};

use crate::store::OpenError;

/// The server's code for a value that a unique index holds already.
pub(super) const DUPLICATE_KEY: i32 = 11000;
/// The server's code for a read that only a replica set can do.
const NOT_A_REPLICA_SET: i32 = 123;
/// Codes of replies that reject a command as such: no right (13), no login (18), no such command (59), more than the
/// server takes (10334, 17280), no room (14031).
const REJECTED: [i32; 6] = [13, 18, 59, 10334, 17280, 14031];
/// Codes that can end a write half-way: the server shuts down or steps down (91, 189, 11600, 11602), the operation was
/// killed or took too long (50, 262, 11601).
const CUT_SHORT: [i32; 7] = [50, 91, 189, 262, 11600, 11601, 11602];

/// A failed write, by what its caller must do.
pub(super) fn failed_write(error: &Error) -> StoreError {
    if is_certain(error) { aborted(error) } else { StoreError::Unknown(describe(error)) }
}

/// A write error that the server reports for one document.
pub(super) fn failed_document(code: i32, name: Option<&str>) -> StoreError {
    let text = format!("MongoDB error {code} ({})", name.unwrap_or("unnamed"));
    if CUT_SHORT.contains(&code) { StoreError::Unknown(text) } else { StoreError::Aborted(text) }
}

/// Whether a write met a value that a unique index holds already.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY)
}

/// A server that stands alone has nobody to ask: what it did not find is not there.
pub(super) fn alone<T>(error: Error) -> mongodb::error::Result<Option<T>> {
    match &*error.kind {
        ErrorKind::Command(command) if command.code == NOT_A_REPLICA_SET => Ok(None),
        _ => Err(error),
    }
}

/// A failure that wrote nothing.
pub(super) fn aborted(error: &Error) -> StoreError {
    StoreError::Aborted(describe(error))
}

fn is_certain(error: &Error) -> bool {
    if error.contains_label(NO_WRITES_PERFORMED) {
        return true;
    }
    match &*error.kind {
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::Shutdown => true,
        // Only a connection that was never made is refused.
        ErrorKind::Io(io) => io.kind() == std::io::ErrorKind::ConnectionRefused,
        ErrorKind::Command(command) => REJECTED.contains(&command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => !CUT_SHORT.contains(&write.code),
        _ => false,
    }
}

/// What happened, for a log: the server's words, never the address the driver was given.
pub(super) fn describe(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::Command(command) => {
            format!("MongoDB error {} ({}): {}", command.code, command.code_name, command.message)
        }
        ErrorKind::Write(WriteFailure::WriteError(write)) => {
            format!("MongoDB error {} ({})", write.code, write.code_name.as_deref().unwrap_or("unnamed"))
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => describe_concern(concern),
        ErrorKind::InsertMany(insert) => {
            insert.write_concern_error.as_ref().map_or_else(|| "insert failed".to_owned(), describe_concern)
        }
        kind => kind.to_string(),
    }
}

/// The majority did not confirm in time.
pub(super) fn describe_concern(concern: &mongodb::error::WriteConcernError) -> String {
    format!("MongoDB write concern {} ({})", concern.code, concern.code_name)
}

/// A failure to prepare the collection, by what the operator must do.
pub(crate) fn refused(error: &Error) -> OpenError {
    let text = describe(error);
    // A wrong password shows as a server that cannot be selected, with the reason in its description.
    let credentials = text.contains("Authentication failed") || text.contains("SCRAM failure");
    match &*error.kind {
        ErrorKind::Authentication { .. } => OpenError::Refused(text),
        ErrorKind::Command(command) if [13, 18].contains(&command.code) => OpenError::Refused(text),
        _ if credentials => OpenError::Refused(text),
        ErrorKind::Command(_) | ErrorKind::IncompatibleServer { .. } => OpenError::Layout(text),
        _ => OpenError::Unreachable(text),
    }
}

/// An address that the driver does not take. What it says of it may repeat a password, so that only the commonest
/// faults are named.
pub(crate) fn unreadable(error: &Error, uri: &str) -> OpenError {
    if let ErrorKind::DnsResolve { .. } = *error.kind {
        return OpenError::Unreachable("its name cannot be looked up".into());
    }
    let Some(rest) = uri.strip_prefix("mongodb://").or_else(|| uri.strip_prefix("mongodb+srv://")) else {
        return OpenError::Address("it must begin with mongodb:// or mongodb+srv://");
    };
    let credentials = rest.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    OpenError::Address(
        if credentials.contains(['@', '/', '?', '#', '[', ']']) || credentials.matches(':').count() > 1 {
            "the characters : / ? # [ ] @ % of user and password must be percent-encoded"
        } else {
            "expected mongodb://[user:password@]host[:port][,…]/[database][?options]"
        },
    )
}
