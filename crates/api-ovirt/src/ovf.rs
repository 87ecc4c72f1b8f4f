//! The configuration of a VM as an OVF document, in oVirt's own dialect of it (spec section 6).
//!
//! Made from the record that a snapshot stores, so that the document of a snapshot is the configuration at that time.
//! Sizes in the document are whole GiB as oVirt has them; the exact size is beside them in a namespace of our own, which
//! other readers skip. Version 3 of the API writes a few parts differently: those get their own functions here.

use crate::{house::ZERO, vm};
use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};
use std::io;
use stillpoint_engine::{
    config::{AttachmentConfig, NicConfig, SnapshotConfig},
    view::House,
};
use stillpoint_types::{DiskInterface, ImageFormat, ImageId, Micros, SnapshotId};
use stillpoint_wire::model;

const OVF: &str = "http://schemas.dmtf.org/ovf/envelope/1/";
const RASD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData";
const VSSD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData";
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// The namespace of exact sizes.
const OWN: &str = "urn:stillpoint:ovf:1";
/// The version of oVirt's document that this one follows.
const VERSION: &str = "4.5.0.0";
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What a document is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The record.
    pub(crate) record: &'a SnapshotConfig,
    /// The VM snapshot that the disks belong to; the active one for the VM as it is.
    pub(crate) snapshot: Option<SnapshotId>,
    /// The surroundings.
    pub(crate) house: &'a House,
    /// How often the configuration was changed, where that is known.
    pub(crate) generation: Option<u64>,
    /// When the document is made.
    pub(crate) now: Micros,
}

/// The element that holds a document.
pub(crate) fn initialization(document: String) -> model::Initialization {
    model::Initialization {
        configuration: Some(model::Configuration {
            data: Some(document),
            kind: Some("ovf".into()),
        }),
    }
}

/// Writes the document, in the form of version 4.
pub(crate) fn document(subject: &Subject<'_>) -> String {
    let mut out = Out(Writer::new(Vec::new()));
    out.envelope(subject).expect("writing into memory does not fail");
    String::from_utf8(out.0.into_inner()).expect("only text was written")
}

/// The images of a record, with the attachment that each belongs to: a disk outside of the snapshot has none.
fn images(record: &SnapshotConfig) -> impl Iterator<Item = (&AttachmentConfig, ImageId)> {
    record
        .attachments
        .iter()
        .filter_map(|attachment| attachment.image.map(|image| (attachment, image)))
}

struct Out(Writer<Vec<u8>>);

impl Out {
    fn envelope(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        self.0
            .write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let namespaces = [
            ("xmlns:ovf", OVF),
            ("xmlns:rasd", RASD),
            ("xmlns:vssd", VSSD),
            ("xmlns:xsi", XSI),
            ("xmlns:sp", OWN),
            ("ovf:version", VERSION),
        ];
        self.within("ovf:Envelope", &namespaces, |out| {
            out.within("References", &[], |out| {
                images(subject.record).try_for_each(|(disk, image)| out.file(disk, image))
            })?;
            out.networks(subject)?;
            out.disks(subject)?;
            out.content(subject)
        })
    }

    fn file(&mut self, disk: &AttachmentConfig, image: ImageId) -> io::Result<()> {
        self.empty(
            "File",
            &[
                ("ovf:href", &file_reference(disk, image)),
                ("ovf:id", &image.to_string()),
                ("ovf:size", &disk.size_bytes.to_string()),
                ("ovf:description", &disk.description),
                ("ovf:disk_storage_type", "IMAGE"),
                ("ovf:cinder_volume_type", ""),
            ],
        )
    }

    fn networks(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        self.within("NetworkSection", &[], |out| {
            out.text("Info", "List of networks")?;
            out.empty("Network", &[("ovf:name", &subject.house.network.1)])
        })
    }

    fn disks(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        let snapshot = subject.snapshot.map(|id| id.to_string()).unwrap_or_default();
        self.within("Section", &[("xsi:type", "ovf:DiskSection_Type")], |out| {
            out.text("Info", "List of Virtual Disks")?;
            images(subject.record).try_for_each(|(disk, image)| out.disk(disk, image, &snapshot))
        })
    }

