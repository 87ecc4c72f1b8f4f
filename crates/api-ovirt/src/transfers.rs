//! Image transfers as clients see them, over a real core, real images and real NBD exports. The tickets are kept here and
//! no HTTP request for data is served: what an export holds is read and written with QEMU's own tools.

use crate::tests::{Answered, Front, PASSWORD, basic};
use async_trait::async_trait;
use http::StatusCode;
use std::{
    collections::HashMap,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use stillpoint_engine::ports::{
    DataPlane, Driven, DriverError, DriverErrorKind, Source, Ticket, TicketId, TicketStatus,
};

const API: &str = "/ovirt-engine/api";
const MIB: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(60);

/// The tickets that the core asked for, and what it is to believe of them.
#[derive(Default)]
pub(crate) struct Tickets {
    there: Mutex<HashMap<TicketId, (Ticket, TicketStatus)>>,
    /// It reads no image files itself.
    leaves_chains: AtomicBool,
}

impl Tickets {
    fn only(&self) -> Option<Ticket> {
        let there = self.there.lock().unwrap();
        assert!(there.len() <= 1, "more tickets than transfers");
        there.values().next().map(|(ticket, _)| ticket.clone())
    }

    fn change(&self, change: impl Fn(&mut TicketStatus)) {
        for (_, status) in self.there.lock().unwrap().values_mut() {
            change(status);
        }
    }
}

#[async_trait]
impl DataPlane for Tickets {
    async fn add(&self, ticket: Ticket) -> Driven<()> {
        if matches!(ticket.source, Source::Chain(_)) && self.leaves_chains.load(Ordering::Relaxed) {
            return Err(DriverError::new(DriverErrorKind::Unsupported, "add ticket", "a test"));
        }
        let status = TicketStatus {
            transferred_bytes: 0,
            idle: Duration::ZERO,
            running: 0,
            expired: false,
            failure: None,
        };
        let mut there = self.there.lock().unwrap();
        there.entry(ticket.id.clone()).or_insert((ticket, status));
        Ok(())
    }

    async fn extend(&self, id: &TicketId, _valid_for: Duration) -> Driven<()> {
        if let Some((_, status)) = self.there.lock().unwrap().get_mut(id) {
            status.expired = false;
        }
        Ok(())
    }

    async fn status(&self, id: &TicketId) -> Driven<Option<TicketStatus>> {
        Ok(self.there.lock().unwrap().get(id).map(|(_, status)| status.clone()))
    }

    async fn moved(&self, _id: &TicketId, _cell_bytes: u64) -> Driven<Option<Vec<u64>>> {
        Ok(None)
    }

    async fn remove(&self, id: &TicketId, _limit: Duration) -> Driven<()> {
        self.there.lock().unwrap().remove(id);
        Ok(())
    }

    async fn forget(&self, _id: &TicketId) -> Driven<()> {
        Ok(())
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {text}");
    String::from_utf8(done.stdout).unwrap()
}

/// What QEMU's tools open for a ticket.
fn opened(ticket: &Ticket) -> String {
    match &ticket.source {
        Source::Nbd { socket, export, .. } => format!("nbd+unix:///{export}?socket={}", socket.display()),
        Source::Raw(path) => path.display().to_string(),
        Source::Chain(layers) => layers.last().unwrap().path.display().to_string(),
    }
}

fn io(ticket: &Ticket, command: &str) {
    let mode: &[&str] = if command.starts_with("read") { &["-r"] } else { &[] };
    let format = match &ticket.source {
        Source::Chain(_) => "qcow2",
        Source::Nbd { .. } | Source::Raw(_) => "raw",
    };
    let out = run(
        "qemu-io",
        &[mode, &["-f", format, "-c", command, &opened(ticket)]].concat(),
    );
    assert!(!out.contains("failed"), "{command}: {out}");
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

impl Front {
    async fn ask(&self, method: &str, path: &str, body: &str) -> Answered {
        let authorization = basic("admin@internal", PASSWORD);
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/xml"),
            ("x-ovirt-expect", "201-created"),
        ];
        self.send(method, &format!("{API}{path}"), &headers, body.to_owned())
            .await
    }

    async fn make(&self, path: &str, body: &str) -> String {
        let answered = self.ask("POST", path, body).await;
        assert_eq!(answered.status, StatusCode::CREATED, "{path}: {}", answered.body);
        let href = answered.header("location");
        href.rsplit('/').next().unwrap().to_owned()
    }

    async fn disk(&self, format: &str) -> String {
        let body = format!("<disk><provisioned_size>{MIB}</provisioned_size><format>{format}</format></disk>");
        self.make("/disks", &body).await
    }

    /// Begins a transfer of a disk and waits until its URL is there.
    async fn transfer(&self, disk: &str, more: &str) -> String {
        let body = format!("<image_transfer><disk id=\"{disk}\"/>{more}</image_transfer>");
        let id = self.make("/imagetransfers", &body).await;
        let shown = self.until(&id, "transferring").await;
        assert!(
            shown.contains("<transfer_url>https://kvm1.example.com/images/"),
            "{shown}"
        );
        assert!(shown.contains("<proxy_url>https://kvm1.example.com/images/"), "{shown}");
        id
    }

    async fn shown(&self, id: &str) -> String {
        self.ask("GET", &format!("/imagetransfers/{id}"), "").await.body
    }

    async fn until(&self, id: &str, phase: &str) -> String {
        let end = Instant::now() + LONG;
        loop {
            let shown = self.shown(id).await;
            if shown.contains(&format!("<phase>{phase}</phase>")) {
                return shown;
            }
            assert!(Instant::now() < end, "never {phase}: {shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn act(&self, id: &str, action: &str) -> StatusCode {
        self.ask("POST", &format!("/imagetransfers/{id}/{action}"), "<action/>")
            .await
            .status
    }

    async fn read_back(&self, disk: &str, command: &str) {
        let id = self
            .transfer(disk, "<direction>download</direction><format>raw</format>")
            .await;
        io(&self.plane.only().unwrap(), command);
        assert_eq!(self.act(&id, "finalize").await, StatusCode::OK);
        self.until(&id, "finished_success").await;
    }

    async fn disk_status(&self, disk: &str) -> String {
        let body = self.ask("GET", &format!("/disks/{disk}"), "").await.body;
        between(&body, "<status>", "<").unwrap().to_owned()
    }

    async fn events_of(&self, id: &str) -> Vec<String> {
        let body = self.ask("GET", "/events", "").await.body;
        let of = body.split("<event ").filter(|event| event.contains(id));
        of.map(|event| between(event, "<code>", "<").unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_disk_is_locked_while_it_is_downloaded_and_untouched_afterwards() {
    let front = Front::new().await;
    let disk = front.disk("cow").await;
    let download = "<direction>download</direction><format>raw</format>";
    let id = front.transfer(&disk, download).await;
    let ticket = front.plane.only().unwrap();
    assert_eq!(ticket.size_bytes, MIB);
    assert!(ticket.rights.read && !ticket.rights.write);
    io(&ticket, "read -P 0 0 1M");
    assert!(
        matches!(ticket.source, Source::Chain(_)),
        "read by the data plane itself"
    );
    let daemons = front.folder().join("run/rest").read_dir();
    assert_eq!(
        daemons.map_or(0, Iterator::count),
        0,
        "no storage daemon is started for it"
    );

    assert_eq!(front.disk_status(&disk).await, "locked");
    let removal = front.ask("DELETE", &format!("/disks/{disk}"), "").await;
    assert_eq!(removal.status, StatusCode::CONFLICT);
    assert!(removal.body.contains(&id), "names the transfer: {}", removal.body);
    let upload = format!("<image_transfer><disk id=\"{disk}\"/></image_transfer>");
    assert_eq!(
        front.ask("POST", "/imagetransfers", &upload).await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(front.act(&id, "pause").await, StatusCode::BAD_REQUEST);
    assert_eq!(front.act(&id, "resume").await, StatusCode::CONFLICT);
    assert_eq!(front.act(&id, "extend").await, StatusCode::OK);

    assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
    let shown = front.until(&id, "finished_success").await;
    assert!(!shown.contains("transfer_url"), "{shown}");
    assert!(front.plane.only().is_none());
    assert_eq!(front.disk_status(&disk).await, "ok");
    assert_eq!(front.engine().orphaned_locks().await.unwrap(), 0);
    assert_eq!(front.events_of(&id).await, ["1032", "1031"]);
    assert_eq!(
        front.ask("DELETE", &format!("/disks/{disk}"), "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_upload_is_what_the_disk_holds_afterwards() {
    let front = Front::new().await;
    for format in ["cow", "raw"] {
        let disk = front.disk(format).await;
        let id = front.transfer(&disk, "<format>raw</format>").await;
        io(&front.plane.only().unwrap(), "write -P 7 64k 128k");
        let download = format!(
            "<image_transfer><disk id=\"{disk}\"/><direction>download</direction><format>raw</format></image_transfer>"
        );
        let beside = front.ask("POST", "/imagetransfers", &download).await;
        assert_eq!(beside.status, StatusCode::CONFLICT, "an upload is alone");
        front.plane.change(|status| status.transferred_bytes = 128 << 10);
        assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
        let shown = front.until(&id, "finished_success").await;
        assert!(shown.contains("<transferred>131072</transferred>"), "{shown}");
        assert_eq!(front.disk_status(&disk).await, "ok");
        front.read_back(&disk, "read -P 7 64k 128k").await;
        front.read_back(&disk, "read -P 0 192k 64k").await;
    }
}

#[tokio::test]
async fn a_cancelled_upload_keeps_its_disk_and_says_that_it_is_illegal_until_another_one_has_ended_well() {
    let front = Front::new().await;
    let disk = front.disk("cow").await;
    let id = front.transfer(&disk, "<format>raw</format>").await;
    assert_eq!(front.act(&id, "pause").await, StatusCode::OK);
    front.until(&id, "paused_user").await;
    assert_eq!(front.act(&id, "resume").await, StatusCode::OK);
    front.until(&id, "transferring").await;
    assert_eq!(front.act(&id, "cancel").await, StatusCode::OK);
    front.until(&id, "finished_failure").await;
    assert!(front.plane.only().is_none());
    assert_eq!(front.disk_status(&disk).await, "illegal");
    assert_eq!(front.act(&id, "finalize").await, StatusCode::CONFLICT);
    assert_eq!(front.events_of(&id).await, ["1033", "1074", "1073", "1031"]);
    let download = format!("<image_transfer><disk id=\"{disk}\"/><direction>download</direction></image_transfer>");
    assert_eq!(
        front.ask("POST", "/imagetransfers", &download).await.status,
        StatusCode::CONFLICT,
        "nobody knows what is in it"
    );
    // Another upload makes it whole.
    let id = front.transfer(&disk, "<format>raw</format>").await;
    assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
    front.until(&id, "finished_success").await;
    assert_eq!(front.disk_status(&disk).await, "ok");
    assert_eq!(front.engine().orphaned_locks().await.unwrap(), 0);
}

#[tokio::test]
async fn a_whole_file_becomes_the_disk_only_if_it_is_one() {
    let front = Front::new().await;
    let file = front.folder().join("upload.qcow2");
    let file = file.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", file, "1M"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 9 0 64k", file]);
    let (good, bad) = (front.disk("cow").await, front.disk("cow").await);
    let id = front.transfer(&good, "").await;
    let export = opened(&front.plane.only().unwrap());
    run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", file, &export]);
    assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
    front.until(&id, "finished_success").await;
    front.read_back(&good, "read -P 9 0 64k").await;

    let id = front.transfer(&bad, "<format>cow</format>").await;
    io(&front.plane.only().unwrap(), "write -P 9 0 64k");
    assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
    let shown = front.until(&id, "finished_failure").await;
    assert!(shown.contains("is not usable"), "{shown}");
    assert_eq!(front.disk_status(&bad).await, "illegal");
    assert_eq!(front.events_of(&id).await, ["1034", "1031"]);
}

#[tokio::test]
async fn an_idle_client_is_treated_as_the_policy_says() {
    let front = Front::new().await;
    let idle = |status: &mut TicketStatus| status.idle = Duration::from_secs(100);
    let disk = front.disk("cow").await;
    let id = front
        .transfer(&disk, "<format>raw</format><inactivity_timeout>1</inactivity_timeout>")
        .await;
    front.plane.change(idle);
    front.until(&id, "paused_system").await;
    assert_eq!(front.disk_status(&disk).await, "locked");
    front.plane.change(|status| status.running = 1);
    assert_eq!(front.act(&id, "resume").await, StatusCode::OK);
    let shown = front.until(&id, "transferring").await;
    assert!(shown.contains("<active>true</active>"), "{shown}");
    assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
    front.until(&id, "finished_success").await;
    assert_eq!(front.events_of(&id).await, ["1032", "1074", "1071", "1031"]);

    let more = "<direction>download</direction><format>raw</format><inactivity_timeout>1</inactivity_timeout>\
                <timeout_policy>cancel</timeout_policy>";
    let id = front.transfer(&disk, more).await;
    front.plane.change(idle);
    let shown = front.until(&id, "finished_failure").await;
    assert!(shown.contains("idle"), "says why: {shown}");
    assert_eq!(front.disk_status(&disk).await, "ok", "a download harms no disk");
    assert_eq!(front.events_of(&id).await, ["1034", "1076", "1031"]);
}

#[tokio::test]
async fn after_a_restart_the_clients_url_and_what_was_written_are_still_there() {
    let mut front = Front::new().await;
    let disk = front.disk("cow").await;
    let id = front.transfer(&disk, "<format>raw</format>").await;
    let before = front.plane.only().unwrap();
    io(&before, "write -P 3 0 64k");
    front.restart().await;
    let end = Instant::now() + LONG;
    while front.plane.only().is_none() {
        assert!(Instant::now() < end, "the ticket does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = front.plane.only().unwrap();
    assert_eq!(before, after, "same name, same place");
    io(&after, "write -P 4 64k 64k");
    assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
    front.until(&id, "finished_success").await;
    front.read_back(&disk, "read -P 3 0 64k").await;
    front.read_back(&disk, "read -P 4 64k 64k").await;
}

#[tokio::test]
async fn an_upload_whose_storage_daemon_died_never_passes_for_whole() {
    let front = Front::new().await;
    let disk = front.disk("cow").await;
    let id = front.transfer(&disk, "<format>raw</format>").await;
    let ticket = front.plane.only().unwrap();
    io(&ticket, "write -P 3 0 64k");
    let Source::Nbd { socket, .. } = &ticket.source else {
        panic!("an upload goes through QEMU")
    };
    let pid = std::fs::read_to_string(socket.with_file_name("pid")).unwrap();
    run("kill", &["-KILL", pid.trim()]);
    front
        .plane
        .change(|status| status.failure = Some("the server is gone".into()));
    front.until(&id, "paused_system").await;
    assert_eq!(front.act(&id, "resume").await, StatusCode::OK);
    front.until(&id, "paused_system").await;
    assert_eq!(front.act(&id, "finalize").await, StatusCode::OK);
    let shown = front.until(&id, "finished_failure").await;
    assert!(shown.contains("may be lost"), "{shown}");
    assert_eq!(front.disk_status(&disk).await, "illegal");
}

#[tokio::test]
async fn a_disk_snapshot_is_downloaded_while_its_vm_runs() {
    let front = Front::new().await;
    let disk = front.disk("cow").await;
    let id = front.transfer(&disk, "<format>raw</format>").await;
    io(&front.plane.only().unwrap(), "write -P 5 0 64k");
    front.act(&id, "finalize").await;
    front.until(&id, "finished_success").await;
    let vm = front
        .make("/vms", "<vm><name>runs</name><memory>33554432</memory></vm>")
        .await;
    let attach = format!("<disk_attachment><interface>virtio</interface><disk id=\"{disk}\"/></disk_attachment>");
    front.make(&format!("/vms/{vm}/diskattachments"), &attach).await;
    let snapshots = format!("/vms/{vm}/snapshots");
    front
        .make(&snapshots, "<snapshot><description>s</description></snapshot>")
        .await;
    let started = front.ask("POST", &format!("/vms/{vm}/start"), "<action/>").await;
    assert_eq!(started.status, StatusCode::OK, "{}", started.body);

    let live = format!("<image_transfer><disk id=\"{disk}\"/><direction>download</direction></image_transfer>");
    let refused = front.ask("POST", "/imagetransfers", &live).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    let images = front.ask("GET", &format!("/disks/{disk}/disksnapshots"), "").await.body;
    let image = between(&images, "/disksnapshots/", "\"").unwrap();
    for (shallow, by_qemu) in [("true", false), ("false", true), ("false", false)] {
        front.plane.leaves_chains.store(by_qemu, Ordering::Relaxed);
        let body = format!(
            "<image_transfer><snapshot id=\"{image}\"/><direction>download</direction><format>raw</format>\
             <shallow>{shallow}</shallow></image_transfer>"
        );
        let id = front.make("/imagetransfers", &body).await;
        front.until(&id, "transferring").await;
        let ticket = front.plane.only().unwrap();
        assert_eq!(matches!(ticket.source, Source::Nbd { .. }), by_qemu);
        io(&ticket, "read -P 5 0 64k");
        let other = "<snapshot><description>t</description></snapshot>";
        let refused = front.ask("POST", &snapshots, other).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
        front.act(&id, "finalize").await;
        front.until(&id, "finished_success").await;
    }
    let stopped = front.ask("POST", &format!("/vms/{vm}/stop"), "<action/>").await;
    assert_eq!(stopped.status, StatusCode::OK, "{}", stopped.body);
}

#[tokio::test]
async fn a_request_that_names_nothing_or_too_much_is_refused() {
    let front = Front::new().await;
    let unknown = "b0000000-0000-4000-8000-000000000001";
    let cases = [
        (String::new(), StatusCode::BAD_REQUEST),
        (format!("<disk id=\"{unknown}\"/>"), StatusCode::BAD_REQUEST),
        (format!("<snapshot id=\"{unknown}\"/>"), StatusCode::BAD_REQUEST),
        (
            format!("<disk id=\"{unknown}\"/><snapshot id=\"{unknown}\"/>"),
            StatusCode::BAD_REQUEST,
        ),
        ("<disk id=\"../x\"/>".into(), StatusCode::BAD_REQUEST),
        (
            format!("<disk id=\"{unknown}\"/><direction>sideways</direction>"),
            StatusCode::BAD_REQUEST,
        ),
        (
            format!("<disk id=\"{unknown}\"/><inactivity_timeout>-1</inactivity_timeout>"),
            StatusCode::BAD_REQUEST,
        ),
        (
            format!("<disk id=\"{unknown}\"/><backup id=\"{unknown}\"/>"),
            StatusCode::BAD_REQUEST,
        ),
    ];
    for (body, status) in cases {
        let body = format!("<image_transfer>{body}</image_transfer>");
        let refused = front.ask("POST", "/imagetransfers", &body).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.body);
    }
    for action in ["cancel", "extend", "finalize", "pause", "resume"] {
        assert_eq!(front.act(unknown, action).await, StatusCode::NOT_FOUND, "{action}");
    }
}
