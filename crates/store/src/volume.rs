//! Disks as the volume APIs know them: what is said of a volume beside its disk, and lists of volumes.

use crate::{
    Conn, Stored, Tx,
    column::{quantity, rows_of, text, text_opt},
    disk::{self, DiskRow},
    listing::{Field, ListedRows, Listing, Source},
};
use rusqlite::{OptionalExtension, Row, ToSql, params};
use std::{collections::BTreeMap, sync::LazyLock};
use stillpoint_types::{DiskId, Micros, ProjectId, UserId, VmId, VolumeSnapshotId, VolumeStatus, VolumeTypeId};
use uuid::Uuid;

/// A volume: its disk's row and what is known beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// The disk.
    pub disk: DiskRow,
    /// Who made it.
    pub user: Option<UserId>,
    /// Its type, and the type's name.
    pub of_type: (VolumeTypeId, String),
    /// What it is doing: what is stored, and what follows from jobs, damage and attachments.
    pub status: VolumeStatus,
    /// What a client or an administrator said that its status is.
    pub stated: Option<VolumeStatus>,
    /// A VM of ours has it.
    pub attached: bool,
    /// An empty name is one that was given.
    pub empty_name: bool,
    /// So is an empty description.
    pub empty_description: bool,
    /// To boot from: as was said, or as it is attached.
    pub bootable: bool,
    /// For reading only, if that was said.
    pub read_only: Option<bool>,
    /// What it began as.
    pub from_snapshot: Option<VolumeSnapshotId>,
    /// What it began as.
    pub from_volume: Option<DiskId>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its active image holds nothing: it shows what that one's parent does.
    pub pristine: bool,
    /// Last changed.
    pub updated_at: Option<Micros>,
}

fn volume_row(row: &Row<'_>) -> rusqlite::Result<VolumeRow> {
    let metadata: String = row.get("v_metadata")?;
    let bad = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    Ok(VolumeRow {
        metadata: serde_json::from_str(&metadata).map_err(bad)?,
        disk: disk::disk_row(row)?,
        user: text_opt(row, "v_user")?,
        of_type: (text(row, "v_type")?, row.get("v_type_name")?),
        status: text(row, "v_status")?,
        stated: text_opt(row, "v_stated")?,
        attached: row.get("v_attached")?,
        empty_name: row.get("v_empty_name")?,
        empty_description: row.get("v_empty_description")?,
        bootable: row.get("v_bootable")?,
        read_only: row.get("v_read_only")?,
        from_snapshot: text_opt(row, "v_from_snapshot")?,
        from_volume: text_opt(row, "v_from_volume")?,
        pristine: row.get("v_pristine")?,
        updated_at: row.get("updated_at")?,
    })
}

/// The status. A job that holds the disk comes first (its kind is the engine's word), then damage, then what was said, then
/// who has it. Jobs about snapshots leave it as it is: a volume stays usable meanwhile.
const STATUS: &str = "coalesce(
     CASE WHEN EXISTS (SELECT 1 FROM image WHERE image.id = disk.image_id AND image.state = 'creating') THEN 'creating' END,
     (SELECT CASE job.kind WHEN 'disk_extend' THEN 'extending' WHEN 'backup' THEN 'backing-up'
             WHEN 'disk_plug' THEN 'attaching' WHEN 'disk_unplug' THEN 'detaching'
             WHEN 'volume_revert' THEN 'reverting' WHEN 'snapshot_restore' THEN 'reverting'
             WHEN 'snapshot_preview' THEN 'reverting'
             WHEN 'image_transfer' THEN (SELECT CASE direction WHEN 'upload' THEN 'downloading' ELSE 'uploading' END
                                         FROM image_transfer WHERE image_transfer.id = job.id) END
      FROM entity_lock JOIN job ON job.id = entity_lock.job_id
      WHERE entity_lock.kind = 'disk' AND entity_lock.entity_id = disk.id
      AND job.kind IN ('disk_extend', 'backup', 'disk_plug', 'disk_unplug', 'volume_revert', 'snapshot_restore',
                       'snapshot_preview', 'image_transfer') LIMIT 1),
     CASE WHEN disk.illegal IS NOT NULL THEN 'error' END,
     volume.status,
     CASE WHEN EXISTS (SELECT 1 FROM attachment WHERE attachment.disk_id = disk.id) THEN 'in-use' END,
     'available')";

/// The type: the default one, unless it was given another.
const TYPE: &str = "coalesce(volume.type_id, '5e11bd1f-0000-4000-8000-00000000d15c')";

const BOOTABLE: &str = "coalesce(volume.bootable,
     (SELECT max(attachment.bootable) FROM attachment WHERE attachment.disk_id = disk.id), 0)";

