//! The references of errors and events, made from the tables of the code: `docs/reference/errors.md` and `events.md`.
//!
//! `STILLPOINT_REGENERATE=1 cargo test -p stillpoint-system-tests --test reference` writes them anew. A code that is new fails
//! here until something is said about it. (Configuration and metrics: `crates/stillpoint/src/serve/reference.rs`.)

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};
use stillpoint_types::FaultCode;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The document is this, or is made to be.
fn is_up_to_date(name: &str, now: &str) {
    let path = root().join("docs/reference").join(name);
    if std::env::var_os("STILLPOINT_REGENERATE").is_some() {
        fs::write(&path, now).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == now,
        "docs/reference/{name} is stale: run this test with STILLPOINT_REGENERATE=1"
    );
}

/// The codes of the core with their meaning, as their source says it.
fn codes() -> Vec<(FaultCode, String, String)> {
    let source = fs::read_to_string(root().join("crates/types/src/fault.rs")).unwrap();
    let (_, list) = source.split_once("pub enum FaultCode {").unwrap();
    let (list, _) = list.split_once("\n}").unwrap();
    let (mut found, mut about) = (Vec::new(), String::new());
    for line in list.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            about.push_str(text);
        } else if let Some(name) = line.strip_suffix(',') {
            let code = serde_json::from_value(name.into()).unwrap();
            found.push((code, name.to_owned(), std::mem::take(&mut about).trim().to_owned()));
        }
    }
    assert!(found.len() > 40);
    found
}

/// What to do about a fault whose remedy depends on the thing: its text says which.
fn remedy(name: &str) -> Option<&'static str> {
    Some(match name {
        "Unsupported" => "Leave out what the text names; README, \"What is there, and what is not\".",
        "VmStatus" => "Bring the VM into the state that the text names: start it, stop it, or wait.",
        "SnapshotNotRegular" => "Choose a regular snapshot, or end the preview.",
        "DiskNotAttached" => "Attach the disk to the VM, or leave it out.",
        "DiskAttached" => "Detach it from the VM that the text names, or stop that VM.",
        "SnapshotBroken" => "Restore its disks one by one, through a preview of them; or restore a backup.",
        "ImageRefused" => "Mend what the text names: another path, a damaged header, a name that leaves the directory.",
        "TransferPhase" => "Look at the transfer's phase; resume a paused one, wait for one that is ending.",
        "BackupPhase" => "End the transfer that the text names, or wait for the phase.",
        "DiskNotActive" => "Plug the disk in (`active`), or leave it out.",
        "VolumeStatus" => "Wait for the status that the text names, or detach the volume.",
        "HasDependants" => "Remove what the text names first.",
        "Protected" => "Leave it alone: it goes with its backup.",
        "GuestAgent" => "Install or restart qemu-guest-agent in the guest; without it, do not ask for a freeze.",
        "Hypervisor" => {
            "Look at the VM's qemu.log and the daemon's log; the state is as before, or a job is mending it."
        }
        "Storage" => "Look at the disk's file system and the daemon's log; nothing was lost that was answered.",
        _ => return None,
    })
}

#[test]
fn the_reference_of_errors_is_what_the_dialects_say() {
    let mut text = "# Errors\n\n\
        Made from the tables of the dialects; how a fault looks in each, and the order of the checks: [status codes](../ops/status-codes.md).\n\
        The text of a fault names the object, the cause, what blocks it and since when, and what to do. Every answer has a\n\
        `correlation-id`, which is in the log, in the events and in the job, too. What only HTTP knows (no such path or method, a\n\
        media type, no body in time) is not in this list.\n\n\
        | code | means | what to do | oVirt: status, `reason` | Cinder, Keystone | EVS | native |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (code, name, about) in codes() {
        let (status, reason) = stillpoint_api_ovirt::told(code);
        let (cinder, evs, evs_code) = stillpoint_api_volume::told(code);
        let (native, word, said) = stillpoint_api_native::told(code);
        let todo = remedy(&name).or(said);
        let todo = todo.unwrap_or_else(|| panic!("{name}: say in tests/tests/reference.rs what to do about it"));
        writeln!(
            text,
            "| `{name}` | {about} | {todo} | {status} {reason} | {cinder} | {evs} `{evs_code}` | {native} `{word}` |"
        )
        .unwrap();
    }
    is_up_to_date("errors.md", &text);
}

