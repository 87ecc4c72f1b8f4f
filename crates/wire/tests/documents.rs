//! The documents of the contract: what comes out, and what requests mean.

use stillpoint_wire::{
    Date, Dialect, Encoding, Form, Limits, ListWriter, model::*, read, read_list, write, write_list,
};

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;
/// 2026-01-02T03:04:05.123456Z
const WHEN: Date = Date(1_767_323_045_123_456);

fn snapshot() -> Snapshot {
    let mut head = Header::new("s1", "/api/vms/v1/snapshots/s1");
    head.description = Some("before <upgrade>".into());
    head.add_action("restore");
    head.add_link("disks");
    Snapshot {
        base: Vm { head, ..Vm::default() },
        date: Some(WHEN),
        persist_memorystate: Some(false),
        snapshot_status: Some("ok".into()),
        snapshot_type: Some("regular".into()),
        vm: Some(Box::new(Vm {
            memory: Some(1 << 40),
            ..Vm::of("v1", "/api/vms/v1")
        })),
        ..Snapshot::default()
    }
}

fn xml<T: stillpoint_wire::Wire>(text: &str) -> T {
    read(text.as_bytes(), Encoding::Xml, &Limits::default())
        .expect("well-formed")
        .value
}

fn json<T: stillpoint_wire::Wire>(text: &str) -> T {
    read(text.as_bytes(), Encoding::Json, &Limits::default())
        .expect("well-formed")
        .value
}

#[test]
fn a_snapshot_in_xml_has_the_members_in_the_order_of_the_contract() {
    let expected = concat!(
        r#"<snapshot href="/api/vms/v1/snapshots/s1" id="s1">"#,
        r#"<actions><link href="/api/vms/v1/snapshots/s1/restore" rel="restore"/></actions>"#,
        "<description>before &lt;upgrade&gt;</description>",
        r#"<link href="/api/vms/v1/snapshots/s1/disks" rel="disks"/>"#,
        "<date>2026-01-02T03:04:05.123Z</date><persist_memorystate>false</persist_memorystate>",
        "<snapshot_status>ok</snapshot_status><snapshot_type>regular</snapshot_type>",
        r#"<vm href="/api/vms/v1" id="v1"><memory>1099511627776</memory></vm></snapshot>"#,
    );
    assert_eq!(write(&snapshot(), Encoding::Xml), format!("{HEAD}{expected}"));
}

#[test]
fn a_snapshot_in_json_has_quoted_numbers_and_dates_as_milliseconds() {
    let expected = concat!(
        r#"{"href":"/api/vms/v1/snapshots/s1","id":"s1","#,
        r#""actions":{"link":[{"href":"/api/vms/v1/snapshots/s1/restore","rel":"restore"}]},"#,
        r#""description":"before <upgrade>","#,
        r#""link":[{"href":"/api/vms/v1/snapshots/s1/disks","rel":"disks"}],"#,
        r#""date":1767323045123,"persist_memorystate":"false","#,
        r#""snapshot_status":"ok","snapshot_type":"regular","#,
        r#""vm":{"href":"/api/vms/v1","id":"v1","memory":"1099511627776"}}"#,
    );
    assert_eq!(write(&snapshot(), Encoding::Json), expected);
}

#[test]
fn an_empty_list_of_disks_is_told_from_an_absent_one() {
    let none: Snapshot = xml("<snapshot><description>d</description></snapshot>");
    assert_eq!(none.base.disk_attachments, None);
    for text in [
        "<snapshot><disk_attachments/></snapshot>",
        "<snapshot><disk_attachments> </disk_attachments></snapshot>",
    ] {
        assert_eq!(xml::<Snapshot>(text).base.disk_attachments, Some(vec![]));
    }
    for text in [
        r#"{"disk_attachments":{}}"#,
        r#"{"disk_attachments":{"disk_attachment":[]}}"#,
    ] {
        assert_eq!(json::<Snapshot>(text).base.disk_attachments, Some(vec![]));
    }
    assert_eq!(
        json::<Snapshot>(r#"{"disk_attachments":null}"#).base.disk_attachments,
        None
    );
}

#[test]
fn a_snapshot_request_means_the_same_in_both_encodings() {
    let from_xml: Snapshot = xml(
        "<?xml version='1.0' encoding='utf-8'?><!-- c --><snapshot xmlns='urn:x'><persist_memorystate>FALSE</persist_memorystate>\
         <disk_attachments><disk_attachment><disk id='d1'><image_id>i9</image_id></disk></disk_attachment></disk_attachments>\
         <description>a &amp; b&#x21;<![CDATA[<c>]]></description></snapshot>",
    );
    let from_json: Snapshot = json(
        r#"{"description":"a & b!<c>","persist_memorystate":false,
            "disk_attachments":{"disk_attachment":[{"disk":{"id":"d1","image_id":"i9"}}]}}"#,
    );
    assert_eq!(from_xml, from_json);
    assert_eq!(from_xml.base.head.description.as_deref(), Some("a & b!<c>"));
    assert_eq!(from_xml.persist_memorystate, Some(false));
    let disk = from_xml.base.disk_attachments.unwrap().remove(0).disk.unwrap();
    assert_eq!(
        (disk.head.id.as_deref(), disk.image_id.as_deref()),
        (Some("d1"), Some("i9"))
    );
}