/// Volumes as rows: a disk's columns, and what is known beside it.
static VOLUMES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "(SELECT disk.*, volume.user_id AS v_user, {TYPE} AS v_type,
          (SELECT volume_type.name FROM volume_type WHERE volume_type.id = {TYPE}) AS v_type_name,
          {STATUS} AS v_status, volume.status AS v_stated,
          EXISTS (SELECT 1 FROM attachment WHERE attachment.disk_id = disk.id) AS v_attached,
          coalesce(volume.empty_name, 0) AS v_empty_name, coalesce(volume.empty_description, 0) AS v_empty_description,
          {BOOTABLE} AS v_bootable, volume.read_only AS v_read_only, volume.from_snapshot AS v_from_snapshot,
          volume.from_volume AS v_from_volume, coalesce(volume.metadata, '{{}}') AS v_metadata,
          coalesce(volume.pristine, 0) AS v_pristine
          FROM disk LEFT JOIN volume ON volume.disk_id = disk.id) AS v"
    )
});

static SOURCE: LazyLock<Source> = LazyLock::new(|| {
    Source {
    from: VOLUMES.as_str(),
    project: "v.project_id",
    metadata: "v.v_metadata",
    fields: vec![
        Field::text("id", "v.id"),
        Field::text("name", "v.alias"),
        Field::text("description", "v.description"),
        Field::text("status", "v.v_status"),
        Field::text("project_id", "v.project_id"),
        Field::text("user_id", "v.v_user").nullable(),
        Field::text("volume_type", "v.v_type_name"),
        Field::text("volume_type_id", "v.v_type"),
        Field::text("snapshot_id", "v.v_from_snapshot").nullable(),
        Field::text("source_volid", "v.v_from_volume").nullable(),
        Field::text("bootable", "iif(v.v_bootable, 'true', 'false')"),
        Field::text("consumes_quota", "'true'"),
        Field::number("size", "(v.size_bytes + 1073741823) / 1073741824"),
        Field::number("created_at", "v.created_at"),
        Field::number("updated_at", "v.updated_at").nullable(),
        Field::text(
            "server",
            "coalesce((SELECT attachment.vm_id FROM attachment WHERE attachment.disk_id = v.id LIMIT 1),
             (SELECT volume_attachment.server_id FROM volume_attachment WHERE volume_attachment.disk_id = v.id LIMIT 1))",
        )
        .nullable(),
    ],
}
});

/// A page; `None`: the thing that it should begin after is not there. Fields: `id`, `name`, `description`, `status`,
/// `project_id`, `user_id`, `volume_type` (its name), `volume_type_id`, `snapshot_id`, `source_volid`, `bootable` and
/// `consumes_quota` (`true` or `false`), `size` (GiB), `created_at`, `updated_at`, `server`.
pub fn page(conn: &Conn, asked: &Listing) -> Stored<Option<ListedRows<VolumeRow>>> {
    let all = || many(conn, asked.projects.as_deref());
    SOURCE.read(conn, asked, all, volume_row)
}

/// How many there are in these projects (`None`: in all).
fn many(conn: &Conn, projects: Option<&[ProjectId]>) -> Stored<u64> {
    let Some(projects) = projects else {
        let sql = "SELECT coalesce(sum(volumes), 0) AS many FROM project_usage";
        return Ok(conn
            .sql()
            .prepare_cached(sql)?
            .query_row([], |row| quantity(row, "many"))?);
    };
    projects
        .iter()
        .try_fold(0, |many, id| Ok(many + crate::usage::of_project(conn, *id)?.volumes))
}

/// One volume.
pub fn get(conn: &Conn, id: DiskId) -> Stored<Option<VolumeRow>> {
    Ok(conn
        .sql()
        .prepare_cached(&format!("SELECT * FROM {} WHERE v.id = ?1", *VOLUMES))?
        .query_row([id.to_string()], volume_row)
        .optional()?)
}

/// What is known of a new volume beside its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The disk.
    pub disk: DiskId,
    /// Who made it.
    pub user: Option<UserId>,
    /// Its type.
    pub of_type: VolumeTypeId,
    /// What is said that its status is.
    pub stated: Option<VolumeStatus>,
    /// An empty name is one that was given.
    pub empty_name: bool,
    /// So is an empty description.
    pub empty_description: bool,
    /// To boot from, if that is known.
    pub bootable: Option<bool>,
    /// What it began as.
    pub from_snapshot: Option<VolumeSnapshotId>,
    /// What it began as.
    pub from_volume: Option<DiskId>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its active image holds nothing.
    pub pristine: bool,
}

/// Adds it; the disk's row must be there.
pub fn insert(tx: &Tx, beside: &Beside) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO volume (disk_id, user_id, type_id, status, empty_name, empty_description, bootable, from_snapshot,
                 from_volume, metadata, pristine)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            beside.disk.to_string(),
            beside.user.map(|user| user.to_string()),
            beside.of_type.to_string(),
            beside.stated.map(VolumeStatus::label),
            beside.empty_name,
            beside.empty_description,
            beside.bootable,
            beside.from_snapshot.map(|id| id.to_string()),
            beside.from_volume.map(|id| id.to_string()),
            json(&beside.metadata),
            beside.pristine
        ])?;
    Ok(())
}

