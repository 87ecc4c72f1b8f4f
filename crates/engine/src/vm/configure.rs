//! Makes, changes and removes VMs: rows only, in one transaction each.
//!
//! Removing a VM takes the names of its images away in that transaction; the files follow by
//! [`crate::reconcile::tidy`], after a crash too.

use super::{spec, view::wrong_status};
use crate::{
    access,
    command::{
        Accepted, AddNic, AttachFields, CreateVm, DeleteVm, NicFields, Origin, RemoveNic, UpdateNic, UpdateVm, VmFields,
    },
    config::{NicConfig, VmConfig},
    disk::attach,
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, to_json},
    limits,
    lock::{self, Entity},
    snapshot::preview as snapshot_preview,
};
use std::{collections::HashSet, sync::Arc};
use stillpoint_store::{
    Tx,
    snapshot::{self, SnapshotRow},
    vm::{self, VmRow},
};
use stillpoint_types::{
    Caller, DiskId, FaultCode, Need, NicId, ProjectId, SnapshotId, SnapshotType, VmId, VmStatus, now_micros,
};

/// Text of the active snapshot, which clients look for.
pub(crate) const ACTIVE_DESCRIPTION: &str = "Active VM";

fn blank(machine: String) -> VmConfig {
    VmConfig {
        name: String::new(),
        description: String::new(),
        comment: String::new(),
        memory_bytes: 1 << 30,
        memory_guaranteed_bytes: 1 << 30,
        sockets: 1,
        cores: 1,
        threads: 1,
        os_type: "other".into(),
        kernel: None,
        initrd: None,
        cmdline: None,
        vm_type: "server".into(),
        delete_protected: false,
        machine,
        nics: Vec::new(),
    }
}

/// Puts the given fields into a configuration, checked.
pub(super) fn fill(config: &mut VmConfig, fields: &VmFields) -> Result<(), Fault> {
    let set = |place: &mut String, value: &Option<String>, what: &str, max: usize| -> Result<(), Fault> {
        let Some(value) = value else { return Ok(()) };
        limits::text(what, value, max)?;
        place.clone_from(value);
        Ok(())
    };
    if let Some(name) = &fields.name {
        limits::name("name", name)?;
        config.name.clone_from(name);
    }
    set(
        &mut config.description,
        &fields.description,
        "description",
        limits::TEXT_MAX,
    )?;
    set(&mut config.comment, &fields.comment, "comment", limits::TEXT_MAX)?;
    set(&mut config.os_type, &fields.os_type, "os.type", limits::NAME_MAX)?;
    if let Some(vm_type) = &fields.vm_type {
        if !["server", "desktop", "high_performance"].contains(&vm_type.as_str()) {
            return Err(Fault::new(
                FaultCode::InvalidValue,
                format!("{vm_type} is not a member of VmType"),
            ));
        }
        config.vm_type.clone_from(vm_type);
    }
    for (place, value, what, max) in [
        (&mut config.kernel, &fields.kernel, "os.kernel", limits::TEXT_MAX),
        (&mut config.initrd, &fields.initrd, "os.initrd", limits::TEXT_MAX),
        (&mut config.cmdline, &fields.cmdline, "os.cmdline", limits::CMDLINE_MAX),
    ] {
        if let Some(value) = value {
            limits::text(what, value, max)?;
            *place = (!value.is_empty()).then(|| value.clone());
        }
    }
    fill_hardware(config, fields)
}

