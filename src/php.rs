//! The server that was here before, in PHP: what it leaves in its database. Read by `import-php`, from MongoDB or a file,
//! and by the running server, which takes a token over when a box first brings it (`store/mongo/php.rs`).

pub(crate) mod entry;
