//! What each project has. Triggers of migration 0008 keep it, in the transaction of each change; here it is only read.

use crate::{Conn, Stored, column::quantity};
use rusqlite::Row;
use stillpoint_types::{ProjectId, VolumeTypeId};

/// What a project has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// Volumes: disks of every origin.
    pub volumes: u64,
    /// Snapshots of single volumes, those of backups left out.
    pub snapshots: u64,
    /// GiB of both, each thing rounded up.
    pub gigabytes: u64,
}

fn usage_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    Ok(UsageRow {
        volumes: quantity(row, "volumes")?,
        snapshots: quantity(row, "snapshots")?,
        gigabytes: quantity(row, "gigabytes")?,
    })
}

/// What a project has now.
pub fn of_project(conn: &Conn, project: ProjectId) -> Stored<UsageRow> {
    let sql = "SELECT coalesce(sum(volumes), 0) AS volumes, coalesce(sum(snapshots), 0) AS snapshots,
               coalesce(sum(gigabytes), 0) AS gigabytes FROM project_usage WHERE project_id = ?1";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([project.to_string()], usage_row)?)
}

/// How many snapshots there are in these projects (`None`: in all), those of backups with them.
pub(crate) fn snapshots_in(conn: &Conn, projects: Option<&[ProjectId]>) -> Stored<u64> {
    let count = |sql: &str, values: &[String]| -> Stored<u64> {
        let values = rusqlite::params_from_iter(values);
        Ok(conn
            .sql()
            .prepare_cached(sql)?
            .query_row(values, |row| quantity(row, "many"))?)
    };
    let counted = "SELECT coalesce(sum(snapshots), 0) AS many FROM project_usage";
    // By their own index: there are few.
    let of_backups = "SELECT count(*) AS many FROM volume_snapshot WHERE backup_id IS NOT NULL";
    let Some(projects) = projects else {
        return Ok(count(counted, &[])? + count(of_backups, &[])?);
    };
    let mut many = 0;
    for project in projects {
        let value = [project.to_string()];
        many += count(&format!("{counted} WHERE project_id = ?1"), &value)?;
        many += count(&format!("{of_backups} AND +project_id = ?1"), &value)?;
    }
    Ok(many)
}

/// What a project has of one type: volumes, snapshots, GiB. Counted when it is asked: limits of single types are rare.
pub fn of_type(conn: &Conn, project: ProjectId, of_type: VolumeTypeId) -> Stored<UsageRow> {
    let sql = "WITH held AS (SELECT disk.id, disk.project_id, disk.size_bytes FROM disk LEFT JOIN volume ON volume.disk_id = disk.id
                             WHERE coalesce(volume.type_id, ?3) = ?2),
                    taken AS (SELECT volume_snapshot.size_bytes FROM volume_snapshot JOIN held ON held.id = volume_snapshot.disk_id
                              WHERE volume_snapshot.project_id = ?1 AND volume_snapshot.backup_id IS NULL)
               SELECT (SELECT count(*) FROM held WHERE project_id = ?1) AS volumes,
                      (SELECT count(*) FROM taken) AS snapshots,
                      (SELECT coalesce(sum((size_bytes + 1073741823) / 1073741824), 0) FROM held WHERE project_id = ?1)
                      + (SELECT coalesce(sum((size_bytes + 1073741823) / 1073741824), 0) FROM taken) AS gigabytes";
    let default = crate::volume_type::DEFAULT;
    Ok(conn.sql().prepare_cached(sql)?.query_row(
        [project.to_string(), of_type.to_string(), default.to_string()],
        usage_row,
    )?)
}
