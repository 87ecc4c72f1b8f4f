//! Snapshots of single volumes: those that the volume APIs made, and the members of VM snapshots (migration 0008).

use crate::{
    Conn, Stored, Tx,
    column::{quantity, stored, text, text_opt},
    listing::{Field, ListedRows, Listing, Source, Test},
};
use rusqlite::{OptionalExtension, Row, params};
use std::collections::BTreeMap;
use stillpoint_types::{
    BackupId, DiskId, ImageId, Micros, ProjectId, SnapshotId, UserId, VolumeSnapshotId, VolumeSnapshotStatus,
};

/// A snapshot's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSnapshotRow {
    /// Its id.
    pub id: VolumeSnapshotId,
    /// Its volume.
    pub disk: DiskId,
    /// Whose it is.
    pub project: ProjectId,
    /// Who made it, if that is known.
    pub user: Option<UserId>,
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// The volume's bytes at that moment.
    pub size_bytes: u64,
    /// What is recorded; `available` gives way to what jobs do ([`live`]).
    pub status: VolumeSnapshotStatus,
    /// How much of it is made, in percent.
    pub progress: u8,
    /// Why its making or removal failed.
    pub reason: Option<String>,
    /// Made.
    pub created_at: Micros,
    /// Last changed.
    pub updated_at: Option<Micros>,
    /// The VM snapshot that it is a member of.
    pub vm_snapshot: Option<SnapshotId>,
    /// Its image, unless it is a member or not made yet.
    pub image: Option<ImageId>,
    /// The backup that it was made for.
    pub backup: Option<BackupId>,
    /// A client of a volume API asked for it.
    pub by_volume: bool,
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<VolumeSnapshotRow> {
    let metadata: String = row.get("metadata")?;
    let bad = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    Ok(VolumeSnapshotRow {
        id: text(row, "id")?,
        disk: text(row, "disk_id")?,
        project: text(row, "project_id")?,
        user: text_opt(row, "user_id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        metadata: serde_json::from_str(&metadata).map_err(bad)?,
        size_bytes: quantity(row, "size_bytes")?,
        status: text(row, "status")?,
        progress: row.get("progress")?,
        reason: row.get("reason")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        vm_snapshot: text_opt(row, "vm_snapshot_id")?,
        image: text_opt(row, "image_id")?,
        backup: text_opt(row, "backup_id")?,
        by_volume: row.get("by_volume")?,
    })
}

/// Metadata as it is stored: a JSON object of texts.
pub(crate) fn json(metadata: &BTreeMap<String, String>) -> String {
    serde_json::Value::from_iter(metadata.clone()).to_string()
}

/// Adds a snapshot.
pub fn insert(tx: &Tx, s: &VolumeSnapshotRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO volume_snapshot (id, disk_id, project_id, user_id, name, description, metadata, size_bytes, status,
             progress, reason, created_at, updated_at, vm_snapshot_id, image_id, backup_id, by_volume)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            s.id.to_string(),
            s.disk.to_string(),
            s.project.to_string(),
            s.user.map(|id| id.to_string()),
            s.name,
            s.description,
            json(&s.metadata),
            stored(s.size_bytes),
            s.status.label(),
            s.progress,
            s.reason,
            s.created_at,
            s.updated_at,
            s.vm_snapshot.map(|id| id.to_string()),
            s.image.map(|id| id.to_string()),
            s.backup.map(|id| id.to_string()),
            s.by_volume
        ])?;
    Ok(())
}

fn one(conn: &Conn, wheres: &str, values: &[String]) -> Stored<Option<VolumeSnapshotRow>> {
    let sql = format!("SELECT * FROM volume_snapshot WHERE {wheres}");
    let values = rusqlite::params_from_iter(values);
    Ok(conn.sql().prepare_cached(&sql)?.query_row(values, row_of).optional()?)
}

/// One snapshot.
pub fn get(conn: &Conn, id: VolumeSnapshotId) -> Stored<Option<VolumeSnapshotRow>> {
    one(conn, "id = ?1", &[id.to_string()])
}

