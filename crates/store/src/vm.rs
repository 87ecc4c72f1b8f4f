//! VMs and their attachments.

use crate::{
    Conn, Query, Rows, Sort, Stored, Tx,
    column::{quantity, rows_of, text, text_opt},
    find::{self, Table},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, DiskInterface, MemoryId, Micros, ProjectId, VmId, VmStatus};

/// A VM's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRow {
    /// Its id.
    pub id: VmId,
    /// Whose it is.
    pub project: ProjectId,
    /// Name, unique.
    pub name: String,
    /// The engine's record, JSON.
    pub config: String,
    /// Status.
    pub status: VmStatus,
    /// More about the status.
    pub status_detail: String,
    /// The engine's record of the process, JSON.
    pub process: Option<String>,
    /// The memory that the next start resumes.
    pub resume_memory: Option<MemoryId>,
    /// Counts changes of the configuration.
    pub generation: u64,
    /// Made.
    pub created_at: Micros,
    /// Last start.
    pub started_at: Option<Micros>,
    /// Last stop.
    pub stopped_at: Option<Micros>,
}

fn vm_row(row: &Row<'_>) -> rusqlite::Result<VmRow> {
    Ok(VmRow {
        id: text(row, "id")?,
        project: text(row, "project_id")?,
        name: row.get("name")?,
        config: row.get("config")?,
        status: text(row, "status")?,
        status_detail: row.get("status_detail")?,
        process: row.get("process")?,
        resume_memory: text_opt(row, "resume_memory")?,
        generation: quantity(row, "generation")?,
        created_at: row.get("created_at")?,
        started_at: row.get("started_at")?,
        stopped_at: row.get("stopped_at")?,
    })
}

/// Adds a VM. A name that is taken is `StoreError::Duplicate`.
pub fn insert(tx: &Tx, vm: &VmRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO vm (id, project_id, name, config, status, status_detail, generation, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            vm.id.to_string(),
            vm.project.to_string(),
            vm.name,
            vm.config,
            vm.status.label(),
            vm.status_detail,
            crate::column::stored(vm.generation),
            vm.created_at
        ])?;
    Ok(())
}

/// One VM.
pub fn get(conn: &Conn, id: VmId) -> Stored<Option<VmRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM vm WHERE id = ?1")?
        .query_row([id.to_string()], vm_row)
        .optional()?)
}

/// Those of the VMs that are there, in no order.
pub fn of_ids(conn: &Conn, ids: &[VmId]) -> Stored<Vec<VmRow>> {
    rows_of(conn, "SELECT * FROM vm WHERE id IN ({})", ids, vm_row)
}

/// Whether a name is taken.
pub fn id_by_name(conn: &Conn, name: &str) -> Stored<Option<VmId>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT id FROM vm WHERE name = ?1")?
        .query_row([name], |row| text(row, "id"))
        .optional()?)
}

/// Every VM that has, or may have, a process.
pub fn with_process(conn: &Conn) -> Stored<Vec<VmRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM vm WHERE status NOT IN ('down', 'suspended') OR process IS NOT NULL")?;
    Ok(statement.query_map([], vm_row)?.collect::<Result<_, _>>()?)
}

/// What can be asked of VMs, and their order.
const TABLE: Table = Table {
    name: "vm",
    id: "vm.id",
    project: "vm.project_id",
    order: Sort {
        field: "name",
        descending: false,
    },
    columns: &[
        find::text("name", "vm.name"),
        find::text("id", "vm.id"),
        find::text("status", "vm.status"),
        find::text("description", "vm.config ->> '$.description'"),
        find::text("comment", "vm.config ->> '$.comment'"),
        find::text("type", "vm.config ->> '$.vm_type'"),
        find::text("os", "vm.config ->> '$.os_type'"),
        find::number("memory", "CAST(vm.config ->> '$.memory_bytes' AS INTEGER)"),
        find::number(
            "guaranteed",
            "CAST(vm.config ->> '$.memory_guaranteed_bytes' AS INTEGER)",
        ),
        find::number(
            "cpus",
            "CAST(vm.config ->> '$.sockets' * vm.config ->> '$.cores' * vm.config ->> '$.threads' AS INTEGER)",
        ),
        find::number("created", "vm.created_at"),
        find::number("started", "vm.started_at"),
        find::number(
            "uptime",
            "CASE WHEN vm.process IS NOT NULL THEN unixepoch() - vm.started_at / 1000000 END",
        ),
        find::number(
            "illegal",
            "EXISTS (SELECT 1 FROM attachment JOIN disk ON disk.id = disk_id
             WHERE attachment.vm_id = vm.id AND disk.illegal IS NOT NULL)",
        ),
        find::related("disk", "disk.alias", DISKS),
        find::related("disk_id", "disk.id", DISKS),
        find::related("domain", "storage_domain.name", DOMAINS),
        find::related("snapshot", "snapshot.description", SNAPSHOTS),
    ],
};
const DISKS: &str = "SELECT 1 FROM attachment JOIN disk ON disk.id = disk_id WHERE attachment.vm_id = vm.id AND {}";
const DOMAINS: &str = "SELECT 1 FROM attachment JOIN disk ON disk.id = disk_id
     JOIN storage_domain ON storage_domain.id = disk.domain_id WHERE attachment.vm_id = vm.id AND {}";
const SNAPSHOTS: &str = "SELECT 1 FROM snapshot WHERE snapshot.vm_id = vm.id AND {}";

/// A page, by name where no order is asked for.
pub fn page(conn: &Conn, query: &Query) -> Stored<Rows<VmRow>> {
    query.read(conn, &TABLE, vm_row)
}