#[test]
fn unknown_members_are_skipped_and_counted() {
    let text = b"<snapshot a='1'><foo><description>no</description></foo><description>x</description><x:y/></snapshot>";
    let got = read::<Snapshot>(text, Encoding::Xml, &Limits::default()).unwrap();
    assert_eq!(
        (got.value.base.head.description.as_deref(), got.unknown),
        (Some("x"), 3)
    );
    let got = read::<Snapshot>(
        br#"{"foo":{"a":[1]},"description":"x"}"#,
        Encoding::Json,
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(
        (got.value.base.head.description.as_deref(), got.unknown),
        (Some("x"), 1)
    );
}

#[test]
fn an_empty_text_prints_a_start_and_an_end_tag_and_an_absent_one_nothing() {
    let mut vm = Vm::default();
    vm.head.description = Some(String::new());
    assert_eq!(
        write(&vm, Encoding::Xml),
        format!("{HEAD}<vm><description></description></vm>")
    );
    assert_eq!(write(&vm, Encoding::Json), r#"{"description":""}"#);
    assert_eq!(write(&Vm::default(), Encoding::Xml), format!("{HEAD}<vm/>"));
}

#[test]
fn lists_hold_nothing_but_items_and_can_be_written_in_pieces() {
    assert_eq!(write_list::<Vm>(&[], Encoding::Xml), format!("{HEAD}<vms></vms>"));
    assert_eq!(write_list::<Vm>(&[], Encoding::Json), "{}");
    let vms = [Vm::of("a", "/a"), Vm::of("b", "/b")];
    assert_eq!(
        write_list(&vms, Encoding::Xml),
        format!(r#"{HEAD}<vms><vm href="/a" id="a"/><vm href="/b" id="b"/></vms>"#)
    );
    assert_eq!(
        write_list(&vms, Encoding::Json),
        r#"{"vm":[{"href":"/a","id":"a"},{"href":"/b","id":"b"}]}"#
    );
    for encoding in [Encoding::Xml, Encoding::Json] {
        let (mut list, mut text) = (ListWriter::new(encoding), String::new());
        for vm in &vms {
            text.push_str(&list.take());
            list.item(vm);
            assert!(list.pending() > 0);
        }
        text.push_str(&list.take());
        text.push_str(&list.finish());
        assert_eq!(text, write_list(&vms, encoding));
        assert_eq!(
            read_list::<Vm>(text.as_bytes(), encoding, &Limits::default())
                .unwrap()
                .value,
            vms
        );
    }
}

#[test]
fn a_vm_keeps_its_boot_devices_as_a_wrapped_list() {
    let boot = Boot {
        devices: Some(BootDevices {
            device: vec!["hd".into(), "network".into()],
        }),
    };
    let os = OperatingSystem {
        boot: Some(boot),
        cmdline: Some("a=1".into()),
        ..OperatingSystem::default()
    };
    let vm = Vm {
        os: Some(os),
        kind: Some("server".into()),
        ..Vm::default()
    };
    let text = write(&vm, Encoding::Xml);
    assert!(text.contains("<os><boot><devices><device>hd</device><device>network</device></devices></boot><cmdline>"));
    assert!(text.contains("<type>server</type>"), "{text}");
    assert_eq!(xml::<Vm>(&text), vm);
    let text = write(&vm, Encoding::Json);
    assert!(
        text.contains(r#""boot":{"devices":{"device":["hd","network"]}}"#),
        "{text}"
    );
    assert_eq!(json::<Vm>(&text), vm);
}

#[test]
fn a_failed_action_carries_the_fault_before_the_status() {
    let action = Action {
        fault: Some(Fault::new("Operation Failed", "[The VM is running.]")),
        status: Some("failed".into()),
        ..Action::default()
    };
    assert_eq!(
        write(&action, Encoding::Xml),
        format!(
            "{HEAD}<action><fault><detail>[The VM is running.]</detail><reason>Operation Failed</reason></fault>\
             <status>failed</status></action>"
        )
    );
    assert_eq!(
        write(&action, Encoding::Json),
        r#"{"fault":{"detail":"[The VM is running.]","reason":"Operation Failed"},"status":"failed"}"#
    );
}

/// What the two versions write differently of one value, and that each reads its own back.
#[test]
fn version_3_says_the_same_in_its_own_words() {
    let mut head = Header::new("v1", "/api/vms/v1");
    for path in ["backups", "diskattachments", "nics"] {
        head.add_link(path);
    }
    head.add_action("previewsnapshot");
    let vm = Vm {
        head,
        cpu: Some(Cpu {
            topology: Some(CpuTopology {
                cores: Some(2),
                ..CpuTopology::default()
            }),
            ..Cpu::default()
        }),
        os: Some(OperatingSystem {
            boot_order: vec![BootDevice { dev: Some("hd".into()) }],
            kind: Some("other".into()),
            ..OperatingSystem::default()
        }),
        start_time: Some(WHEN),
        status: Some(State {
            state: "paused".into(),
            detail: Some("eio".into()),
        }),
        status_detail: Some("eio".into()),
        ..Vm::default()
    };
    let form = |encoding| Form {
        dialect: Dialect::V3,
        encoding,
    };
    assert_eq!(
        write(&vm, form(Encoding::Xml)),
        format!(
            "{HEAD}<vm href=\"/api/vms/v1\" id=\"v1\">\
             <actions><link href=\"/api/vms/v1/preview_snapshot\" rel=\"preview_snapshot\"/></actions>\
             <link href=\"/api/vms/v1/disks\" rel=\"disks\"/><link href=\"/api/vms/v1/nics\" rel=\"nics\"/>\
             <cpu><topology cores=\"2\"/></cpu><os type=\"other\"><boot dev=\"hd\"/></os>\
             <start_time>2026-01-02T03:04:05.123+00:00</start_time>\
             <status><state>paused</state><detail>eio</detail></status></vm>"
        )
    );
    assert_eq!(
        write(&vm, Encoding::Xml),
        format!(
            "{HEAD}<vm href=\"/api/vms/v1\" id=\"v1\">\
             <actions><link href=\"/api/vms/v1/previewsnapshot\" rel=\"previewsnapshot\"/></actions>\
             <link href=\"/api/vms/v1/backups\" rel=\"backups\"/>\
             <link href=\"/api/vms/v1/diskattachments\" rel=\"diskattachments\"/><link href=\"/api/vms/v1/nics\" rel=\"nics\"/>\
             <cpu><topology><cores>2</cores></topology></cpu><os><type>other</type></os>\
             <start_time>2026-01-02T03:04:05.123Z</start_time><status>paused</status>\
             <status_detail>eio</status_detail></vm>"
        )
    );
    for encoding in [Encoding::Xml, Encoding::Json] {
        let written = write(&vm, form(encoding));
        let got = read::<Vm>(written.as_bytes(), form(encoding), &Limits::default()).unwrap();
        assert_eq!(got.unknown, 0, "{written}");
        let expected = (&vm.cpu, &vm.os, &vm.status);
        assert_eq!(
            (&got.value.cpu, &got.value.os, &got.value.status),
            expected,
            "{written}"
        );
        assert_eq!(got.value.start_time, Some(Date(1_767_323_045_123_000)));
    }
}

#[test]
fn version_3_has_its_own_order_and_its_own_attributes() {
    let form = |encoding| Form {
        dialect: Dialect::V3,
        encoding,
    };
    let fault = Fault::new("Operation Failed", "[why]");
    assert_eq!(
        write(&fault, form(Encoding::Json)),
        r#"{"reason":"Operation Failed","detail":"[why]"}"#
    );
    // Where version 3 has an attribute, an element does too; version 4 knows no attribute there.
    let mac = r#"<nic><mac address="00:1a:4a:16:01:51"/></nic>"#;
    let read_mac = |form: Form| read::<Nic>(mac.as_bytes(), form, &Limits::default()).unwrap();
    assert_eq!(read_mac(form(Encoding::Xml)).unknown, 0);
    assert_eq!(read_mac(Encoding::Xml.into()).unknown, 1);
}