/// A disk's newest one.
pub fn newest(conn: &Conn, disk: DiskId) -> Stored<Option<VolumeSnapshotRow>> {
    let wheres = "disk_id = ?1 ORDER BY created_at DESC, id DESC LIMIT 1";
    one(conn, wheres, &[disk.to_string()])
}

/// What a client of a volume API asked for, if the VM snapshot is that.
pub fn asked_as(conn: &Conn, vm_snapshot: SnapshotId) -> Stored<Option<VolumeSnapshotRow>> {
    one(
        conn,
        "vm_snapshot_id = ?1 AND by_volume = 1 LIMIT 1",
        &[vm_snapshot.to_string()],
    )
}

/// How many snapshots a disk has.
pub fn count_of_disk(conn: &Conn, disk: DiskId) -> Stored<u64> {
    let sql = "SELECT count(*) AS many FROM volume_snapshot WHERE disk_id = ?1";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([disk.to_string()], |row| quantity(row, "many"))?)
}

/// The image that holds what it shows; `None`: it is not made yet, or that failed.
pub fn image_of(conn: &Conn, row: &VolumeSnapshotRow) -> Stored<Option<ImageId>> {
    let Some(vm_snapshot) = row.vm_snapshot else {
        return Ok(row.image);
    };
    let sql = "SELECT image_id FROM snapshot_disk WHERE snapshot_id = ?1 AND disk_id = ?2";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([vm_snapshot.to_string(), row.disk.to_string()], |row| {
            text(row, "image_id")
        })
        .optional()?)
}

/// Adds the row of a VM snapshot's member, if users see that snapshot.
pub(crate) fn insert_member(tx: &Tx, vm_snapshot: SnapshotId, disk: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO volume_snapshot (id, disk_id, project_id, name, size_bytes, status, progress, created_at,
             vm_snapshot_id, by_volume)
             SELECT ?1, disk.id, disk.project_id, substr(snapshot.description, 1, 255), disk.size_bytes, 'available', 100,
             max(snapshot.date, coalesce((SELECT max(created_at) + 1 FROM volume_snapshot WHERE disk_id = disk.id), 0)),
             snapshot.id, 0
             FROM snapshot, disk WHERE snapshot.id = ?2 AND snapshot.kind = 'regular' AND disk.id = ?3",
        )?
        .execute(params![
            VolumeSnapshotId::fresh().to_string(),
            vm_snapshot.to_string(),
            disk.to_string()
        ])?;
    Ok(())
}

/// What a client calls a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Makes the member of a VM snapshot the one that a client of a volume API asked for.
pub fn claim_member(
    tx: &Tx,
    vm_snapshot: SnapshotId,
    disk: DiskId,
    id: VolumeSnapshotId,
    user: UserId,
    texts: &Texts,
) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE volume_snapshot SET id = ?3, user_id = ?4, name = ?5, description = ?6, metadata = ?7, by_volume = 1
             WHERE vm_snapshot_id = ?1 AND disk_id = ?2",
        )?
        .execute(params![
            vm_snapshot.to_string(),
            disk.to_string(),
            id.to_string(),
            user.to_string(),
            texts.name,
            texts.description,
            json(&texts.metadata)
        ])?;
    Ok(())
}

/// Marks the members of a VM snapshot as those of a backup: users leave them alone, and no quota counts them.
pub fn mark_backup(
    tx: &Tx,
    vm_snapshot: SnapshotId,
    backup: BackupId,
    name: &str,
    metadata: &BTreeMap<String, String>,
) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE volume_snapshot SET backup_id = ?2, name = ?3, metadata = ?4 WHERE vm_snapshot_id = ?1",
        )?
        .execute(params![
            vm_snapshot.to_string(),
            backup.to_string(),
            name,
            json(metadata)
        ])?;
    Ok(())
}

/// The VM snapshot that a client of a volume API asked for was not made: its row stays without it, in error.
pub fn fail_member(tx: &Tx, vm_snapshot: SnapshotId, why: &str, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE volume_snapshot SET vm_snapshot_id = NULL, status = 'error', progress = 0, reason = ?2, updated_at = ?3
             WHERE vm_snapshot_id = ?1 AND by_volume = 1",
        )?
        .execute(params![vm_snapshot.to_string(), why, at])?;
    Ok(())
}