/// Writes name and configuration, and counts the change.
pub fn set_config(tx: &Tx, id: VmId, name: &str, config: &str) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE vm SET name = ?2, config = ?3, generation = generation + 1 WHERE id = ?1")?
        .execute(params![id.to_string(), name, config])?;
    Ok(())
}

/// Counts a change of the VM's snapshots or attachments.
pub fn touch(tx: &Tx, id: VmId) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE vm SET generation = generation + 1 WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Writes the status.
pub fn set_status(tx: &Tx, id: VmId, status: VmStatus, detail: &str) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE vm SET status = ?2, status_detail = ?3 WHERE id = ?1")?
        .execute(params![id.to_string(), status.label(), detail])?;
    Ok(())
}

/// Records that a process runs.
pub fn set_started(tx: &Tx, id: VmId, process: &str, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE vm SET process = ?2, started_at = ?3 WHERE id = ?1")?
        .execute(params![id.to_string(), process, at])?;
    Ok(())
}

/// Records that no process runs any more; the status becomes `down`, or `suspended` where a memory waits. Its guest is not
/// frozen any more, whoever had frozen it.
pub fn set_stopped(tx: &Tx, id: VmId, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE vm SET process = NULL, stopped_at = ?2, status_detail = '',
             status = CASE WHEN resume_memory IS NULL THEN 'down' ELSE 'suspended' END WHERE id = ?1",
        )?
        .execute(params![id.to_string(), at])?;
    crate::freeze::delete(tx, id)?;
    Ok(())
}

/// Sets or clears the memory that the next start resumes.
pub fn set_resume_memory(tx: &Tx, id: VmId, memory: Option<MemoryId>) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE vm SET resume_memory = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), memory.map(|m| m.to_string())])?;
    Ok(())
}

/// Removes a VM; its attachments and snapshots must be gone.
pub fn delete(tx: &Tx, id: VmId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM vm WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Number of VMs, and of those that are up.
pub fn count(conn: &Conn) -> Stored<(u64, u64)> {
    let sql = "SELECT count(*) AS total, count(*) FILTER (WHERE status NOT IN ('down', 'suspended')) AS active FROM vm";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([], |row| Ok((quantity(row, "total")?, quantity(row, "active")?)))?)
}

// ------------------------------------------------------------------------------------------- attachments

/// An attachment's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentRow {
    /// The VM.
    pub vm: VmId,
    /// The disk.
    pub disk: DiskId,
    /// Bus.
    pub interface: DiskInterface,
    /// Bootable.
    pub bootable: bool,
    /// Plugged.
    pub active: bool,
    /// Guest cannot write.
    pub read_only: bool,
    /// Device place.
    pub slot: u8,
    /// Order among the VM's disks.
    pub position: u32,
}

fn attachment_row(row: &Row<'_>) -> rusqlite::Result<AttachmentRow> {
    Ok(AttachmentRow {
        vm: text(row, "vm_id")?,
        disk: text(row, "disk_id")?,
        interface: text(row, "interface")?,
        bootable: row.get("bootable")?,
        active: row.get("active")?,
        read_only: row.get("read_only")?,
        slot: row.get("slot")?,
        position: row.get("position")?,
    })
}

/// The attachments of a VM, in device order.
pub fn attachments(conn: &Conn, vm: VmId) -> Stored<Vec<AttachmentRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM attachment WHERE vm_id = ?1 ORDER BY position, disk_id")?;
    Ok(statement
        .query_map([vm.to_string()], attachment_row)?
        .collect::<Result<_, _>>()?)
}

/// The attachments of several VMs, those of each in device order.
pub fn attachments_of_all(conn: &Conn, vms: &[VmId]) -> Stored<Vec<AttachmentRow>> {
    let query = "SELECT * FROM attachment WHERE vm_id IN ({}) ORDER BY vm_id, position, disk_id";
    rows_of(conn, query, vms, attachment_row)
}

/// The attachments of several disks, those of each by VM.
pub fn attachments_of_disks(conn: &Conn, disks: &[DiskId]) -> Stored<Vec<AttachmentRow>> {
    let query = "SELECT * FROM attachment WHERE disk_id IN ({}) ORDER BY disk_id, vm_id";
    rows_of(conn, query, disks, attachment_row)
}

/// The attachments of a disk.
pub fn attachments_of_disk(conn: &Conn, disk: DiskId) -> Stored<Vec<AttachmentRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM attachment WHERE disk_id = ?1 ORDER BY vm_id")?;
    Ok(statement
        .query_map([disk.to_string()], attachment_row)?
        .collect::<Result<_, _>>()?)
}

/// Writes an attachment, new or changed.
pub fn put_attachment(tx: &Tx, a: &AttachmentRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO attachment (vm_id, disk_id, interface, bootable, active, read_only, slot, position)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (vm_id, disk_id) DO UPDATE SET interface = excluded.interface, bootable = excluded.bootable,
         active = excluded.active, read_only = excluded.read_only, slot = excluded.slot, position = excluded.position",
        )?
        .execute(params![
            a.vm.to_string(),
            a.disk.to_string(),
            a.interface.label(),
            a.bootable,
            a.active,
            a.read_only,
            a.slot,
            a.position
        ])?;
    crate::disk::touch(tx, a.disk)
}

/// Removes an attachment.
pub fn delete_attachment(tx: &Tx, vm: VmId, disk: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM attachment WHERE vm_id = ?1 AND disk_id = ?2")?
        .execute(params![vm.to_string(), disk.to_string()])?;
    crate::disk::touch(tx, disk)
}
