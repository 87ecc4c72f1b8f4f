//! Reads the document: what a client gives with `POST /vms` to have a VM again.
//!
//! Nothing in it is trusted. It is parsed within limits, without document type and entities, and nothing that it refers to
//! is opened. Sizes and formats of disks are not read at all: the truth about a disk is the disk's own. Ids of disks are
//! only wishes, which the core grants if the caller could have attached them by hand; ids of the VM and its interfaces are
//! not taken over. Both versions' forms are read, whatever prefixes they use.

use super::MIB;
use crate::fault::Refused;
use std::str::FromStr;
use stillpoint_engine::command::{AttachFields, CreateVm, NicFields, VmFields};
use stillpoint_types::{DiskId, DiskInterface};
use stillpoint_wire::{Element, Limits, model};

/// What a document may cost. A VM has some ten devices of some twenty elements.
const LIMITS: Limits = Limits {
    body_bytes: 1 << 20,
    depth: 16,
    elements: 10_000,
    attributes: 64,
    text_bytes: 1 << 20,
};
/// Most devices of one kind.
const DEVICES_MAX: usize = 256;

/// Reads the configuration that a body has.
///
/// # Errors
/// 400 for another kind of document, and for one that cannot be understood.
pub(crate) fn configuration(body: &model::Configuration) -> Result<CreateVm, Refused> {
    if let Some(kind) = body
        .kind
        .as_deref()
        .filter(|kind| !kind.trim().eq_ignore_ascii_case("ovf"))
    {
        let shown: String = kind.chars().take(16).collect();
        return Err(bad(format!(
            "a configuration of type {shown:?} cannot be read; use ovf"
        )));
    }
    let data = body.data.as_deref().unwrap_or_default();
    if data.trim().is_empty() {
        return Err(Refused::incomplete("Vm", &["initialization.configuration.data"], "add"));
    }
    read(data.trim())
}

fn bad(why: impl std::fmt::Display) -> Refused {
    Refused::invalid_value(format!("initialization.configuration.data: {why}"))
}

fn read(text: &str) -> Result<CreateVm, Refused> {
    let root = stillpoint_wire::read_tree(text, &LIMITS).map_err(bad)?;
    if root.local_name() != "Envelope" {
        return Err(bad("the root is no Envelope"));
    }
    let content = one(&root, "Content")?.ok_or_else(|| bad("there is no Content"))?;
    let hardware = section(content, "VirtualHardwareSection")?.ok_or_else(|| bad("there is no hardware"))?;
    let items: Vec<Item<'_>> = hardware
        .children()
        .iter()
        .filter(|child| child.local_name() == "Item")
        .map(Item::of)
        .collect::<Result<_, _>>()?;
    let disks = match section(&root, "DiskSection")? {
        Some(section) => disks(section, &items)?,
        None => Vec::new(),
    };
    Ok(CreateVm {
        fields: fields(content, &items)?,
        nics: nics(&items)?,
        disks,
        machine: first(content, &["CustomEmulatedMachine", "machine"])?.map(str::to_owned),
    })
}

/// A device, with the number of its kind.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    kind: u32,
    element: &'a Element,
}

impl<'a> Item<'a> {
    fn of(element: &'a Element) -> Result<Self, Refused> {
        let kind = number(element, "ResourceType")?.ok_or_else(|| bad("a device without ResourceType"))?;
        Ok(Self { kind, element })
    }
}

/// The only device of a kind.
fn only<'a>(items: &[Item<'a>], kind: u32) -> Result<Option<&'a Element>, Refused> {
    let mut found = items.iter().filter(|item| item.kind == kind);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(bad(format!("more than one device of ResourceType {kind}"))),
        (first, None) => Ok(first.map(|item| item.element)),
    }
}

/// The devices of a kind that a VM may have many of.
fn several<'a>(items: &[Item<'a>], kind: u32) -> Result<Vec<&'a Element>, Refused> {
    let found: Vec<_> = items
        .iter()
        .filter(|item| item.kind == kind)
        .map(|item| item.element)
        .collect();
    few(found.len())?;
    Ok(found)
}

fn few(count: usize) -> Result<(), Refused> {
    if count > DEVICES_MAX {
        return Err(bad(format!("more than {DEVICES_MAX} devices of a kind")));
    }
    Ok(())
}