/// The removal of a VM snapshot failed: so did that of the member that a client of a volume API asked for.
pub fn fail_removal(tx: &Tx, vm_snapshot: SnapshotId, why: &str, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE volume_snapshot SET status = 'error_deleting', reason = ?2, updated_at = ?3
             WHERE vm_snapshot_id = ?1 AND by_volume = 1",
        )?
        .execute(params![vm_snapshot.to_string(), why, at])?;
    Ok(())
}

/// Whether snapshots of a disk are not made yet.
pub fn is_waiting(conn: &Conn, disk: DiskId) -> Stored<bool> {
    let sql = "SELECT 1 FROM volume_snapshot
               WHERE disk_id = ?1 AND status = 'creating' AND image_id IS NULL AND vm_snapshot_id IS NULL";
    Ok(conn.sql().prepare_cached(sql)?.exists([disk.to_string()])?)
}

/// Gives all snapshots of a disk that are not made yet their image: they are of one moment. Returns how many.
pub fn settle(tx: &Tx, disk: DiskId, image: ImageId) -> Stored<usize> {
    Ok(tx
        .sql()
        .prepare_cached(
            "UPDATE volume_snapshot SET image_id = ?2, status = 'available', progress = 100
             WHERE disk_id = ?1 AND status = 'creating' AND image_id IS NULL AND vm_snapshot_id IS NULL",
        )?
        .execute([disk.to_string(), image.to_string()])?)
}

/// Says of the same that they could not be made; which they are.
pub fn fail_waiting(tx: &Tx, disk: DiskId, why: &str, at: Micros) -> Stored<Vec<VolumeSnapshotId>> {
    let mut statement = tx.sql().prepare_cached(
        "UPDATE volume_snapshot SET status = 'error', reason = ?2, updated_at = ?3
         WHERE disk_id = ?1 AND status = 'creating' AND image_id IS NULL AND vm_snapshot_id IS NULL RETURNING id",
    )?;
    Ok(statement
        .query_map(params![disk.to_string(), why, at], |row| text(row, "id"))?
        .collect::<Result<_, _>>()?)
}

/// Writes name, description and metadata.
pub fn set_texts(tx: &Tx, id: VolumeSnapshotId, texts: &Texts, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE volume_snapshot SET name = ?2, description = ?3, metadata = ?4, updated_at = ?5 WHERE id = ?1",
        )?
        .execute(params![
            id.to_string(),
            texts.name,
            texts.description,
            json(&texts.metadata),
            at
        ])?;
    Ok(())
}

/// Writes the status, and the progress in percent if it is given.
pub fn set_status(
    tx: &Tx,
    id: VolumeSnapshotId,
    status: VolumeSnapshotStatus,
    progress: Option<u8>,
    at: Micros,
) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE volume_snapshot SET status = ?2, progress = coalesce(?3, progress), updated_at = ?4 WHERE id = ?1",
        )?
        .execute(params![id.to_string(), status.label(), progress, at])?;
    Ok(())
}

/// Gives the snapshots of a disk to another project.
pub fn set_project_of_disk(tx: &Tx, disk: DiskId, project: ProjectId) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE volume_snapshot SET project_id = ?2 WHERE disk_id = ?1")?
        .execute([disk.to_string(), project.to_string()])?;
    Ok(())
}

