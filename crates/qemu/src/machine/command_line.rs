//! From a [`MachineSpec`] to QEMU's arguments: a pure function, so that the same spec is the same machine.
//!
//! Every device has an explicit address, or a memory that was saved under one set of disks would not fit another run.
//! PCI bus 0 of the i440FX machine: 0 host bridge, 1 PIIX (ISA, IDE), 3 ours (function 0 the agent's serial
//! controller, 1 virtio-scsi, 2 AHCI; the latter two only when a disk needs them), 4 to 31 virtio disks and NICs.
//!
//! Every layer of a chain is a protocol and a format node of our naming, and its backing node is given by name (`null`
//! under the base): QEMU follows no name out of an image's header. Layers below the top are opened read only;
//! their protocol nodes are `auto-read-only`, so that a commit can make them writable and only then.
//!
//! Values that come from outside reach QEMU as JSON, or in its comma syntax with commas doubled.

use crate::{
    layout::{RunDir, utf8},
    names::{disk_device, format_node, nic_device, nic_peer, protocol_node},
};
use serde_json::{Value, json};
use std::path::Path;
use stillpoint_engine::ports::{
    Boot, Chain, DiskSpec, Driven, DriverError, DriverErrorKind, ImageRef, MachineSpec, NicSpec,
};
use stillpoint_types::{DiskInterface, ImageFormat, ImageId};

const OP: &str = "build command line";
const MIB: u64 = 1 << 20;

/// `blockdev-add` arguments of an image's protocol and format node, in this order.
///
/// `backing`: `Some` image below, `None` for the end of the chain or for an overlay that is not switched to yet.
pub(crate) fn image_nodes(image: &ImageRef, backing: Option<ImageId>, read_only: bool) -> Driven<[Value; 2]> {
    let protocol = json!({
        "driver": "file",
        "node-name": protocol_node(image.id),
        "filename": utf8(OP, &image.path)?,
        "auto-read-only": true,
        "discard": "unmap",
    });
    let mut format = json!({
        "driver": driver(image.format),
        "node-name": format_node(image.id),
        "file": protocol_node(image.id),
        "read-only": read_only,
        "discard": "unmap",
    });
    match image.format {
        ImageFormat::Cow => format["backing"] = backing.map_or(Value::Null, |id| json!(format_node(id))),
        ImageFormat::Raw if backing.is_some() => {
            let text = format!("raw image {} cannot have a backing image", image.id);
            return Err(DriverError::new(DriverErrorKind::InvalidImage, OP, text));
        }
        ImageFormat::Raw => {}
    }
    Ok([protocol, format])
}

/// The same for all layers of a chain, base first.
pub(crate) fn chain_nodes(chain: &Chain, top_read_only: bool) -> Driven<Vec<(ImageId, [Value; 2])>> {
    let mut nodes = Vec::new();
    let mut backing = None;
    for (i, image) in chain.images.iter().enumerate() {
        let read_only = top_read_only || i + 1 < chain.images.len();
        nodes.push((image.id, image_nodes(image, backing, read_only)?));
        backing = Some(image.id);
    }
    if nodes.is_empty() {
        let text = format!("disk {} has no image", chain.disk);
        return Err(DriverError::new(DriverErrorKind::InvalidImage, OP, text));
    }
    Ok(nodes)
}

fn driver(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Cow => "qcow2",
        ImageFormat::Raw => "raw",
    }
}

/// QEMU's arguments, without the program.
///
/// # Errors
/// `Unsupported` for what this machine cannot have: another chipset, a slot outside of its bus, an unknown model.
pub(crate) fn arguments(spec: &MachineSpec, run_dir: &RunDir, accelerator: &str) -> Driven<Vec<String>> {
    let mut line = Line(Vec::new());
    machine(&mut line, spec, accelerator)?;
    channels(&mut line, run_dir)?;
    boot(&mut line, &spec.boot)?;
    controllers(&mut line, spec);
    let mut boot_index = 0;
    for disk in &spec.disks {
        for (_, nodes) in chain_nodes(&disk.chain, disk.read_only)? {
            nodes.iter().for_each(|node| line.option("-blockdev", node));
        }
        let mut device = disk_options(disk)?;
        if disk.bootable {
            boot_index += 1;
            device["bootindex"] = json!(boot_index);
        }
        line.option("-device", &device);
    }
    for nic in &spec.nics {
        network(&mut line, nic)?;
    }
    if spec.resume.is_some() {
        // -S: whatever state was saved, the vCPUs stay stopped until they are told to run.
        line.words(&["-incoming", "defer", "-S"]);
    }
    Ok(line.0)
}

struct Line(Vec<String>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|&word| word.to_owned()));
    }

    fn option(&mut self, name: &str, value: &Value) {
        self.words(&[name, &value.to_string()]);
    }

    fn socket(&mut self, id: &str, path: &Path) -> Driven<()> {
        let path = doubled_commas(utf8(OP, path)?);
        self.words(&["-chardev", &format!("socket,id={id},path={path},server=on,wait=off")]);
        Ok(())
    }
}

fn doubled_commas(text: &str) -> String {
    text.replace(',', ",,")
}

fn refused(text: impl std::fmt::Display) -> DriverError {
    DriverError::new(DriverErrorKind::Unsupported, OP, text)
}