fn fields(content: &Element, items: &[Item<'_>]) -> Result<VmFields, Refused> {
    let (cpu, memory) = (only(items, 3)?, only(items, 4)?);
    let of_cpu = |name: &str| cpu.map_or(Ok(None), |cpu| number::<u32>(cpu, name));
    let guaranteed = match number(content, "guaranteed-bytes")? {
        Some(bytes) => Some(bytes),
        None => mib(number(content, "MinAllocatedMem")?)?,
    };
    let system = section(content, "OperatingSystemSection")?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(VmFields {
        name: owned(text(content, "Name")?),
        description: owned(text(content, "Description")?),
        comment: owned(text(content, "Comment")?),
        memory_bytes: memory.map(memory_bytes).transpose()?.flatten(),
        memory_guaranteed_bytes: guaranteed,
        sockets: of_cpu("num_of_sockets")?,
        cores: of_cpu("cpu_per_socket")?,
        threads: of_cpu("threads_per_cpu")?,
        os_type: match system {
            Some(system) => owned(text(system, "Description")?),
            None => None,
        },
        kernel: owned(text(content, "kernel_url")?),
        initrd: owned(text(content, "initrd_url")?),
        cmdline: owned(text(content, "kernel_params")?),
        vm_type: vm_type(text(content, "VmType")?)?,
        delete_protected: flag(text(content, "DeleteProtected")?, "DeleteProtected")?,
    })
}

fn vm_type(number: Option<&str>) -> Result<Option<String>, Refused> {
    let word = match number.map(str::trim) {
        None => return Ok(None),
        Some("0") => "desktop",
        Some("1") => "server",
        Some("2") => "high_performance",
        Some(_) => return Err(bad("an unknown VmType")),
    };
    Ok(Some(word.to_owned()))
}

fn memory_bytes(item: &Element) -> Result<Option<u64>, Refused> {
    match text(item, "AllocationUnits")?.map(str::trim) {
        None | Some("MegaBytes") => mib(number(item, "VirtualQuantity")?),
        Some(_) => Err(bad("the memory is not in MegaBytes")),
    }
}

fn mib(count: Option<u64>) -> Result<Option<u64>, Refused> {
    let bytes = |count: u64| {
        count
            .checked_mul(MIB)
            .ok_or_else(|| bad("the memory is too large to count"))
    };
    count.map(bytes).transpose()
}

fn nics(items: &[Item<'_>]) -> Result<Vec<NicFields>, Refused> {
    let mut nics = Vec::new();
    for (index, item) in several(items, 10)?.into_iter().enumerate() {
        let interface = match text(item, "ResourceSubType")?.map(str::trim) {
            None | Some("0" | "3") => "virtio",
            Some("1") => "rtl8139",
            Some("2") => "e1000",
            Some(_) => return Err(bad("an interface of a model that this server has not")),
        };
        let name = first(item, &["Name", "ElementName"])?;
        nics.push(NicFields {
            name: Some(name.map_or_else(|| format!("nic{}", index + 1), str::to_owned)),
            mac: text(item, "MACAddress")?.map(|mac| mac.trim().to_owned()),
            interface: Some(interface.to_owned()),
            linked: flag(text(item, "Linked")?, "Linked")?,
            pci_slot: text(item, "Address")?.and_then(|address| place(address, "slot")),
        });
    }
    Ok(nics)
}

fn disks(section: &Element, items: &[Item<'_>]) -> Result<Vec<(DiskId, AttachFields)>, Refused> {
    let devices = several(items, 17)?;
    let listed: Vec<&Element> = section
        .children()
        .iter()
        .filter(|child| child.local_name() == "Disk")
        .collect();
    few(listed.len())?;
    let mut disks = Vec::new();
    for disk in listed {
        let file = disk.attribute("fileRef").unwrap_or_default();
        let id = file.split('/').next().unwrap_or_default();
        let id = id
            .parse()
            .map_err(|_not_an_id: <DiskId as FromStr>::Err| bad("a disk whose fileRef does not begin with its id"))?;
        let mut device = None;
        for item in &devices {
            if text(item, "HostResource")?.is_some_and(|resource| resource.trim() == file) {
                device = Some(*item);
            }
        }
        disks.push((id, attachment(disk, device)?));
    }
    Ok(disks)
}

fn attachment(disk: &Element, device: Option<&Element>) -> Result<AttachFields, Refused> {
    let of_device = |name: &str| device.map_or(Ok(None), |device| text(device, name));
    let interface = match disk.attribute("disk-interface").map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => None,
        Some("virtio") => Some(DiskInterface::Virtio),
        Some("virtio_scsi") => Some(DiskInterface::VirtioScsi),
        Some("ide") => Some(DiskInterface::Ide),
        Some("sata") => Some(DiskInterface::Sata),
        Some(_) => return Err(bad("a disk at an interface that this server has not")),
    };
    let place_of = match interface {
        Some(DiskInterface::Virtio) | None => "slot",
        Some(DiskInterface::VirtioScsi | DiskInterface::Ide | DiskInterface::Sata) => "unit",
    };
    let read_only = match flag(disk.attribute("read-only"), "read-only")? {
        Some(read_only) => Some(read_only),
        None => flag(of_device("IsReadOnly")?, "IsReadOnly")?,
    };
    Ok(AttachFields {
        interface,
        bootable: flag(disk.attribute("boot"), "boot")?,
        active: flag(of_device("IsPlugged")?, "IsPlugged")?,
        read_only,
        slot: of_device("Address")?.and_then(|address| place(address, place_of)),
    })
}

/// A number of an address such as `{type=pci, slot=0x05, bus=0x00}`; what cannot be read is no wish.
fn place(address: &str, name: &str) -> Option<u8> {
    let parts = address.trim().trim_start_matches('{').trim_end_matches('}').split(',');
    let value = parts
        .filter_map(|part| part.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))?;
    match value.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

/// The only child of a name.
fn one<'a>(parent: &'a Element, name: &str) -> Result<Option<&'a Element>, Refused> {
    exactly(
        parent.children().iter().filter(|child| child.local_name() == name),
        name,
    )
}

