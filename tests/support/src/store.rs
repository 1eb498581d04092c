//! Owns which store a server under test keeps its state in. Everything that starts a server takes a [`StoreKind`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mongod::{Kind, Mongod};
use crate::server::Builder;

/// Where the server keeps what it must not lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// SQLite in the server's own directory.
    #[default]
    Sqlite,
    /// A database of its own on the MongoDB server that this process shares.
    Mongodb,
}

/// An empty store. Keep it as long as a server uses it.
#[derive(Debug)]
pub struct Store {
    mongod: Option<(Arc<Mongod>, String)>,
}

impl StoreKind {
    /// An empty store that nobody else uses.
    ///
    /// # Panics
    /// If MongoDB is wanted and there is no `mongod`.
    pub fn open(self) -> Store {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let mongod = (self == Self::Mongodb).then(|| {
            let mongod = Mongod::shared(Kind::Standalone);
            let number = DATABASES.fetch_add(1, Ordering::Relaxed);
            let uri = mongod.uri(&format!("test_{}_{number}", std::process::id()));
            (mongod, uri)
        });
        Store { mongod }
    }
}

impl Store {
    /// `MONGODB_URI`, unless it is SQLite.
    pub fn uri(&self) -> Option<&str> {
        self.mongod.as_ref().map(|(_, uri)| uri.as_str())
    }

    /// The server that `builder` starts uses this store.
    #[must_use]
    pub fn used_by(&self, builder: Builder) -> Builder {
        match self.uri() {
            Some(uri) => builder.env("MONGODB_URI", uri),
            None => builder,
        }
    }
}
