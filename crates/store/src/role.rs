//! Who has which role in which project: at most one role a user and project.

use crate::{Conn, StoreError, Tx, column};
use stillpoint_types::{ProjectId, Role, UserId};

/// The roles of a user, in the order in which they were first granted.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn of_user(conn: &Conn, user: UserId) -> Result<Vec<(ProjectId, Role)>, StoreError> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT project_id, role FROM role_assignment WHERE user_id = ?1 ORDER BY seq")?;
    let rows = statement.query_map([user.to_string()], |row| {
        Ok((column::text(row, "project_id")?, column::text(row, "role")?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Grants a role, in place of the one that the user has in the project, whose rank in the order stays.
///
/// # Errors
/// `Sql`, also if there is no such user or project.
pub fn grant(tx: &Tx, user: UserId, project: ProjectId, role: Role) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO role_assignment (user_id, project_id, role) VALUES (?1, ?2, ?3)
             ON CONFLICT (user_id, project_id) DO UPDATE SET role = excluded.role",
        )?
        .execute((user.to_string(), project.to_string(), role.label()))?;
    Ok(())
}