    fn disk(&mut self, disk: &AttachmentConfig, image: ImageId, snapshot: &str) -> io::Result<()> {
        let parent = disk
            .parent
            .map(|parent| file_reference(disk, parent))
            .unwrap_or_default();
        let (url, format) = match disk.format {
            ImageFormat::Raw => ("http://www.vmware.com/specifications/vmdk.html#sparse", "RAW"),
            ImageFormat::Cow => ("http://www.gnome.org/~markmc/qcow-image-format.html", "COW"),
        };
        let gib = disk.size_bytes.div_ceil(GIB).to_string();
        let flag = |value: bool| if value { "true" } else { "false" };
        self.empty(
            "Disk",
            &[
                ("ovf:diskId", &image.to_string()),
                ("ovf:size", &gib),
                ("ovf:actual_size", &gib),
                ("ovf:vm_snapshot_id", snapshot),
                ("ovf:parentRef", &parent),
                ("ovf:fileRef", &file_reference(disk, image)),
                ("ovf:format", url),
                ("ovf:volume-format", format),
                ("ovf:volume-type", if disk.sparse { "Sparse" } else { "Preallocated" }),
                ("ovf:disk-interface", interface(disk.interface)),
                ("ovf:read-only", flag(disk.read_only)),
                ("ovf:shareable", "false"),
                ("ovf:boot", flag(disk.bootable)),
                ("ovf:disk-alias", &disk.alias),
                ("ovf:disk-description", &disk.description),
                ("ovf:wipe-after-delete", "false"),
                ("sp:capacity-bytes", &disk.size_bytes.to_string()),
            ],
        )
    }

    fn content(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        let attributes = [("ovf:id", "out"), ("xsi:type", "ovf:VirtualSystem_Type")];
        self.within("Content", &attributes, |out| {
            out.general(subject)?;
            out.system(subject)?;
            out.within("Section", &[("xsi:type", "ovf:VirtualHardwareSection_Type")], |out| {
                out.hardware(subject)
            })
        })
    }

    fn general(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        let config = &subject.record.config;
        self.text("Name", &config.name)?;
        self.text("Description", &config.description)?;
        self.text("Comment", &config.comment)?;
        self.text("CreationDate", &date(subject.record.created_at))?;
        self.text("ExportDate", &date(subject.now))?;
        self.text("DeleteProtected", &config.delete_protected.to_string())?;
        self.text("SsoMethod", "none")?;
        self.text("IsSmartcardEnabled", "false")?;
        self.text("TimeZone", "Etc/GMT")?;
        self.text("default_boot_sequence", "0")?;
        if let Some(generation) = subject.generation {
            self.text("Generation", &generation.to_string())?;
        }
        self.text("ClusterCompatibilityVersion", "4.7")?;
        self.text("VmType", vm_type(&config.vm_type))?;
        self.text("MinAllocatedMem", &(config.memory_guaranteed_bytes / MIB).to_string())?;
        for (name, value) in [
            ("IsStateless", "false"),
            ("IsRunAndPause", "false"),
            ("AutoStartup", "false"),
            ("Priority", "1"),
            ("IsBootMenuEnabled", "false"),
            ("CustomEmulatedMachine", &config.machine),
            ("BiosType", bios(&config.machine)),
            ("MaxMemorySizeMb", &(config.memory_bytes / MIB).to_string()),
            ("BalloonEnabled", "false"),
            ("ClusterName", &subject.house.cluster.1),
            ("TemplateId", ZERO),
            ("TemplateName", "Blank"),
            ("IsInitilized", "true"),
            ("Origin", "3"),
            ("OriginalTemplateId", ZERO),
            ("OriginalTemplateName", "Blank"),
            ("UseLatestVersion", "false"),
        ] {
            self.text(name, value)?;
        }
        for (name, value) in [
            ("kernel_url", &config.kernel),
            ("initrd_url", &config.initrd),
            ("kernel_params", &config.cmdline),
        ] {
            if let Some(value) = value {
                self.text(name, value)?;
            }
        }
        Ok(())
    }