fn fill_hardware(config: &mut VmConfig, fields: &VmFields) -> Result<(), Fault> {
    if let Some(bytes) = fields.memory_bytes {
        limits::range("memory", bytes, limits::MEMORY_MIN_BYTES, limits::MEMORY_MAX_BYTES)?;
        config.memory_bytes = bytes.next_multiple_of(1 << 20);
        config.memory_guaranteed_bytes = config.memory_bytes;
    }
    if let Some(bytes) = fields.memory_guaranteed_bytes {
        limits::range("memory_policy.guaranteed", bytes, 0, config.memory_bytes)?;
        config.memory_guaranteed_bytes = bytes;
    }
    for (place, value, what) in [
        (&mut config.sockets, fields.sockets, "cpu.topology.sockets"),
        (&mut config.cores, fields.cores, "cpu.topology.cores"),
        (&mut config.threads, fields.threads, "cpu.topology.threads"),
    ] {
        if let Some(value) = value {
            limits::range(what, u64::from(value), 1, u64::from(limits::CPUS_MAX))?;
            *place = value;
        }
    }
    let cpus = u64::from(config.sockets) * u64::from(config.cores) * u64::from(config.threads);
    limits::range("cpu.topology", cpus, 1, u64::from(limits::CPUS_MAX))?;
    if let Some(protected) = fields.delete_protected {
        config.delete_protected = protected;
    }
    Ok(())
}

pub(super) fn name_in_use(name: &str) -> Fault {
    Fault::new(
        FaultCode::NameInUse,
        format!("Cannot add VM. The VM name {name} is already in use; choose another."),
    )
}

pub(crate) async fn create(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CreateVm,
) -> Result<Accepted<VmId>, Fault> {
    access::may_create(who)?;
    let newest = engine.hypervisor.default_machine();
    let kept = command.machine.and_then(|machine| older(&machine, &newest));
    let mut config = blank(kept.unwrap_or(newest));
    if command.fields.name.is_none() {
        return Err(Fault::new(FaultCode::Incomplete, "Vm [name] required for add"));
    }
    fill(&mut config, &command.fields)?;
    for fields in &command.nics {
        let nic = new_nic(&config, &[], fields)?;
        config.nics.push(nic);
    }
    let disks = command.disks;
    expect_once(&disks)?;
    let (actor, who) = (Actor::of(who, origin), who.clone());
    let write = move |tx: &Tx| -> Result<VmId, Fault> {
        let id = VmId::fresh();
        let project = project(tx, &who, &disks)?;
        // A name of another project is taken too, as names are unique in the installation; nothing else of it is told.
        if vm::id_by_name(tx, &config.name)?.is_some() {
            return Err(name_in_use(&config.name));
        }
        let row = insert_vm(tx, id, project, &config)?;
        let text = format!("VM {} was created by {}.", config.name, actor.name);
        Event::new(What::VmAdded, text)
            .by(&actor)
            .vm(project, id, &config.name)
            .write(tx)?;
        let made = access::Vm {
            row,
            config: config.clone(),
        };
        for (disk, fields) in &disks {
            attach::take(tx, &who, &actor, &made, *disk, fields)?;
        }
        Ok(id)
    };
    Ok(Accepted {
        id: engine.store.write(write).await?,
        job: None,
    })
}

/// Writes the row of a new VM and its active snapshot's.
pub(super) fn insert_vm(tx: &Tx, id: VmId, project: ProjectId, config: &VmConfig) -> Result<VmRow, Fault> {
    let now = now_micros();
    let row = VmRow {
        id,
        project,
        name: config.name.clone(),
        config: to_json(config)?.to_string(),
        status: VmStatus::Down,
        status_detail: String::new(),
        process: None,
        resume_memory: None,
        generation: 1,
        created_at: now,
        started_at: None,
        stopped_at: None,
    };
    vm::insert(tx, &row)?;
    snapshot::insert(
        tx,
        &SnapshotRow {
            id: SnapshotId::fresh(),
            vm: id,
            kind: SnapshotType::Active,
            description: ACTIVE_DESCRIPTION.into(),
            date: now,
            seq: 1,
            memory: None,
            config: None,
        },
    )?;
    Ok(row)
}

/// Whose a new VM is. It is of one project with its disks, if somebody may operate there.
fn project(tx: &Tx, who: &Caller, disks: &[(DiskId, AttachFields)]) -> Result<ProjectId, Fault> {
    match disks.first() {
        Some((disk, _)) => Ok(access::named_disk(tx, who, *disk, Need::Operate)?.project),
        None => Ok(who.home_project),
    }
}

