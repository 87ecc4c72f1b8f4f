//! Types of volumes, what they ask of storage, and who sees them.

use crate::{
    Conn, Stored, Tx,
    column::{quantity, text},
};
use rusqlite::{OptionalExtension, Row, params};
use std::collections::BTreeMap;
use stillpoint_types::{Micros, ProjectId, VolumeTypeId};
use uuid::Uuid;

/// The type of those who name none: there in every catalogue.
pub const DEFAULT: VolumeTypeId = VolumeTypeId(Uuid::from_u128(0x5e11_bd1f_0000_4000_8000_0000_0000_d15c));

/// A type's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeRow {
    /// Its id.
    pub id: VolumeTypeId,
    /// Name, unique.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// Seen by every project.
    pub is_public: bool,
    /// Made.
    pub created_at: Micros,
}

fn type_row(row: &Row<'_>) -> rusqlite::Result<TypeRow> {
    Ok(TypeRow {
        id: text(row, "id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        is_public: row.get("is_public")?,
        created_at: row.get("created_at")?,
    })
}

/// All types, the default one first, then newest first.
pub fn all(conn: &Conn) -> Stored<Vec<TypeRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM volume_type ORDER BY id = ?1 DESC, created_at DESC, id")?;
    Ok(statement
        .query_map([DEFAULT.to_string()], type_row)?
        .collect::<Result<_, _>>()?)
}

/// One type.
pub fn get(conn: &Conn, id: VolumeTypeId) -> Stored<Option<TypeRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM volume_type WHERE id = ?1")?
        .query_row([id.to_string()], type_row)
        .optional()?)
}

/// The type of that name.
pub fn by_name(conn: &Conn, name: &str) -> Stored<Option<TypeRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM volume_type WHERE name = ?1")?
        .query_row([name], type_row)
        .optional()?)
}

/// Writes a type, new or changed. A name that is taken is `StoreError::Duplicate`.
pub fn put(tx: &Tx, row: &TypeRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO volume_type (id, name, description, is_public, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
             is_public = excluded.is_public",
        )?
        .execute(params![
            row.id.to_string(),
            row.name,
            row.description,
            row.is_public,
            row.created_at
        ])?;
    Ok(())
}

/// How many volumes have been given that type.
pub fn users(conn: &Conn, id: VolumeTypeId) -> Stored<u64> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT count(*) AS n FROM volume WHERE type_id = ?1")?
        .query_row([id.to_string()], |row| quantity(row, "n"))?)
}

/// Removes a type that no volume has.
pub fn delete(tx: &Tx, id: VolumeTypeId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM volume_type WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// What each type asks of storage.
pub fn specs(conn: &Conn) -> Stored<Vec<(VolumeTypeId, String, String)>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM volume_type_spec ORDER BY type_id, key")?;
    let row = |row: &Row<'_>| Ok((text(row, "type_id")?, row.get("key")?, row.get("value")?));
    Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
}

/// What one type asks of storage.
pub fn specs_of(conn: &Conn, id: VolumeTypeId) -> Stored<BTreeMap<String, String>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT key, value FROM volume_type_spec WHERE type_id = ?1")?;
    let row = |row: &Row<'_>| Ok((row.get("key")?, row.get("value")?));
    Ok(statement.query_map([id.to_string()], row)?.collect::<Result<_, _>>()?)
}

/// Makes it exactly that.
pub fn set_specs(tx: &Tx, id: VolumeTypeId, specs: &BTreeMap<String, String>) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM volume_type_spec WHERE type_id = ?1")?
        .execute([id.to_string()])?;
    for (key, value) in specs {
        tx.sql()
            .prepare_cached("INSERT INTO volume_type_spec (type_id, key, value) VALUES (?1, ?2, ?3)")?
            .execute(params![id.to_string(), key, value])?;
    }
    Ok(())
}

/// Which projects see which types that are not public.
pub fn access(conn: &Conn) -> Stored<Vec<(VolumeTypeId, ProjectId)>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM volume_type_access ORDER BY type_id, project_id")?;
    let row = |row: &Row<'_>| Ok((text(row, "type_id")?, text(row, "project_id")?));
    Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
}

/// Lets a project see a type, or not any more; whether that changed anything.
pub fn set_access(tx: &Tx, id: VolumeTypeId, project: ProjectId, seen: bool) -> Stored<bool> {
    let sql = if seen {
        "INSERT INTO volume_type_access (type_id, project_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM volume_type_access WHERE type_id = ?1 AND project_id = ?2"
    };
    let changed = tx
        .sql()
        .prepare_cached(sql)?
        .execute(params![id.to_string(), project.to_string()])?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_migration_and_the_program_mean_the_same_default_type() {
        let migration = include_str!("../migrations/sqlite/0010_volume.sql");
        assert!(migration.contains(&format!("('{}', 'default'", super::DEFAULT)));
    }
}
