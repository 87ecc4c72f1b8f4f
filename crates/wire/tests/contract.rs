//! The example documents of the contract, and requests as the Python SDK 4.6.3 writes them (`sdk_*`), each read without a loss and written back byte for byte.

use stillpoint_wire::{Encoding, Limits, Wire, model::*, read, read_list, write, write_list};

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;

/// The example as one line: it is indented for people.
fn compact(text: &str) -> String {
    HEAD.to_owned() + &text.lines().map(str::trim_start).collect::<String>()
}

fn check_xml<T: Wire + PartialEq + std::fmt::Debug>(text: &str) {
    let got = read::<T>(text.as_bytes(), Encoding::Xml, &Limits::default()).expect("the document is readable");
    assert_eq!(got.unknown, 0);
    assert_eq!(write(&got.value, Encoding::Xml), compact(text));
    let json = write(&got.value, Encoding::Json);
    let again = read::<T>(json.as_bytes(), Encoding::Json, &Limits::default()).expect("the document is readable");
    assert_eq!(again.unknown, 0);
    assert_eq!(again.value, got.value, "{json}");
}

/// Clients order the members of requests as they like.
fn check_request<T: Wire + PartialEq + std::fmt::Debug>(text: &str) {
    let got = read::<T>(text.as_bytes(), Encoding::Xml, &Limits::default()).expect("the document is readable");
    assert_eq!(got.unknown, 0);
    let written = write(&got.value, Encoding::Xml);
    assert_eq!(written.len(), compact(text).len(), "{written}");
    assert_eq!(
        read::<T>(written.as_bytes(), Encoding::Xml, &Limits::default()).expect("the document is readable"),
        got
    );
}

fn check_json<T: Wire + PartialEq + std::fmt::Debug>(text: &str) {
    let got = read::<T>(text.as_bytes(), Encoding::Json, &Limits::default()).expect("the document is readable");
    assert_eq!(got.unknown, 0);
    let expected: serde_json::Value = serde_json::from_str(text).expect("the example is JSON");
    let written: serde_json::Value =
        serde_json::from_str(&write(&got.value, Encoding::Json)).expect("JSON was written");
    assert_eq!(written, expected);
}

macro_rules! examples {
    ($($test:ident: $check:ident::<$ty:ty>($file:literal);)*) => {$(
        #[test]
        fn $test() {
            $check::<$ty>(include_str!(concat!("contract/", $file)));
        }
    )*};
}

examples! {
    the_api_root_keeps_every_member_and_its_order: check_xml::<Api>("api.xml");
    the_api_root_in_json_keeps_every_member: check_json::<Api>("api.json");
    a_snapshot_request_keeps_every_member: check_request::<Snapshot>("snapshot_request.xml");
    a_snapshot_request_of_the_python_sdk_is_understood_whole: check_request::<Snapshot>("sdk_snapshot_request.xml");
    a_vm_request_of_the_python_sdk_is_understood_whole: check_request::<Vm>("sdk_vm_request.xml");
    an_action_of_the_python_sdk_is_understood_whole: check_request::<Action>("sdk_action_request.xml");
    a_snapshot_keeps_every_member_and_its_order: check_xml::<Snapshot>("snapshot.xml");
    a_snapshot_in_json_keeps_every_member: check_json::<Snapshot>("snapshot.json");
    a_disk_keeps_every_member_and_its_order: check_xml::<Disk>("disk.xml");
    a_disk_in_json_keeps_every_member: check_json::<Disk>("disk.json");
    a_disk_attachment_keeps_every_member_and_its_order: check_xml::<DiskAttachment>("disk_attachment.xml");
    a_disk_attachment_in_json_keeps_every_member: check_json::<DiskAttachment>("disk_attachment.json");
    a_disk_snapshot_keeps_every_member_and_its_order: check_xml::<DiskSnapshot>("disk_snapshot.xml");
    a_disk_snapshot_in_json_keeps_every_member: check_json::<DiskSnapshot>("disk_snapshot.json");
    a_vm_keeps_every_member_and_its_order: check_xml::<Vm>("vm.xml");
    a_storage_domain_keeps_every_member_and_its_order: check_xml::<StorageDomain>("storage_domain.xml");
    a_storage_domain_in_json_keeps_every_member: check_json::<StorageDomain>("storage_domain.json");
    an_image_transfer_keeps_every_member_and_its_order: check_xml::<ImageTransfer>("image_transfer.xml");
    a_job_keeps_every_member_and_its_order: check_xml::<Job>("job.xml");
    a_job_in_json_keeps_every_member: check_json::<Job>("job.json");
    an_event_keeps_every_member_and_its_order: check_xml::<Event>("event.xml");
    an_event_in_json_keeps_every_member: check_json::<Event>("event.json");
    a_finished_action_keeps_every_member_and_its_order: check_xml::<Action>("action_done.xml");
    a_pending_action_keeps_every_member_and_its_order: check_xml::<Action>("action_pending.xml");
    a_failed_action_keeps_every_member_and_its_order: check_xml::<Action>("action_failed.xml");
    a_failed_action_in_json_keeps_every_member: check_json::<Action>("action_failed.json");
    a_fault_keeps_both_texts_and_their_order: check_xml::<Fault>("fault.xml");
}

#[test]
fn lists_keep_every_item_and_its_members() {
    let text = include_str!("contract/steps.xml");
    let steps =
        read_list::<Step>(text.as_bytes(), Encoding::Xml, &Limits::default()).expect("the document is readable");
    assert_eq!((steps.value.len(), steps.unknown), (1, 0));
    assert_eq!(write_list(&steps.value, Encoding::Xml), compact(text));

    let text = include_str!("contract/vms.json");
    let vms = read_list::<Vm>(text.as_bytes(), Encoding::Json, &Limits::default()).expect("the document is readable");
    assert_eq!((vms.value.len(), vms.unknown), (1, 0));
    let written: serde_json::Value =
        serde_json::from_str(&write_list(&vms.value, Encoding::Json)).expect("JSON was written");
    assert_eq!(
        written,
        serde_json::from_str::<serde_json::Value>(text).expect("the document is readable")
    );
}