/// Writes one column of what is known beside a disk, whether a row was there or not.
fn put(tx: &Tx, id: DiskId, column: &'static str, value: &dyn ToSql) -> Stored<()> {
    let sql = format!(
        "INSERT INTO volume (disk_id, {column}) VALUES (?1, ?2) ON CONFLICT (disk_id) DO UPDATE SET {column} = excluded.{column}"
    );
    tx.sql().prepare_cached(&sql)?.execute(params![id.to_string(), value])?;
    Ok(())
}

/// Says what the status is; `None`: it is derived.
pub fn set_stated(tx: &Tx, id: DiskId, status: Option<VolumeStatus>) -> Stored<()> {
    put(tx, id, "status", &status.map(VolumeStatus::label))?;
    disk::touch(tx, id)
}

/// Says whether it is one to boot from.
pub fn set_bootable(tx: &Tx, id: DiskId, bootable: bool) -> Stored<()> {
    put(tx, id, "bootable", &bootable)?;
    disk::touch(tx, id)
}

/// Says whether it is for reading only.
pub fn set_read_only(tx: &Tx, id: DiskId, read_only: bool) -> Stored<()> {
    put(tx, id, "read_only", &read_only)?;
    disk::touch(tx, id)
}

/// Says who has it made, or taken over.
pub fn set_user(tx: &Tx, id: DiskId, user: UserId) -> Stored<()> {
    put(tx, id, "user_id", &user.to_string())
}

/// Gives it a type.
pub fn set_type(tx: &Tx, id: DiskId, of_type: VolumeTypeId) -> Stored<()> {
    put(tx, id, "type_id", &of_type.to_string())?;
    disk::touch(tx, id)
}

/// Says that its active image holds nothing, or that nobody knows. Whatever may write to the disk takes it back.
pub fn set_pristine(tx: &Tx, id: DiskId, pristine: bool) -> Stored<()> {
    put(tx, id, "pristine", &pristine)
}

/// Hangs that on it, and nothing else.
pub fn set_metadata(tx: &Tx, id: DiskId, metadata: &BTreeMap<String, String>) -> Stored<()> {
    put(tx, id, "metadata", &json(metadata))?;
    disk::touch(tx, id)
}

fn json(metadata: &BTreeMap<String, String>) -> String {
    serde_json::Value::from_iter(metadata.clone()).to_string()
}

/// Whether empty texts are ones that were given.
pub fn set_empty(tx: &Tx, id: DiskId, name: bool, description: bool) -> Stored<()> {
    put(tx, id, "empty_name", &name)?;
    put(tx, id, "empty_description", &description)
}

// ---------------------------------------------------------------------- servers that are not VMs of ours

/// Such a server's attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideRow {
    /// Of the attachment.
    pub id: Uuid,
    /// The disk.
    pub disk: DiskId,
    /// The server, if it has an id.
    pub server: Option<VmId>,
    /// Its host, if that was named.
    pub host: Option<String>,
    /// Where the server has it.
    pub device: String,
    /// Not for writing.
    pub read_only: bool,
    /// Since when.
    pub attached_at: Micros,
}

fn outside_row(row: &Row<'_>) -> rusqlite::Result<OutsideRow> {
    Ok(OutsideRow {
        id: text(row, "id")?,
        disk: text(row, "disk_id")?,
        server: text_opt(row, "server_id")?,
        host: row.get("host")?,
        device: row.get("device")?,
        read_only: row.get("read_only")?,
        attached_at: row.get("attached_at")?,
    })
}

/// The servers outside that have these disks.
pub fn outside(conn: &Conn, ids: &[DiskId]) -> Stored<Vec<OutsideRow>> {
    let query = "SELECT * FROM volume_attachment WHERE disk_id IN ({}) ORDER BY disk_id, attached_at, id";
    rows_of(conn, query, ids, outside_row)
}

/// Adds one.
pub fn attach_outside(tx: &Tx, row: &OutsideRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO volume_attachment (id, disk_id, server_id, host, device, read_only, attached_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row.id.to_string(),
            row.disk.to_string(),
            row.server.map(|id| id.to_string()),
            row.host,
            row.device,
            row.read_only,
            row.attached_at
        ])?;
    Ok(())
}

/// No server outside has it any more.
pub fn detach_outside(tx: &Tx, id: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM volume_attachment WHERE disk_id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Where VMs of ours have these disks: the letter's place among the disks of its VM that bear names of the same kind.
pub fn device_places(conn: &Conn, ids: &[DiskId]) -> Stored<Vec<(DiskId, VmId, u64)>> {
    let query = "SELECT a.disk_id, a.vm_id, (
         SELECT count(*) FROM attachment AS b
         WHERE b.vm_id = a.vm_id AND (b.interface = 'virtio') = (a.interface = 'virtio')
         AND (b.interface, b.slot, b.disk_id) < (a.interface, a.slot, a.disk_id)) AS place
         FROM attachment AS a WHERE a.disk_id IN ({}) ORDER BY a.disk_id, a.vm_id";
    rows_of(conn, query, ids, |row| {
        Ok((text(row, "disk_id")?, text(row, "vm_id")?, quantity(row, "place")?))
    })
}