/// A part of the document, as an element of its own or as a `Section` that says which one it is.
fn section<'a>(parent: &'a Element, name: &str) -> Result<Option<&'a Element>, Refused> {
    let is_it = |child: &&Element| {
        let kind = child.attribute("type").unwrap_or_default();
        let kind = kind.rsplit(':').next().unwrap_or_default();
        child.local_name() == name || (child.local_name() == "Section" && kind.strip_suffix("_Type") == Some(name))
    };
    exactly(parent.children().iter().filter(is_it), name)
}

fn exactly<'a>(mut found: impl Iterator<Item = &'a Element>, name: &str) -> Result<Option<&'a Element>, Refused> {
    match (found.next(), found.next()) {
        // Which of two was meant must not depend on the reader.
        (_, Some(_)) => Err(bad(format!("{name} is given more than once"))),
        (first, None) => Ok(first),
    }
}

/// The text of the only child of a name; an empty one is an absent one.
fn text<'a>(parent: &'a Element, name: &str) -> Result<Option<&'a str>, Refused> {
    Ok(one(parent, name)?
        .map(Element::text)
        .filter(|text| !text.trim().is_empty()))
}

fn first<'a>(parent: &'a Element, names: &[&str]) -> Result<Option<&'a str>, Refused> {
    for name in names {
        if let Some(text) = text(parent, name)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn number<T: FromStr>(parent: &Element, name: &str) -> Result<Option<T>, Refused> {
    let parse = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_no_number: T::Err| bad(format!("{name} is not a valid number")))
    };
    text(parent, name)?.map(parse).transpose()
}