/// What an event means, and what to do about it; nothing, where there is nothing to do.
const EVENTS: &[(u32, &str, &str)] = &[
    (32, "A VM was started.", ""),
    (33, "A VM's plug was pulled.", ""),
    (34, "A VM was made.", ""),
    (35, "A VM was changed.", ""),
    (39, "A paused VM goes on.", ""),
    (45, "A snapshot is being taken.", ""),
    (46, "A snapshot is being previewed.", ""),
    (53, "A VM was made of a snapshot.", ""),
    (
        54,
        "A VM could not be started.",
        "The text says why; `qemu.log` of the VM.",
    ),
    (60, "A VM could not be made of a snapshot.", "The text says why."),
    (61, "A VM went down by itself: its guest was shut down.", ""),
    (68, "A snapshot is there.", ""),
    (
        69,
        "A snapshot could not be taken; nothing is left of it.",
        "The text says why; take it again.",
    ),
    (
        71,
        "The preview is ready; disks that it leaves out are named.",
        "Look, then commit or undo.",
    ),
    (73, "A guest was asked to shut down.", ""),
    (94, "A snapshot is being restored, or a preview committed.", ""),
    (95, "It was restored, or committed.", ""),
    (
        96,
        "It could not be restored; the VM is as before.",
        "The text says why.",
    ),
    (
        99,
        "It could not be previewed; the VM is as before.",
        "The text says why.",
    ),
    (113, "A VM was removed.", ""),
    (
        119,
        "A VM's QEMU ended: its guest lost power.",
        "`qemu.log` of the VM; start it.",
    ),
    (
        126,
        "A VM's QEMU lives and does not answer.",
        "[operation](../guide/operation.md), \"A job does not end\".",
    ),
    (127, "It answers again.", ""),
    (
        145,
        "A guest was paused: its storage has no room, or fails.",
        "Make room, or mend it; then start the VM.",
    ),
    (157, "A guest was asked to start anew.", ""),
    (
        173,
        "The memory could not be saved; the snapshot has the disks.",
        "The text says why.",
    ),
    (342, "A snapshot is being removed.", ""),
    (356, "A snapshot was removed.", ""),
    (
        357,
        "A snapshot could not be removed.",
        "The text says why; what is merged stays so.",
    ),
    (
        359,
        "A snapshot was removed from some of its disks; the text names those that it still has.",
        "Remove it again.",
    ),
    (370, "A disk could not be extended.", "The text says why."),
    (371, "A disk was extended.", "The file system in it is the guest's."),
    (650, "A preview is being undone.", ""),
    (651, "A preview was undone.", ""),
    (1031, "An image transfer began.", ""),
    (1032, "An image transfer ended well.", ""),
    (1033, "An image transfer was cancelled by its user.", ""),
    (1034, "An image transfer failed.", "The text says why; begin anew."),
    (1065, "A disk cannot be served to its transfer.", "The text says why."),
    (
        1071,
        "An upload was paused: its client did nothing for too long.",
        "Resume it, or cancel it.",
    ),
    (
        1072,
        "A download was cancelled: its client did nothing for too long.",
        "Begin anew; or a longer `inactivity_timeout`.",
    ),
    (1073, "A transfer was paused by its user.", ""),
    (1074, "A transfer was resumed.", ""),
    (
        1076,
        "A transfer was cancelled, as its policy says, for doing nothing.",
        "Begin anew.",
    ),
    (
        1077,
        "A transfer was paused, as its policy says, for doing nothing.",
        "Resume it, or cancel it.",
    ),
    (1326, "A disk was sparsified.", ""),
    (
        1327,
        "A disk could not be sparsified; it is as before.",
        "The text says why.",
    ),
    (2000, "A disk was plugged into a running VM.", ""),
    (2001, "A disk could not be plugged in or out.", "The text says why."),
    (2002, "A disk was unplugged from a running VM.", ""),
    (2006, "A disk was copied.", ""),
    (
        2007,
        "A disk could not be copied; nothing is left of the copy.",
        "The text says why.",
    ),
    (2014, "A disk was removed.", ""),
    (2016, "A disk was attached to a VM.", ""),
    (2017, "A disk was detached from a VM.", ""),
    (2018, "A disk was changed.", ""),
    (2021, "A disk was made.", ""),
    (2022, "A disk could not be made.", "The text says why."),
    (
        10764,
        "A guest was not frozen: what was taken is as after a power cut.",
        "Install `qemu-guest-agent` in the guest.",
    ),
    (
        10765,
        "A guest did not confirm that it was thawed.",
        "Look into the guest; it is asked again.",
    ),
    (10767, "A guest's file systems were frozen.", ""),
    (10768, "They were thawed.", ""),
    (10769, "A guest could not be frozen for its user.", "The text says why."),
    (
        10770,
        "A guest could not be thawed for its user.",
        "Look into the guest; it is asked again.",
    ),
    (10790, "A backup began.", ""),
    (
        10791,
        "A disk comes in full although a checkpoint was given.",
        "Nothing; the text says why.",
    ),
    (
        10792,
        "A backup failed; nothing is left of it.",
        "The text says why; begin anew.",
    ),
    (10793, "A backup ended well; its checkpoint stays.", ""),
    (10794, "A backup's client said that it is done.", ""),
    (10797, "A checkpoint was removed.", ""),
    (
        10813,
        "What a backup held apart could not be merged yet; it is tried again.",
        "The text says why.",
    ),
    (20001, "After a restart, an unfinished job goes on.", ""),
    (
        20002,
        "QEMU's chain is not the recorded one: the disk is illegal, and left alone.",
        "[recovery](../ops/recovery.md), \"A disk is illegal\".",
    ),
    (
        20003,
        "A job cannot go on; it is tried again each 15 s.",
        "Mend what the text names.",
    ),
    (
        20004,
        "What changed since a checkpoint is not known any more for a disk.",
        "Nothing: its next backup is full.",
    ),
    (
        20005,
        "A guest stands still for good: its virtual processor met an internal error.",
        "Stop it and start it; at each start: `--accel tcg`.",
    ),
    (20010, "A damage was repaired.", ""),
    (
        20011,
        "A damage could not be repaired; nothing was lost by trying.",
        "The text says why.",
    ),
];