    fn system(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        let attributes = [
            ("ovf:id", subject.record.vm.to_string()),
            ("ovf:required", "false".to_owned()),
            ("xsi:type", "ovf:OperatingSystemSection_Type".to_owned()),
        ];
        let attributes: Vec<(&str, &str)> = attributes.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.within("Section", &attributes, |out| {
            out.text("Info", "Guest Operating System")?;
            out.text("Description", &subject.record.config.os_type)
        })
    }

    fn hardware(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        let config = &subject.record.config;
        let cpus = u64::from(config.sockets) * u64::from(config.cores) * u64::from(config.threads);
        let mib = config.memory_bytes / MIB;
        self.text("Info", &format!("{cpus} CPU, {mib} Memory"))?;
        self.within("System", &[], |out| {
            out.text("vssd:VirtualSystemType", &format!("ENGINE {VERSION}"))
        })?;
        self.item(
            3,
            "1",
            &format!("{cpus} virtual cpu"),
            &[
                ("rasd:Description", "Number of virtual CPU"),
                ("rasd:num_of_sockets", &config.sockets.to_string()),
                ("rasd:cpu_per_socket", &config.cores.to_string()),
                ("rasd:threads_per_cpu", &config.threads.to_string()),
                ("rasd:max_num_of_vcpus", &cpus.to_string()),
                ("rasd:VirtualQuantity", &cpus.to_string()),
            ],
        )?;
        self.item(
            4,
            "2",
            &format!("{mib} MB of memory"),
            &[
                ("rasd:Description", "Memory Size"),
                ("rasd:AllocationUnits", "MegaBytes"),
                ("rasd:VirtualQuantity", &mib.to_string()),
            ],
        )?;
        for (disk, image) in images(subject.record) {
            self.disk_item(subject, disk, image)?;
        }
        for nic in &config.nics {
            self.nic_item(subject, nic)?;
        }
        self.item(23, "3", "USB Controller", &[("rasd:UsbPolicy", "DISABLED")])
    }

    fn disk_item(&mut self, subject: &Subject<'_>, disk: &AttachmentConfig, image: ImageId) -> io::Result<()> {
        let parent = disk.parent.map_or_else(|| ZERO.to_owned(), |parent| parent.to_string());
        self.item(
            17,
            &image.to_string(),
            &disk.alias,
            &[
                ("rasd:HostResource", &file_reference(disk, image)),
                ("rasd:Parent", &parent),
                ("rasd:Template", ZERO),
                ("rasd:ApplicationList", ""),
                ("rasd:StoragePoolId", &subject.house.data_center.0),
                ("rasd:CreationDate", &date(subject.record.created_at)),
                ("rasd:LastModified", &date(subject.now)),
                ("rasd:last_modified_date", &date(subject.now)),
                ("Type", "disk"),
                ("Device", "disk"),
                ("rasd:Address", ""),
                ("BootOrder", if disk.bootable { "1" } else { "0" }),
                ("IsPlugged", &disk.active.to_string()),
                ("IsReadOnly", &disk.read_only.to_string()),
                ("Alias", &format!("ua-{}", disk.disk)),
            ],
        )
    }

    fn nic_item(&mut self, subject: &Subject<'_>, nic: &NicConfig) -> io::Result<()> {
        let network = &subject.house.network.1;
        self.item(
            10,
            &nic.id.to_string(),
            &format!("Ethernet adapter on {network}"),
            &[
                ("rasd:OtherResourceType", &subject.house.vnic_profile.1),
                ("rasd:ResourceSubType", nic_model(&nic.interface)),
                ("rasd:Connection", network),
                ("rasd:Linked", &nic.linked.to_string()),
                ("rasd:Name", &nic.name),
                ("rasd:ElementName", &nic.name),
                ("rasd:MACAddress", &nic.mac),
                ("rasd:speed", "1000"),
                ("Type", "interface"),
                ("Device", "bridge"),
                (
                    "rasd:Address",
                    &format!(
                        "{{type=pci, slot=0x{:02x}, bus=0x00, domain=0x0000, function=0x0}}",
                        nic.pci_slot
                    ),
                ),
                ("BootOrder", "0"),
                ("IsPlugged", "true"),
                ("IsReadOnly", "false"),
                ("Alias", &format!("ua-{}", nic.id)),
            ],
        )
    }

