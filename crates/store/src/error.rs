//! What can go wrong between the catalogue and its callers.
//!
//! A `Display` never contains its source: the reporter walks the chain. Nothing here knows a dialect.

use rusqlite::ErrorCode;
use std::{path::PathBuf, sync::Arc};

/// A failure of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("a statement of the catalogue failed")]
    Sql(#[source] rusqlite::Error),
    /// A row with that primary key or unique name is there already. `0` names the table and columns.
    #[error("already there: {0}")]
    Duplicate(String),
    /// The database was written by a newer version of the program; nothing was changed.
    #[error(
        "the database has schema version {found}, this program knows versions up to {known}: start the newer program"
    )]
    Newer {
        /// The version in the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file is damaged, or is no SQLite database.
    #[error("{} is damaged or no SQLite database: {detail}; put back a copy", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The file is a healthy SQLite database of some other program; nothing was changed.
    #[error("{} is a database of another program", .0.display())]
    NotOurs(PathBuf),
    /// The file cannot be made or opened.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A column holds what this program would never write. `0` says where and what.
    #[error("the catalogue holds an impossible value: {0}")]
    BadValue(String),
    /// A job or a step was not in a state from which it may go where it was sent. `0` says which and where to.
    #[error("illegal order: {0}")]
    IllegalOrder(String),
    /// The batch that the write was part of did not commit, for a reason that may lie outside of this write. The write
    /// has not happened for this run of the program. Only if the disk failed the final sync can it be found there after a
    /// restart: SQLite then cannot know what reached the disk.
    #[error("the transaction did not commit ({stage})")]
    NotCommitted {
        /// Which of `begin`, `savepoint`, `commit` failed.
        stage: &'static str,
        /// Why; shared, because every write of the batch gets it.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The work panicked; its writes were rolled back. `0` is the panic's message.
    #[error("work on the catalogue panicked: {0}")]
    Panicked(String),
    /// The queue stayed full for its whole deadline. The work was not done.
    #[error("the catalogue is overloaded: its queue stayed full")]
    Overloaded,
    /// The store is closed. The work was not done.
    #[error("the catalogue is closed")]
    Closed,
    /// The thread that ran the work ended without an answer; the outcome is unknown.
    #[error("the catalogue gave no answer")]
    Unanswered,
}

impl StoreError {
    /// Whether a row with the same key was there already.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate(_))
    }

    /// Tells damage from everything else that can go wrong while the file is opened.
    pub(crate) fn opening(path: &std::path::Path, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Corrupt {
                path: path.to_owned(),
                detail: error.to_string(),
            },
            _ => Self::Open {
                path: path.to_owned(),
                source: Box::new(error),
            },
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
        match error {
            rusqlite::Error::SqliteFailure(code, message)
                if matches!(
                    code.extended_code,
                    SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE
                ) =>
            {
                Self::Duplicate(message.unwrap_or_else(|| "a unique key".to_owned()))
            }
            rusqlite::Error::FromSqlConversionFailure(column, _, source) => {
                Self::BadValue(format!("column {column}: {source}"))
            }
            other => Self::Sql(other),
        }
    }
}