fn expect_once(disks: &[(DiskId, AttachFields)]) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    match disks.iter().find(|(disk, _)| !seen.insert(*disk)) {
        None => Ok(()),
        Some((twice, _)) => {
            let text = format!("Cannot add VM. Disk {twice} is named twice.");
            Err(Fault::new(FaultCode::Duplicate, text))
        }
    }
}

/// The machine type `wanted` if it is a version of `newest` that this host's QEMU has kept.
fn older(wanted: &str, newest: &str) -> Option<String> {
    // QEMU has three versions a year, and drops machine types after some six years.
    const MAJORS: u32 = 4;
    const MINOR_MAX: u32 = 2;
    let version = |text: &str| -> Option<(String, u32, u32)> {
        let (kind, version) = text.rsplit_once('-')?;
        let (major, minor) = version.split_once('.')?;
        Some((kind.to_owned(), major.parse().ok()?, minor.parse().ok()?))
    };
    let (wanted, newest) = (version(wanted)?, version(newest)?);
    let (kind, major, minor) = wanted;
    let is_kept =
        kind == newest.0 && (major, minor) <= (newest.1, newest.2) && major + MAJORS >= newest.1 && minor <= MINOR_MAX;
    is_kept.then(|| format!("{kind}-{major}.{minor}"))
}

/// Devices of a VM change only while nothing depends on their addresses.
fn expect_down(found: &access::Vm, what: &str) -> Result<(), Fault> {
    match found.row.status {
        VmStatus::Down => Ok(()),
        status => Err(wrong_status(&found.row.name, status, what, "down")),
    }
}

pub(crate) async fn update(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: UpdateVm,
) -> Result<Accepted<VmId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.vm);
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let mut found = access::vm(tx, &who, id, Need::Operate)?;
        lock::expect_free(tx, Entity::Vm(id), &found.row.name)?;
        let before = found.config.clone();
        fill(&mut found.config, &command.fields)?;
        let texts_only = VmConfig {
            name: found.config.name.clone(),
            description: found.config.description.clone(),
            comment: found.config.comment.clone(),
            delete_protected: found.config.delete_protected,
            ..before
        };
        if texts_only != found.config {
            expect_down(&found, "changing its hardware or boot")?;
        }
        let name = &found.config.name;
        if *name != found.row.name && vm::id_by_name(tx, name)?.is_some() {
            return Err(name_in_use(name));
        }
        vm::set_config(tx, id, name, &to_json(&found.config)?.to_string())?;
        let text = format!("VM {name} configuration was updated by {}.", actor.name);
        Event::new(What::VmUpdated, text)
            .by(&actor)
            .vm(found.row.project, id, name)
            .write(tx)
    };
    engine.store.write(write).await?;
    Ok(Accepted { id, job: None })
}

pub(crate) async fn delete(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: DeleteVm,
) -> Result<Accepted<VmId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.vm);
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let found = access::vm(tx, &who, id, Need::Operate)?;
        let name = &found.row.name;
        lock::expect_free(tx, Entity::Vm(id), name)?;
        if !matches!(found.row.status, VmStatus::Down | VmStatus::Suspended) {
            return Err(wrong_status(name, found.row.status, "removing it", "down"));
        }
        if found.config.delete_protected {
            return Err(Fault::new(
                FaultCode::VmStatus,
                format!("Cannot remove VM. Delete protection of VM {name} is on: set delete_protected to false first."),
            ));
        }
        crate::backup::expect_none(tx, id, "remove VM")?;
        snapshot_preview::expect_none(tx, id, "remove VM")?;
        vm::set_resume_memory(tx, id, None)?;
        stillpoint_store::checkpoint::delete_of_vm(tx, id)?;
        stillpoint_store::backup::delete_of_vm(tx, id)?;
        for row in snapshot::of_vm(tx, id)? {
            snapshot::delete(tx, row.id)?;
        }
        for a in vm::attachments(tx, id)? {
            let goes = !command.detach_only || crate::disk::expose::goes_when_detached(tx, a.disk)?;
            vm::delete_attachment(tx, id, a.disk)?;
            let shared = !vm::attachments_of_disk(tx, a.disk)?.is_empty() || !snapshot::of_disk(tx, a.disk)?.is_empty();
            if goes && !shared {
                let disk = access::disk(tx, &who, a.disk, Need::Operate)?;
                lock::expect_free(tx, Entity::Disk(a.disk), &disk.alias)?;
                stillpoint_store::disk::delete(tx, a.disk)?;
            }
        }
        vm::delete(tx, id)?;
        let text = format!("VM {name} was removed by {}.", actor.name);
        Event::new(What::VmRemoved, text)
            .by(&actor)
            .vm(found.row.project, id, name)
            .write(tx)
    };
    engine.store.write(write).await?;
    engine.tidy.notify_one();
    Ok(Accepted { id, job: None })
}