    fn item(&mut self, kind: u8, id: &str, caption: &str, members: &[(&str, &str)]) -> io::Result<()> {
        self.within("Item", &[], |out| {
            out.text("rasd:Caption", caption)?;
            out.text("rasd:InstanceId", id)?;
            out.text("rasd:ResourceType", &kind.to_string())?;
            members.iter().try_for_each(|(name, value)| out.text(name, value))
        })
    }

    fn within(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        inside: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        self.0.write_event(Event::Start(start(name, attributes)))?;
        inside(self)?;
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
        self.0.write_event(Event::Empty(start(name, attributes)))
    }

    fn text(&mut self, name: &str, value: &str) -> io::Result<()> {
        let value = speakable(value);
        self.within(name, &[], |out| out.0.write_event(Event::Text(BytesText::new(&value))))
    }
}

fn start<'a>(name: &'a str, attributes: &[(&str, &str)]) -> BytesStart<'a> {
    let mut start = BytesStart::new(name);
    for (name, value) in attributes {
        start.push_attribute((*name, speakable(value).as_str()));
    }
    start
}

/// The text without what XML 1.0 cannot carry.
fn speakable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'.. => c,
            _ => char::REPLACEMENT_CHARACTER,
        })
        .collect()
}

fn file_reference(disk: &AttachmentConfig, image: ImageId) -> String {
    format!("{}/{image}", disk.disk)
}

fn interface(interface: DiskInterface) -> &'static str {
    match interface {
        DiskInterface::Virtio => "VirtIO",
        DiskInterface::VirtioScsi => "VirtIO_SCSI",
        DiskInterface::Ide => "IDE",
        DiskInterface::Sata => "SATA",
    }
}

fn vm_type(label: &str) -> &'static str {
    match label {
        "desktop" => "0",
        "high_performance" => "2",
        _ => "1",
    }
}

fn bios(machine: &str) -> &'static str {
    if vm::bios(machine).starts_with("i440fx") {
        "0"
    } else {
        "1"
    }
}

fn nic_model(interface: &str) -> &'static str {
    match interface {
        "rtl8139" => "1",
        "e1000" => "2",
        _ => "3",
    }
}