fn flag(text: Option<&str>, name: &str) -> Result<Option<bool>, Refused> {
    match text.map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        None | Some("") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(bad(format!("{name} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    const DISK: &str = "ad353554-f668-46cf-aa3c-e57383de2c92";

    fn document(general: &str, disks: &str, items: &str) -> String {
        format!(
            "<ovf:Envelope xmlns:ovf=\"o\" xmlns:rasd=\"r\" xmlns:xsi=\"x\"><References/>\
             <Section xsi:type=\"ovf:DiskSection_Type\">{disks}</Section>\
             <Content ovf:id=\"out\" xsi:type=\"ovf:VirtualSystem_Type\"><Name>VM_01</Name>{general}\
             <Section xsi:type=\"ovf:VirtualHardwareSection_Type\">{items}</Section></Content></ovf:Envelope>"
        )
    }

    fn disk(id: &str) -> String {
        format!(
            "<Disk ovf:fileRef=\"{id}/40456d92-3687-4a85-bab3-87b4cc7af459\" ovf:boot=\"true\" ovf:disk-interface=\"VirtIO\"/>"
        )
    }

    /// The published document of version 3, cut to its machine.
    #[test]
    fn the_published_document_of_version_3_is_understood() {
        let items = "<Item><rasd:ResourceType>3</rasd:ResourceType><rasd:num_of_sockets>1</rasd:num_of_sockets>\
            <rasd:cpu_per_socket>2</rasd:cpu_per_socket></Item>\
            <Item><rasd:ResourceType>4</rasd:ResourceType><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>\
            <rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>\
            <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:HostResource>ad353554-f668-46cf-aa3c-e57383de2c92/40456d92-3687-4a85-bab3-87b4cc7af459</rasd:HostResource>\
            <rasd:Address>{slot=0x06, bus=0x00, domain=0x0000, type=pci, function=0x0}</rasd:Address>\
            <BootOrder>1</BootOrder><IsPlugged>true</IsPlugged><IsReadOnly>false</IsReadOnly></Item>\
            <Item><rasd:ResourceType>10</rasd:ResourceType><rasd:ResourceSubType>3</rasd:ResourceSubType>\
            <rasd:Linked>true</rasd:Linked><rasd:Name>nic1</rasd:Name><rasd:MACAddress>00:1a:4a:87:cb:00</rasd:MACAddress></Item>\
            <Item><rasd:ResourceType>0</rasd:ResourceType><Type>controller</Type><Device>usb</Device></Item>";
        let read = read(&document(
            "<MinAllocatedMem>512</MinAllocatedMem><VmType>1</VmType>",
            &disk(DISK),
            items,
        ))
        .unwrap();
        let fields = &read.fields;
        assert_eq!(fields.name.as_deref(), Some("VM_01"));
        assert_eq!(
            (fields.memory_bytes, fields.memory_guaranteed_bytes),
            (Some(1 << 30), Some(1 << 29))
        );
        assert_eq!((fields.sockets, fields.cores, fields.threads), (Some(1), Some(2), None));
        assert_eq!(fields.vm_type.as_deref(), Some("server"));
        let (id, attached) = &read.disks[0];
        assert_eq!(id.to_string(), DISK);
        assert_eq!(
            (attached.slot, attached.bootable, attached.active),
            (Some(6), Some(true), Some(true))
        );
        assert_eq!(read.nics[0].mac.as_deref(), Some("00:1a:4a:87:cb:00"));
        assert_eq!(read.nics[0].pci_slot, None);
    }

    #[test]
    fn a_hostile_document_is_refused_and_costs_little() {
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        let wide = format!("<ovf:Envelope xmlns:ovf=\"o\">{}</ovf:Envelope>", "<a/>".repeat(50_000));
        let cpu = |sockets: &str| {
            format!(
                "<Item><rasd:ResourceType>3</rasd:ResourceType><rasd:num_of_sockets>{sockets}</rasd:num_of_sockets></Item>"
            )
        };
        let memory = "<Item><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>18446744073709551615\
                      </rasd:VirtualQuantity></Item>";
        for text in [
            String::new(),
            "no XML".into(),
            "<Envelope/>".into(),
            "<vm/>".into(),
            deep,
            wide,
            "<!DOCTYPE x [<!ENTITY a \"b\">]><Envelope>&a;</Envelope>".into(),
            "<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><Envelope/>".into(),
            "<Envelope>&xxe;</Envelope>".into(),
            document("", "<Disk ovf:fileRef=\"../../etc/passwd\"/>", ""),
            document("", "<Disk/>", ""),
            document("", &disk(DISK).replace("VirtIO", "floppy"), ""),
            document("", &disk(DISK).replace("true", "maybe"), ""),
            document("", &disk(DISK).repeat(300), ""),
            document("<Name>other</Name>", "", ""),
            document("<VmType>9</VmType>", "", ""),
            document("<MinAllocatedMem>-1</MinAllocatedMem>", "", ""),
            document("", "", &cpu("99999999999")),
            document("", "", &(cpu("1") + &cpu("2"))),
            document("", "", memory),
            document("", "", "<Item><rasd:Name>x</rasd:Name></Item>"),
        ] {
            let refused = read(&text).unwrap_err();
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{}", refused.detail());
            assert!(refused.detail().len() < 512, "{}", refused.detail());
        }
    }
}
