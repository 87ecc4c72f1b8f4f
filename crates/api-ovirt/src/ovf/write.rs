//! Writes the document.
//!
//! Version 3 writes a few parts differently; each such part asks [`Subject::dialect`].

use super::{GIB, MIB, OVF, OWN, RASD, VSSD, XSI};
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
use stillpoint_wire::Dialect;

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
    /// Which version's form it has.
    pub(crate) dialect: Dialect,
    /// When the document is made.
    pub(crate) now: Micros,
}

impl Subject<'_> {
    fn is_v3(&self) -> bool {
        self.dialect == Dialect::V3
    }

    /// The version of the product whose document this one follows.
    fn version(&self) -> &'static str {
        match self.dialect {
            Dialect::V4 => "4.5.0.0",
            Dialect::V3 => "3.6.0.0",
        }
    }

    /// An element that version 3 has not: there it is one of our own.
    fn since_v4(&self, v4: &'static str, own: &'static str) -> &'static str {
        if self.is_v3() { own } else { v4 }
    }
}

/// Writes the document.
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
            ("ovf:version", subject.version()),
        ];
        self.within("ovf:Envelope", &namespaces, |out| {
            out.within("References", &[], |out| {
                images(subject.record).try_for_each(|(disk, image)| out.file(subject, disk, image))?;
                let nics = subject.record.config.nics.iter().filter(|_| subject.is_v3());
                nics.map(|nic| nic.id.to_string())
                    .try_for_each(|id| out.empty("Nic", &[("ovf:id", &id)]))
            })?;
            out.networks(subject)?;
            out.disks(subject)?;
            out.content(subject)
        })
    }

    fn file(&mut self, subject: &Subject<'_>, disk: &AttachmentConfig, image: ImageId) -> io::Result<()> {
        let (href, id, size) = (
            file_reference(disk, image),
            image.to_string(),
            disk.size_bytes.to_string(),
        );
        let mut attributes: Vec<(&str, &str)> = vec![
            ("ovf:href", &href),
            ("ovf:id", &id),
            ("ovf:size", &size),
            ("ovf:description", &disk.description),
        ];
        if !subject.is_v3() {
            attributes.extend([("ovf:disk_storage_type", "IMAGE"), ("ovf:cinder_volume_type", "")]);
        }
        self.empty("File", &attributes)
    }

    fn networks(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        let (name, attributes): (_, &[(&str, &str)]) = match subject.dialect {
            Dialect::V4 => ("NetworkSection", &[]),
            Dialect::V3 => ("Section", &[("xsi:type", "ovf:NetworkSection_Type")]),
        };
        self.within(name, attributes, |out| {
            out.text("Info", "List of networks")?;
            out.empty("Network", &[("ovf:name", &subject.house.network.1)])
        })
    }

    fn disks(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        let snapshot = subject.snapshot.map(|id| id.to_string()).unwrap_or_default();
        self.within("Section", &[("xsi:type", "ovf:DiskSection_Type")], |out| {
            out.text("Info", "List of Virtual Disks")?;
            images(subject.record).try_for_each(|(disk, image)| out.disk(subject, disk, image, &snapshot))
        })
    }

    fn disk(
        &mut self,
        subject: &Subject<'_>,
        disk: &AttachmentConfig,
        image: ImageId,
        snapshot: &str,
    ) -> io::Result<()> {
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
        let (id, file, size) = (
            image.to_string(),
            file_reference(disk, image),
            disk.size_bytes.to_string(),
        );
        let mut attributes: Vec<(&str, &str)> = vec![
            ("ovf:diskId", &id),
            ("ovf:size", &gib),
            ("ovf:actual_size", &gib),
            ("ovf:vm_snapshot_id", snapshot),
            ("ovf:parentRef", &parent),
            ("ovf:fileRef", &file),
            ("ovf:format", url),
            ("ovf:volume-format", format),
            ("ovf:volume-type", if disk.sparse { "Sparse" } else { "Preallocated" }),
            ("ovf:disk-interface", interface(disk.interface)),
            ("ovf:boot", flag(disk.bootable)),
            ("ovf:disk-alias", &disk.alias),
            ("ovf:disk-description", &disk.description),
            ("ovf:wipe-after-delete", "false"),
            ("sp:capacity-bytes", &size),
        ];
        if !subject.is_v3() {
            attributes.extend([("ovf:read-only", flag(disk.read_only)), ("ovf:shareable", "false")]);
        }
        self.empty("Disk", &attributes)
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
        self.text("VmType", vm_type(&config.vm_type))?;
        self.text("MinAllocatedMem", &(config.memory_guaranteed_bytes / MIB).to_string())?;
        self.text("sp:guaranteed-bytes", &config.memory_guaranteed_bytes.to_string())?;
        for (name, value) in [
            ("IsStateless", "false"),
            ("IsRunAndPause", "false"),
            ("AutoStartup", "false"),
            ("Priority", "1"),
            ("CreatedByUserId", ZERO),
            ("IsBootMenuEnabled", "false"),
            ("IsSpiceFileTransferEnabled", "false"),
            ("IsSpiceCopyPasteEnabled", "false"),
            ("TemplateId", ZERO),
            ("TemplateName", "Blank"),
            ("IsInitilized", "true"),
            ("Origin", "3"),
            ("DefaultDisplayType", "0"),
            ("TrustedService", "false"),
            ("OriginalTemplateId", ZERO),
            ("OriginalTemplateName", "Blank"),
            ("UseLatestVersion", "false"),
            (
                subject.since_v4("CustomEmulatedMachine", "sp:machine"),
                config.machine.as_str(),
            ),
        ] {
            self.text(name, value)?;
        }
        if !subject.is_v3() {
            for (name, value) in [
                ("ClusterCompatibilityVersion", "4.7"),
                ("BiosType", bios(&config.machine)),
                ("MaxMemorySizeMb", &(config.memory_bytes / MIB).to_string()),
                ("BalloonEnabled", "false"),
                ("ClusterName", &subject.house.cluster.1),
            ] {
                self.text(name, value)?;
            }
        }
        for (name, value) in [
            (subject.since_v4("kernel_url", "sp:kernel_url"), &config.kernel),
            (subject.since_v4("initrd_url", "sp:initrd_url"), &config.initrd),
            (subject.since_v4("kernel_params", "sp:kernel_params"), &config.cmdline),
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
            out.text("vssd:VirtualSystemType", &format!("ENGINE {}", subject.version()))
        })?;
        let (sockets, cores, threads) = (
            config.sockets.to_string(),
            config.cores.to_string(),
            config.threads.to_string(),
        );
        let count = cpus.to_string();
        let mut members: Vec<(&str, &str)> = vec![
            ("rasd:Description", "Number of virtual CPU"),
            ("rasd:num_of_sockets", &sockets),
            ("rasd:cpu_per_socket", &cores),
            (subject.since_v4("rasd:threads_per_cpu", "sp:threads_per_cpu"), &threads),
        ];
        if !subject.is_v3() {
            members.extend([
                ("rasd:max_num_of_vcpus", count.as_str()),
                ("rasd:VirtualQuantity", count.as_str()),
            ]);
        }
        self.item(3, "1", &format!("{cpus} virtual cpu"), &members)?;
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
                ("rasd:Address", &address(disk)),
                ("BootOrder", if disk.bootable { "1" } else { "0" }),
                ("IsPlugged", &disk.active.to_string()),
                ("IsReadOnly", &disk.read_only.to_string()),
                ("Alias", &format!("ua-{}", disk.disk)),
            ],
        )
    }

    fn nic_item(&mut self, subject: &Subject<'_>, nic: &NicConfig) -> io::Result<()> {
        let network = &subject.house.network.1;
        let (linked, address, alias) = (
            nic.linked.to_string(),
            pci_address(nic.pci_slot),
            format!("ua-{}", nic.id),
        );
        let mut members: Vec<(&str, &str)> = vec![
            ("rasd:OtherResourceType", &subject.house.vnic_profile.1),
            ("rasd:ResourceSubType", nic_model(&nic.interface)),
            ("rasd:Connection", network),
            ("rasd:Linked", &linked),
            ("rasd:Name", &nic.name),
        ];
        if !subject.is_v3() {
            members.push(("rasd:ElementName", &nic.name));
        }
        members.extend([
            ("rasd:MACAddress", nic.mac.as_str()),
            ("rasd:speed", "1000"),
            ("Type", "interface"),
            ("Device", "bridge"),
            ("rasd:Address", &address),
            ("BootOrder", "0"),
            ("IsPlugged", "true"),
            ("IsReadOnly", "false"),
            ("Alias", &alias),
        ]);
        let caption = format!("Ethernet adapter on {network}");
        self.item(10, &nic.id.to_string(), &caption, &members)
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
        // Readers turn a carriage return into a line feed, unless it is a reference.
        let value = quick_xml::escape::escape(speakable(value)).replace('\r', "&#13;");
        self.within(name, &[], |out| {
            out.0.write_event(Event::Text(BytesText::from_escaped(value.as_str())))
        })
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

/// The place of a disk on its bus, as oVirt writes it.
fn address(disk: &AttachmentConfig) -> String {
    match disk.interface {
        DiskInterface::Virtio => pci_address(disk.slot),
        DiskInterface::VirtioScsi | DiskInterface::Ide | DiskInterface::Sata => {
            format!("{{type=drive, bus=0, controller=0, target=0, unit={}}}", disk.slot)
        }
    }
}

fn pci_address(slot: u8) -> String {
    format!("{{type=pci, slot=0x{slot:02x}, bus=0x00, domain=0x0000, function=0x0}}")
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
            consistency: None,
        }
    }

    fn written(record: &SnapshotConfig) -> String {
        written_for(record, Dialect::V4)
    }

    fn written_for(record: &SnapshotConfig, dialect: Dialect) -> String {
        document(&Subject {
            dialect,
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
        for (dialect, name) in [(Dialect::V4, "snapshot.ovf"), (Dialect::V3, "snapshot-v3.ovf")] {
            let now = written_for(&record("db1"), dialect).replace("><", ">\n<");
            let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&path, &now).unwrap();
            }
            assert_eq!(
                now,
                std::fs::read_to_string(&path).unwrap(),
                "review, then run with UPDATE_GOLDEN=1"
            );
        }
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
    fn version_3_has_its_own_form_of_the_same_record() {
        let document = written_for(&record("db1"), Dialect::V3);
        assert!(document.contains(&format!("<Nic ovf:id=\"{}\"/>", Uuid::from_u128(0xc0))));
        assert!(document.contains("<Section xsi:type=\"ovf:NetworkSection_Type\">"));
        assert!(document.contains("ovf:version=\"3."));
        for newer in [
            "<NetworkSection",
            "disk_storage_type",
            "<ClusterName>",
            "ovf:shareable",
            "<kernel_url>",
        ] {
            assert!(!document.contains(newer), "{newer}");
        }
        assert!(
            document.contains("<sp:kernel_url>db1</sp:kernel_url>"),
            "kept all the same"
        );
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