fn date(micros: Micros) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .strftime("%Y/%m/%d %H:%M:%S")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_xml::{NsReader, name::ResolveResult};
    use stillpoint_engine::config::VmConfig;
    use stillpoint_types::{DiskId, NicId, VmId};
    use uuid::Uuid;

    fn house() -> House {
        let named = |id: u128, name: &str| (Uuid::from_u128(id).to_string(), name.to_owned());
        House {
            instance: Uuid::from_u128(1).to_string(),
            data_center: named(2, "Default"),
            cluster: named(3, "Default"),
            host: named(4, "kvm1"),
            network: named(5, "ovirtmgmt"),
            vnic_profile: named(6, "ovirtmgmt"),
            host_cpus: 4,
            host_memory_bytes: 8 << 30,
            qemu_version: "7.2.0".into(),
            accelerator: "tcg".into(),
        }
    }

    fn disk(number: u128, alias: &str, image: Option<u128>, parent: Option<u128>) -> AttachmentConfig {
        AttachmentConfig {
            disk: DiskId(Uuid::from_u128(number)),
            alias: alias.into(),
            description: alias.into(),
            size_bytes: (3 << 30) + 512,
            interface: DiskInterface::VirtioScsi,
            bootable: number == 0x10,
            active: true,
            read_only: false,
            slot: 0,
            image: image.map(|id| ImageId(Uuid::from_u128(id))),
            parent: parent.map(|id| ImageId(Uuid::from_u128(id))),
            format: ImageFormat::Cow,
            sparse: true,
        }
    }

    fn record(name: &str) -> SnapshotConfig {
        SnapshotConfig {
            vm: VmId(Uuid::from_u128(0xb0)),
            config: VmConfig {
                name: name.into(),
                description: name.into(),
                comment: name.into(),
                memory_bytes: 1 << 30,
                memory_guaranteed_bytes: 1 << 29,
                sockets: 2,
                cores: 3,
                threads: 1,
                os_type: "other_linux".into(),
                kernel: Some(name.into()),
                initrd: None,
                cmdline: Some(name.into()),
                vm_type: "server".into(),
                delete_protected: false,
                machine: "pc-q35-7.2".into(),
                nics: vec![NicConfig {
                    id: NicId(Uuid::from_u128(0xc0)),
                    name: name.into(),
                    mac: "00:1a:4a:16:01:51".into(),
                    interface: "virtio".into(),
                    linked: true,
                    pci_slot: 3,
                }],
            },
            attachments: vec![
                disk(0x10, name, Some(0xa1), Some(0xa0)),
                disk(0x11, "data", Some(0xa2), None),
                disk(0x12, "outside", None, None),
            ],
            created_at: 1_767_323_045_123_456,
            generation: 7,
        }
    }

    fn written(record: &SnapshotConfig) -> String {
        document(&Subject {
            record,
            snapshot: Some(SnapshotId(Uuid::from_u128(0x50))),
            house: &house(),
            generation: Some(record.generation),
            now: 1_767_400_000_000_000,
        })
    }

    /// Texts of every element of a name, with whether every prefix of the document is bound.
    fn texts(document: &str, wanted: &str) -> Vec<String> {
        let mut reader = NsReader::from_str(document);
        let (mut found, mut inside) = (Vec::new(), false);
        loop {
            let (namespace, event) = reader.read_resolved_event().unwrap();
            assert!(!matches!(namespace, ResolveResult::Unknown(_)), "an unbound prefix");
            match event {
                Event::Start(start) => {
                    inside = start.name().as_ref() == wanted;
                    if inside {
                        found.push(String::new());
                    }
                    for attribute in start.attributes() {
                        attribute.unwrap();
                    }
                }
                Event::Text(text) if inside => found.last_mut().unwrap().push_str(&text),
                Event::GeneralRef(reference) if inside => {
                    let c = match reference.resolve_char_ref().unwrap() {
                        Some(c) => c.to_string(),
                        None => quick_xml::escape::resolve_predefined_entity(&reference)
                            .unwrap()
                            .to_owned(),
                    };
                    found.last_mut().unwrap().push_str(&c);
                }
                Event::End(_) => inside = false,
                Event::Eof => return found,
                _ => {}
            }
        }
    }

    #[test]
    fn a_document_looks_as_written_down() {
        let now = written(&record("db1")).replace("><", ">\n<");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/snapshot.ovf");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        assert_eq!(
            now,
            std::fs::read_to_string(path).unwrap(),
            "review, then run with UPDATE_GOLDEN=1"
        );
    }

    #[test]
    fn a_restore_tool_finds_the_machine_its_disks_and_its_interfaces() {
        let document = written(&record("db1"));
        let mut kinds = texts(&document, "rasd:ResourceType");
        kinds.sort();
        assert_eq!(
            kinds,
            ["10", "17", "17", "23", "3", "4"],
            "the disk outside is left out"
        );
        assert_eq!(texts(&document, "CreationDate"), ["2026/01/02 03:04:05"]);
        assert_eq!(texts(&document, "Generation"), ["7"]);
        assert!(document.contains("ovf:size=\"4\""), "GiB, rounded up");
        assert!(document.contains("sp:capacity-bytes=\"3221225984\""), "and exact");
        assert_eq!(document.matches("<File ").count(), 2);
        assert_eq!(document.matches("<Disk ").count(), 2);
        assert!(document.contains(&format!("<Section ovf:id=\"{}\"", Uuid::from_u128(0xb0))));
    }

    #[test]
    fn a_hostile_name_stays_a_name() {
        let hostile = "</Name><Evil a=\"1\"/>&lt;\u{1}]]> \u{fffe} ö <!-- ' \" &amp;";
        let document = written(&record(hostile));
        let expected = hostile.replace(['\u{1}', '\u{fffe}'], "\u{fffd}");
        assert_eq!(texts(&document, "Name"), [expected.as_str()]);
        assert_eq!(texts(&document, "kernel_params"), [expected]);
        assert!(texts(&document, "Evil").is_empty());
    }
}
