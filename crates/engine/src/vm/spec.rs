//! What a machine is started from: the recorded configuration, down to device addresses, and checked kernel paths.

use crate::{
    config::VmConfig,
    engine::{Inner, Options},
    fault::Fault,
    ports::{Boot, Chain, DiskSpec, MachineSpec, NicSpec},
};
use std::path::{Path, PathBuf};
use stillpoint_store::{Conn, image, vm};
use stillpoint_types::{DiskInterface, FaultCode, VmId};

/// The whole specification of a VM, as recorded now.
pub(crate) fn of(engine: &Inner, conn: &Conn, id: VmId, config: &VmConfig) -> Result<MachineSpec, Fault> {
    let row = vm::get(conn, id)?.ok_or_else(|| Fault::not_found("vm", id))?;
    let mut disks = Vec::new();
    for a in vm::attachments(conn, id)?.into_iter().filter(|a| a.active) {
        let disk = stillpoint_store::disk::get(conn, a.disk)?.ok_or_else(|| Fault::not_found("disk", a.disk))?;
        if let Some(why) = disk.illegal {
            let text = format!("Cannot run VM {}. Disk {} is illegal: {why}.", config.name, disk.alias);
            return Err(Fault::new(FaultCode::ImageIllegal, text));
        }
        let images = image::chain(conn, disk.image)?
            .iter()
            .map(|row| engine.image_ref(row))
            .collect();
        disks.push(DiskSpec {
            chain: Chain { disk: a.disk, images },
            interface: a.interface,
            bootable: a.bootable,
            read_only: a.read_only,
            slot: a.slot,
        });
    }
    let nic = |nic: &crate::config::NicConfig| NicSpec {
        id: nic.id,
        mac: nic.mac.clone(),
        model: match nic.interface.as_str() {
            "e1000" => "e1000".into(),
            "rtl8139" => "rtl8139".into(),
            _ => "virtio-net-pci".into(),
        },
        user_mode: nic.linked,
        pci_slot: nic.pci_slot,
    };
    Ok(MachineSpec {
        vm: id,
        name: config.name.clone(),
        machine: config.machine.clone(),
        memory_bytes: config.memory_bytes,
        topology: (config.sockets, config.cores, config.threads),
        boot: boot(&engine.options, config)?,
        disks,
        nics: config.nics.iter().map(nic).collect(),
        resume: row.resume_memory.map(|memory| engine.memory_ref(memory)),
    })
}

fn boot(options: &Options, config: &VmConfig) -> Result<Boot, Fault> {
    let Some(kernel) = config.kernel.as_deref().filter(|path| !path.is_empty()) else {
        return Ok(Boot::Disk);
    };
    let initrd = config.initrd.as_deref().filter(|path| !path.is_empty());
    Ok(Boot::Kernel {
        kernel: boot_file(options, "kernel", kernel)?,
        initrd: initrd.map(|path| boot_file(options, "initrd", path)).transpose()?,
        cmdline: config.cmdline.clone().unwrap_or_default(),
    })
}

/// Resolves a path that a client gave: a file name in the boot directory, or an absolute path in an allowed one. What a
/// link points to counts, not where it lies. oVirt clients write `iso://NAME` for a file of the ISO domain.
fn boot_file(options: &Options, what: &str, given: &str) -> Result<PathBuf, Fault> {
    let refuse = |why: &str| {
        Fault::new(
            FaultCode::InvalidValue,
            format!(
                "The {what} {given:?} cannot be used: {why}. Put the file into {} and give its name.",
                options.boot_dir.display()
            ),
        )
    };
    let relative = given.strip_prefix("iso://").unwrap_or(given);
    // An absolute path stays what it is; anything else lies in the boot directory.
    let path = options.boot_dir.join(relative);
    let canonical = std::fs::canonicalize(&path).map_err(|error| refuse(&error.to_string()))?;
    let allowed = std::iter::once(&options.boot_dir).chain(&options.boot_dirs_allowed);
    let is_inside = |dir: &PathBuf| std::fs::canonicalize(dir).is_ok_and(|dir| canonical.starts_with(dir));
    if !allowed.into_iter().any(is_inside) {
        return Err(refuse(
            "it does not lie in the boot directory or in one that the configuration allows",
        ));
    }
    if !is_file(&canonical) {
        return Err(refuse("it is no regular file"));
    }
    Ok(canonical)
}

fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file())
}

/// The first free place of a disk on its bus.
pub(crate) fn free_slot(config: &VmConfig, attached: &[vm::AttachmentRow], interface: DiskInterface) -> Option<u8> {
    match interface {
        DiskInterface::Virtio => free_pci_slot(config, attached),
        DiskInterface::VirtioScsi | DiskInterface::Ide | DiskInterface::Sata => {
            (0..units(interface)).find(|slot| !attached.iter().any(|a| a.interface == interface && a.slot == *slot))
        }
    }
}

/// The wanted place of a disk on its bus if it is a free one, else the first free one.
pub(crate) fn slot(
    config: &VmConfig,
    attached: &[vm::AttachmentRow],
    interface: DiskInterface,
    wanted: Option<u8>,
) -> Option<u8> {
    let taken = |slot: u8| attached.iter().any(|a| a.interface == interface && a.slot == slot);
    match (interface, wanted) {
        (DiskInterface::Virtio, _) => pci_slot(config, attached, wanted),
        (_, Some(wanted)) if wanted < units(interface) && !taken(wanted) => Some(wanted),
        (_, _) => free_slot(config, attached, interface),
    }
}

/// The wanted PCI slot if it is a free one, else the first free one.
pub(crate) fn pci_slot(config: &VmConfig, attached: &[vm::AttachmentRow], wanted: Option<u8>) -> Option<u8> {
    let is_free = |slot: &u8| is_free_pci_slot(config, attached, *slot);
    wanted
        .filter(|slot| crate::limits::PCI_SLOTS.contains(slot))
        .filter(is_free)
        .or_else(|| free_pci_slot(config, attached))
}

fn units(interface: DiskInterface) -> u8 {
    match interface {
        DiskInterface::Ide => 4,
        DiskInterface::Sata => 6,
        DiskInterface::Virtio | DiskInterface::VirtioScsi => 64,
    }
}

/// The first PCI slot that no interface and no virtio disk has.
pub(crate) fn free_pci_slot(config: &VmConfig, attached: &[vm::AttachmentRow]) -> Option<u8> {
    crate::limits::PCI_SLOTS
        .clone()
        .find(|slot| is_free_pci_slot(config, attached, *slot))
}

fn is_free_pci_slot(config: &VmConfig, attached: &[vm::AttachmentRow], slot: u8) -> bool {
    let by_disk = attached
        .iter()
        .any(|a| a.interface == DiskInterface::Virtio && a.slot == slot);
    !by_disk && !config.nics.iter().any(|nic| nic.pci_slot == slot)
}