/// Checks and completes a new network interface.
fn new_nic(config: &VmConfig, attached: &[vm::AttachmentRow], fields: &NicFields) -> Result<NicConfig, Fault> {
    let Some(name) = &fields.name else {
        return Err(Fault::new(FaultCode::Incomplete, "Nic [name] required for add"));
    };
    free_nic_name(config, name, None)?;
    let interface = fields.interface.clone().unwrap_or_else(|| "virtio".into());
    expect_interface(&interface)?;
    let id = NicId::fresh();
    let mac = match &fields.mac {
        Some(given) => checked_mac(given)?,
        None => made_up_mac(id),
    };
    let pci_slot = spec::pci_slot(config, attached, fields.pci_slot).ok_or_else(|| no_slot(&config.name))?;
    Ok(NicConfig {
        id,
        name: name.clone(),
        mac,
        interface,
        linked: fields.linked.unwrap_or(true),
        pci_slot,
    })
}

/// Refuses a name that another interface of the VM has.
fn free_nic_name(config: &VmConfig, name: &str, own: Option<NicId>) -> Result<(), Fault> {
    limits::name("name", name)?;
    if config.nics.iter().any(|nic| nic.name == name && Some(nic.id) != own) {
        let text = format!(
            "Cannot have Interface {name}. The name is already in use on VM {}.",
            config.name
        );
        return Err(Fault::new(FaultCode::NameInUse, text));
    }
    Ok(())
}

fn expect_interface(interface: &str) -> Result<(), Fault> {
    if ["virtio", "e1000", "rtl8139"].contains(&interface) {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::InvalidValue,
        format!("{interface} is not a member of NicInterface"),
    ))
}

pub(crate) fn no_slot(vm: &str) -> Fault {
    Fault::new(
        FaultCode::OutOfRange,
        format!("VM {vm} has no free device slot left; detach a disk or interface, or use interface virtio_scsi."),
    )
}

fn checked_mac(given: &str) -> Result<String, Fault> {
    let bad = || {
        let shown: String = given.chars().take(32).collect();
        Fault::new(
            FaultCode::InvalidValue,
            format!("{shown:?} is no unicast MAC address such as 56:6f:1a:2b:00:01"),
        )
    };
    let parts: Vec<_> = given.split(':').collect();
    let is_octet = |part: &str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok() && !part.starts_with('+');
    if parts.len() != 6 || !parts.iter().all(|part| is_octet(part)) {
        return Err(bad());
    }
    let first = parts
        .first()
        .and_then(|part| u8::from_str_radix(part, 16).ok())
        .ok_or_else(bad)?;
    if first & 1 == 1 {
        Err(bad())
    } else {
        Ok(given.to_lowercase())
    }
}

