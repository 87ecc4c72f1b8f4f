//! Brings a database file to the schema that this program knows.
//!
//! Crash consistency: all missing migrations and their rows in `schema_version` are one transaction, so a crash leaves the
//! old schema or the new one. A file of a newer program or of another program is refused before anything in it changes.

use crate::StoreError;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use stillpoint_types::now_micros;

/// One step of the schema.
struct Migration {
    /// Grows by one; never reused.
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// Every migration, in order. One that was released is never edited: what must change becomes a new one.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "identity",
        sql: include_str!("../migrations/sqlite/0001_identity.sql"),
    },
    Migration {
        version: 2,
        name: "graph",
        sql: include_str!("../migrations/sqlite/0002_graph.sql"),
    },
    Migration {
        version: 3,
        name: "transfer",
        sql: include_str!("../migrations/sqlite/0003_transfer.sql"),
    },
    Migration {
        version: 4,
        name: "half_merged",
        sql: include_str!("../migrations/sqlite/0004_half_merged.sql"),
    },
    Migration {
        version: 5,
        name: "backup",
        sql: include_str!("../migrations/sqlite/0005_backup.sql"),
    },
    Migration {
        version: 6,
        name: "preview",
        sql: include_str!("../migrations/sqlite/0006_preview.sql"),
    },
    Migration {
        version: 7,
        name: "clients",
        sql: include_str!("../migrations/sqlite/0007_clients.sql"),
    },
    Migration {
        version: 8,
        name: "volume_snapshot",
        sql: include_str!("../migrations/sqlite/0008_volume_snapshot.sql"),
    },
    Migration {
        version: 9,
        name: "keystone",
        sql: include_str!("../migrations/sqlite/0009_keystone.sql"),
    },
    Migration {
        version: 10,
        name: "volume",
        sql: include_str!("../migrations/sqlite/0010_volume.sql"),
    },
    Migration {
        version: 11,
        name: "exposed",
        sql: include_str!("../migrations/sqlite/0011_exposed.sql"),
    },
    Migration {
        version: 12,
        name: "volume_backup",
        sql: include_str!("../migrations/sqlite/0012_volume_backup.sql"),
    },
    Migration {
        version: 13,
        name: "repair",
        sql: include_str!("../migrations/sqlite/0013_repair.sql"),
    },
    Migration {
        version: 14,
        name: "seal",
        sql: include_str!("../migrations/sqlite/0014_seal.sql"),
    },
];

/// The schema version that this program writes.
#[must_use]
pub fn known_version() -> i64 {
    MIGRATIONS.last().map_or(0, |last| last.version)
}

/// The version that the file has; 0 if it is empty.
///
/// # Errors
/// `NotOurs` if there are tables but none of ours, `Newer` if this program is too old for it, `Corrupt`.
pub(crate) fn check(path: &Path, sql: &Connection) -> Result<i64, StoreError> {
    let opening = |error| StoreError::opening(path, error);
    let tables: i64 = sql
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .map_err(opening)?;
    if tables == 0 {
        return Ok(0);
    }
    let ours = sql.table_exists(None, "schema_version").map_err(opening)?;
    if !ours {
        return Err(StoreError::NotOurs(path.to_owned()));
    }
    let found: i64 = sql
        .query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| {
            row.get(0)
        })
        .map_err(opening)?;
    let known = known_version();
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    Ok(found)
}

/// Applies what is missing. Returns how many migrations ran.
///
/// # Errors
/// Those of [`check`], and `Open` if a statement fails; the file is then as it was.
pub(crate) fn apply(path: &Path, sql: &mut Connection) -> Result<usize, StoreError> {
    let opening = |error| StoreError::opening(path, error);
    let tx = sql
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(opening)?;
    let found = check(path, &tx)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_version (
             version    INTEGER NOT NULL PRIMARY KEY,
             name       TEXT    NOT NULL,
             applied_at INTEGER NOT NULL
         ) STRICT",
    )
    .map_err(opening)?;
    let mut applied = 0;
    for step in MIGRATIONS.iter().filter(|step| step.version > found) {
        tx.execute_batch(step.sql).map_err(opening)?;
        tx.execute(
            "INSERT INTO schema_version (version, name, applied_at) VALUES (?1, ?2, ?3)",
            (step.version, step.name, now_micros()),
        )
        .map_err(opening)?;
        tracing::info!(version = step.version, name = step.name, "schema migrated");
        applied += 1;
    }
    tx.commit().map_err(opening)?;
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow() {
        for pair in MIGRATIONS.windows(2) {
            assert!(pair[0].version < pair[1].version, "{}", pair[1].name);
        }
    }

    #[test]
    fn a_failing_migration_leaves_no_trace() {
        let mut sql = Connection::open_in_memory().unwrap();
        // A table of ours in the way makes the first migration fail half-way.
        sql.execute_batch(
            "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
                 applied_at INTEGER NOT NULL) STRICT;
             CREATE TABLE app_user (x INTEGER) STRICT;",
        )
        .unwrap();
        assert!(apply(Path::new("memory"), &mut sql).is_err());
        assert!(!sql.table_exists(None, "project").unwrap());
        assert_eq!(check(Path::new("memory"), &sql).unwrap(), 0);
    }
}