fn machine(line: &mut Line, spec: &MachineSpec, accelerator: &str) -> Driven<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !spec.machine.starts_with("pc-i440fx-") || !spec.machine.chars().all(is_plain) {
        return Err(refused(format!(
            "machine type {:?}: only pc-i440fx-VERSION",
            spec.machine
        )));
    }
    if spec.memory_bytes == 0 || !spec.memory_bytes.is_multiple_of(MIB) {
        return Err(refused("the memory size is no multiple of 1 MiB"));
    }
    let name: String = spec.name.chars().filter(|c| !c.is_control()).take(64).collect();
    let (sockets, cores, threads) = spec.topology;
    line.words(&["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"]);
    line.words(&["-name", &format!("guest={}", doubled_commas(&name))]);
    line.words(&["-machine", &format!("{},accel={accelerator}", spec.machine)]);
    if accelerator == "kvm" {
        line.words(&["-cpu", crate::probe::KVM_CPU]);
    }
    line.words(&["-m", &format!("{}M", spec.memory_bytes / MIB)]);
    line.words(&["-smp", &format!("sockets={sockets},cores={cores},threads={threads}")]);
    line.words(&["-uuid", &spec.vm.to_string(), "-rtc", "base=utc"]);
    line.words(&["-boot", "strict=on", "-msg", "timestamp=on"]);
    Ok(())
}

/// Monitors, agent, console. The pid file's path is also what a process is recognised by.
fn channels(line: &mut Line, run_dir: &RunDir) -> Driven<()> {
    line.words(&["-pidfile", utf8(OP, &run_dir.pid())?]);
    line.socket("qmp", &run_dir.qmp())?;
    line.words(&["-mon", "chardev=qmp,mode=control"]);
    line.socket("qmp2", &run_dir.qmp2())?;
    line.words(&["-mon", "chardev=qmp2,mode=control"]);
    let console = run_dir.console();
    let console = doubled_commas(utf8(OP, &console)?);
    line.words(&["-chardev", &format!("file,id=console,path={console},append=on")]);
    line.words(&["-serial", "chardev:console"]);
    line.socket("agent", &run_dir.agent())?;
    line.option(
        "-device",
        &json!({"driver": "virtio-serial-pci", "id": "serial0", "bus": "pci.0", "addr": "3.0", "multifunction": true}),
    );
    line.option(
        "-device",
        &json!({"driver": "virtserialport", "id": "agent0", "bus": "serial0.0", "nr": 1, "chardev": "agent",
                "name": "org.qemu.guest_agent.0"}),
    );
    Ok(())
}

fn boot(line: &mut Line, boot: &Boot) -> Driven<()> {
    if let Boot::Kernel {
        kernel,
        initrd,
        cmdline,
    } = boot
    {
        line.words(&["-kernel", utf8(OP, kernel)?]);
        if let Some(initrd) = initrd {
            line.words(&["-initrd", utf8(OP, initrd)?]);
        }
        line.words(&["-append", cmdline]);
    }
    Ok(())
}

fn controllers(line: &mut Line, spec: &MachineSpec) {
    let uses = |interface| spec.disks.iter().any(|disk| disk.interface == interface);
    if uses(DiskInterface::VirtioScsi) {
        line.option(
            "-device",
            &json!({"driver": "virtio-scsi-pci", "id": "scsi0", "bus": "pci.0", "addr": "3.1"}),
        );
    }
    if uses(DiskInterface::Sata) {
        line.option(
            "-device",
            &json!({"driver": "ich9-ahci", "id": "sata0", "bus": "pci.0", "addr": "3.2"}),
        );
    }
}

pub(crate) fn disk_options(disk: &DiskSpec) -> Driven<Value> {
    let slot = disk.slot;
    let within = |most: u8, bus: &str| {
        if slot <= most {
            Ok(())
        } else {
            Err(refused(format!("disk {}: {bus} has no place {slot}", disk.chain.disk)))
        }
    };
    let mut device = match disk.interface {
        DiskInterface::Virtio => {
            json!({"driver": "virtio-blk-pci", "bus": "pci.0", "addr": pci_address(slot)?})
        }
        DiskInterface::VirtioScsi => {
            json!({"driver": "scsi-hd", "bus": "scsi0.0", "channel": 0, "scsi-id": slot, "lun": 0})
        }
        DiskInterface::Ide => {
            within(3, "IDE")?;
            json!({"driver": "ide-hd", "bus": format!("ide.{}", slot / 2), "unit": slot % 2})
        }
        DiskInterface::Sata => {
            within(5, "SATA")?;
            json!({"driver": "ide-hd", "bus": format!("sata0.{slot}"), "unit": 0})
        }
    };
    device["id"] = json!(disk_device(disk.chain.disk));
    device["drive"] = json!(format_node(disk.chain.active().id));
    // 20 characters is all that virtio-blk and IDE have for it.
    let serial: String = disk.chain.disk.to_string().chars().take(20).collect();
    device["serial"] = json!(serial);
    Ok(device)
}

fn pci_address(slot: u8) -> Driven<String> {
    if (4..=31).contains(&slot) {
        Ok(format!("{slot:x}.0"))
    } else {
        Err(refused(format!("PCI slot {slot} is not 4 to 31")))
    }
}

fn network(line: &mut Line, nic: &NicSpec) -> Driven<()> {
    if !matches!(nic.model.as_str(), "virtio-net-pci" | "e1000" | "rtl8139") {
        return Err(refused(format!("network interface model {:?}", nic.model)));
    }
    // No option ROM: nothing boots from the network, and the ROM files are another package.
    let mut device = json!({"driver": nic.model, "id": nic_device(nic.id), "bus": "pci.0", "mac": nic.mac,
                            "addr": pci_address(nic.pci_slot)?, "romfile": ""});
    if nic.user_mode {
        let peer = nic_peer(nic.id);
        line.words(&["-netdev", &format!("user,id={peer},restrict=off")]);
        device["netdev"] = json!(peer);
    }
    line.option("-device", &device);
    Ok(())
}