/// `56:6f` is oVirt's default range; the rest comes from the interface's own random id.
pub(super) fn made_up_mac(id: NicId) -> String {
    let [a, b, c, d, ..] = *id.0.as_bytes();
    format!("56:6f:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

pub(crate) async fn add_nic(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: AddNic,
) -> Result<Accepted<NicId>, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<NicId, Fault> {
        let found = access::vm(tx, &who, command.vm, Need::Operate)?;
        let nic = new_nic(&found.config, &vm::attachments(tx, command.vm)?, &command.nic)?;
        let id = nic.id;
        change_nics(tx, &actor, found, |nics| nics.push(nic))?;
        Ok(id)
    };
    Ok(Accepted {
        id: engine.store.write(write).await?,
        job: None,
    })
}

/// Changes an interface of a VM that is down. What is as it was counts as not named.
pub(crate) async fn update_nic(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: UpdateNic,
) -> Result<Accepted<NicId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.nic);
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let found = access::vm(tx, &who, command.vm, Need::Operate)?;
        let nic = found.config.nics.iter().find(|nic| nic.id == id);
        let mut nic = nic.cloned().ok_or_else(|| Fault::not_found("nic", id))?;
        let (before, fields) = (nic.clone(), command.fields);
        if let Some(name) = fields.name {
            free_nic_name(&found.config, &name, Some(id))?;
            nic.name = name;
        }
        if let Some(interface) = fields.interface {
            expect_interface(&interface)?;
            nic.interface = interface;
        }
        if let Some(mac) = fields.mac {
            nic.mac = checked_mac(&mac)?;
        }
        nic.linked = fields.linked.unwrap_or(nic.linked);
        if nic == before {
            return Ok(());
        }
        change_nics(tx, &actor, found, |nics| {
            for there in nics.iter_mut().filter(|there| there.id == id) {
                *there = nic.clone();
            }
        })
    };
    engine.store.write(write).await?;
    Ok(Accepted { id, job: None })
}

pub(crate) async fn remove_nic(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: RemoveNic,
) -> Result<Accepted<NicId>, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let found = access::vm(tx, &who, command.vm, Need::Operate)?;
        if !found.config.nics.iter().any(|nic| nic.id == command.nic) {
            return Err(Fault::not_found("nic", command.nic));
        }
        change_nics(tx, &actor, found, |nics| nics.retain(|nic| nic.id != command.nic))
    };
    engine.store.write(write).await?;
    Ok(Accepted {
        id: command.nic,
        job: None,
    })
}

fn change_nics(
    tx: &Tx,
    actor: &Actor,
    mut found: access::Vm,
    change: impl FnOnce(&mut Vec<NicConfig>),
) -> Result<(), Fault> {
    let (id, name) = (found.row.id, found.row.name.clone());
    lock::expect_free(tx, Entity::Vm(id), &name)?;
    expect_down(&found, "changing its interfaces")?;
    change(&mut found.config.nics);
    vm::set_config(tx, id, &name, &to_json(&found.config)?.to_string())?;
    let text = format!("The interfaces of VM {name} were changed by {}.", actor.name);
    Event::new(What::VmUpdated, text)
        .by(actor)
        .vm(found.row.project, id, &name)
        .write(tx)
}

#[cfg(test)]
mod tests {
    use super::older;

    #[test]
    fn a_machine_type_is_kept_only_if_this_qemu_has_it() {
        let kept = |wanted: &str| older(wanted, "pc-i440fx-7.2");
        for same in ["pc-i440fx-7.2", "pc-i440fx-7.1", "pc-i440fx-3.0"] {
            assert_eq!(kept(same).as_deref(), Some(same));
        }
        for strange in [
            "",
            "pc",
            "pc-q35-7.2",
            "pc-i440fx-7.3",
            "pc-i440fx-8.0",
            "pc-i440fx-2.9",
            "pc-i440fx-6.9",
            "pc-i440fx-7.2,accel=kvm",
            "isapc,accel=kvm-7.2",
            "pc-i440fx-4294967296.0",
        ] {
            assert_eq!(kept(strange), None, "{strange}");
        }
        assert_eq!(
            kept("pc-i440fx-07.2").as_deref(),
            Some("pc-i440fx-7.2"),
            "in its own spelling"
        );
    }
}