/// Takes a snapshot's row away; its image has one name less.
pub fn delete(tx: &Tx, id: VolumeSnapshotId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM volume_snapshot WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// What jobs, backups and transfers that are under way do to snapshots: as few rows as there are of these. It is shown in
/// place of a recorded `available`.
pub fn live(conn: &Conn) -> Stored<Vec<(VolumeSnapshotId, VolumeSnapshotStatus)>> {
    let mut statement = conn.sql().prepare_cached(
        // A job of another kind only looks at it.
        "SELECT v.id AS id, CASE job.kind WHEN 'snapshot_create' THEN 'creating' WHEN 'backup' THEN 'creating'
             WHEN 'snapshot_delete' THEN 'deleting' ELSE 'restoring' END AS status
         FROM entity_lock CROSS JOIN job ON job.id = job_id CROSS JOIN volume_snapshot AS v ON v.vm_snapshot_id = entity_id
         WHERE entity_lock.kind = 'snapshot'
         AND job.kind IN ('snapshot_create', 'backup', 'snapshot_delete', 'snapshot_restore', 'snapshot_preview')
         UNION ALL
         SELECT entity_id, 'restoring' FROM entity_lock WHERE kind = 'volume_snapshot'
         UNION ALL
         SELECT v.id, 'backing-up' FROM backup CROSS JOIN volume_snapshot AS v ON v.backup_id = backup.id
         WHERE backup.ended_at IS NULL
         UNION ALL
         SELECT v.id, 'backing-up' FROM image_transfer AS t CROSS JOIN volume_snapshot AS v ON v.image_id = t.image_id
         WHERE t.ended_at IS NULL AND t.by_image = 1
         UNION ALL
         SELECT v.id, 'backing-up' FROM image_transfer AS t CROSS JOIN snapshot_disk AS d ON d.image_id = t.image_id
         CROSS JOIN volume_snapshot AS v ON v.vm_snapshot_id = d.snapshot_id AND v.disk_id = d.disk_id
         WHERE t.ended_at IS NULL AND t.by_image = 1",
    )?;
    Ok(statement
        .query_map([], |row| Ok((text(row, "id")?, text(row, "status")?)))?
        .collect::<Result<_, _>>()?)
}

/// The status as it is shown, as SQL. What stands in it are ids and labels of the program.
fn shown_status(live: &[(VolumeSnapshotId, VolumeSnapshotStatus)]) -> String {
    let whens: Vec<_> = live
        .iter()
        .map(|(id, status)| format!("WHEN '{id}' THEN '{status}'"))
        .collect();
    if whens.is_empty() {
        return "v.status".into();
    }
    format!(
        "iif(v.status = 'available', CASE v.id {} ELSE v.status END, v.status)",
        whens.join(" ")
    )
}

/// A page; `None`: the marker is not there. Fields: `id`, `name`, `description`, `status` (as it is shown), `volume_id`,
/// `size` (GiB), `created_at`, `updated_at`, `project_id`, `user_id`, `consumes_quota`, `vm_snapshot`.
pub fn page(
    conn: &Conn,
    asked: &Listing,
    live: &[(VolumeSnapshotId, VolumeSnapshotStatus)],
) -> Stored<Option<ListedRows<VolumeSnapshotRow>>> {
    let mut asked = asked.clone();
    for at in 0..asked.tests.len() {
        let Some(Test::In("status", wanted)) = asked.tests.get(at) else {
            continue;
        };
        // What is shown is what is recorded then, and that has an index.
        if !live
            .iter()
            .any(|(_, status)| wanted.iter().any(|label| label == status.label()))
        {
            let recorded = Test::In("recorded", wanted.clone());
            asked.tests.push(recorded);
        }
    }
    let of_volume = |test: &Test| matches!(test, Test::In("volume_id" | "vm_snapshot", _));
    let source = Source {
        from: "volume_snapshot AS v",
        // A volume has fewer snapshots than its project has.
        project: if asked.tests.iter().any(of_volume) {
            "+v.project_id"
        } else {
            "v.project_id"
        },
        metadata: "v.metadata",
        fields: vec![
            Field::text("id", "v.id"),
            Field::text("name", "v.name").nullable(),
            Field::text("description", "v.description").nullable(),
            Field::text("status", shown_status(live)),
            Field::text("recorded", "v.status"),
            Field::text("volume_id", "v.disk_id"),
            Field::number("size", "(v.size_bytes + 1073741823) / 1073741824"),
            Field::number("created_at", "v.created_at"),
            Field::number("updated_at", "v.updated_at").nullable(),
            Field::text("project_id", "v.project_id"),
            Field::text("user_id", "v.user_id").nullable(),
            Field::text("consumes_quota", "iif(v.backup_id IS NULL, 'true', 'false')"),
            Field::text("vm_snapshot", "v.vm_snapshot_id").nullable(),
        ],
    };
    let all = || crate::usage::snapshots_in(conn, asked.projects.as_deref());
    source.read(conn, &asked, all, row_of)
}
