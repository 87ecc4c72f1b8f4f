//! Who has which roles in which project. Several may be granted; the highest counts, as it includes the others.

use crate::{Conn, StoreError, Tx, column};
use stillpoint_types::{ProjectId, Role, UserId};

/// The highest role of a user in each project, in the order in which the projects' first roles were granted.
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
    let mut highest: Vec<(ProjectId, Role)> = Vec::new();
    for row in rows {
        let (project, role): (ProjectId, Role) = row?;
        match highest.iter_mut().find(|(known, _)| *known == project) {
            Some((_, held)) if role.includes(*held) => *held = role,
            Some(_) => {}
            None => highest.push((project, role)),
        }
    }
    Ok(highest)
}

/// A grant, as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub user: UserId,
    /// Where.
    pub project: ProjectId,
    /// What.
    pub role: Role,
}

/// Grants in the order of granting: of a user, of a project, of both, or all.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn grants(conn: &Conn, user: Option<UserId>, project: Option<ProjectId>) -> Result<Vec<Grant>, StoreError> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT user_id, project_id, role FROM role_assignment
         WHERE (?1 IS NULL OR user_id = ?1) AND (?2 IS NULL OR project_id = ?2) ORDER BY seq",
    )?;
    let filter = (user.map(|id| id.to_string()), project.map(|id| id.to_string()));
    let rows = statement.query_map(filter, |row| {
        Ok(Grant {
            user: column::text(row, "user_id")?,
            project: column::text(row, "project_id")?,
            role: column::text(row, "role")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Grants a role in place of all that the user has in the project, whose rank in the order stays.
///
/// # Errors
/// `Sql`, also if there is no such user or project.
pub fn grant(tx: &Tx, user: UserId, project: ProjectId, role: Role) -> Result<(), StoreError> {
    let (user, project) = (user.to_string(), project.to_string());
    tx.sql()
        .prepare_cached(
            "DELETE FROM role_assignment WHERE user_id = ?1 AND project_id = ?2 AND seq >
                 (SELECT min(seq) FROM role_assignment WHERE user_id = ?1 AND project_id = ?2)",
        )?
        .execute((&user, &project))?;
    let changed = tx
        .sql()
        .prepare_cached("UPDATE role_assignment SET role = ?3 WHERE user_id = ?1 AND project_id = ?2")?
        .execute((&user, &project, role.label()))?;
    if changed == 0 {
        tx.sql()
            .prepare_cached("INSERT INTO role_assignment (user_id, project_id, role) VALUES (?1, ?2, ?3)")?
            .execute((&user, &project, role.label()))?;
    }
    Ok(())
}

/// Grants a role beside those that the user has in the project.
///
/// # Errors
/// `Sql`, also if there is no such user or project.
pub fn add(tx: &Tx, grant: Grant) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO role_assignment (user_id, project_id, role) VALUES (?1, ?2, ?3)
             ON CONFLICT (user_id, project_id, role) DO NOTHING",
        )?
        .execute((grant.user.to_string(), grant.project.to_string(), grant.role.label()))?;
    Ok(())
}

/// Takes a grant back; false if there was none.
///
/// # Errors
/// `Sql`.
pub fn remove(tx: &Tx, grant: Grant) -> Result<bool, StoreError> {
    let mut statement = tx
        .sql()
        .prepare_cached("DELETE FROM role_assignment WHERE user_id = ?1 AND project_id = ?2 AND role = ?3")?;
    Ok(statement.execute((grant.user.to_string(), grant.project.to_string(), grant.role.label()))? > 0)
}
