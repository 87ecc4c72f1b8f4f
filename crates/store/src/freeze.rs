//! Guests that their users have frozen, each until when.

use crate::{Conn, Stored, Tx, column::text};
use rusqlite::{OptionalExtension, params};
use stillpoint_types::{Micros, VmId};

/// Writes that a guest is about to be frozen, or for longer.
pub fn put(tx: &Tx, vm: VmId, until: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO user_freeze (vm_id, until) VALUES (?1, ?2)
             ON CONFLICT (vm_id) DO UPDATE SET until = excluded.until",
        )?
        .execute(params![vm.to_string(), until])?;
    Ok(())
}

/// Until when a VM's guest is frozen by its user, if it is.
pub fn until(conn: &Conn, vm: VmId) -> Stored<Option<Micros>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT until FROM user_freeze WHERE vm_id = ?1")?;
    Ok(statement
        .query_row([vm.to_string()], |row| row.get("until"))
        .optional()?)
}

/// All of them.
pub fn all(conn: &Conn) -> Stored<Vec<(VmId, Micros)>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT vm_id, until FROM user_freeze ORDER BY vm_id")?;
    Ok(statement
        .query_map([], |row| Ok((text(row, "vm_id")?, row.get("until")?)))?
        .collect::<Result<_, _>>()?)
}

/// It is thawed. Whether it was on the list.
pub fn delete(tx: &Tx, vm: VmId) -> Stored<bool> {
    let gone = tx
        .sql()
        .prepare_cached("DELETE FROM user_freeze WHERE vm_id = ?1")?
        .execute([vm.to_string()])?;
    Ok(gone > 0)
}