#[test]
fn the_reference_of_events_has_every_code() {
    let source = fs::read_to_string(root().join("crates/engine/src/event.rs")).unwrap();
    let mut codes = BTreeMap::new();
    for line in source.lines().filter_map(|line| line.trim().strip_prefix("Self::")) {
        let Some((_, rest)) = line.split_once(" => (") else {
            continue;
        };
        let (code, severity) = rest.trim_end_matches("),").split_once(", ").unwrap();
        let code: u32 = code.parse().unwrap();
        assert!(
            codes.insert(code, severity.to_lowercase()).is_none(),
            "two events with the code {code}"
        );
    }
    assert!(codes.len() > 60);
    let mut text = "# Events\n\n\
        `GET /ovirt-engine/api/events`, `stillpoint event list`. Codes below 20000 are oVirt's, the others are ours. Events that clients\n\
        add have the codes 9801 to 9804, by severity, and the client's own `custom_id`.\n\n| code | severity | means | what to do |\n|---|---|---|---|\n"
        .to_owned();
    for (code, severity) in codes {
        let told = EVENTS.iter().find(|(known, ..)| *known == code);
        let (_, means, todo) =
            told.unwrap_or_else(|| panic!("say in tests/tests/reference.rs what event {code} means"));
        writeln!(text, "| {code} | {severity} | {means} | {todo} |").unwrap();
    }
    is_up_to_date("events.md", &text);
}
