//! Image transfers as clients see them, over a real core, real images and real NBD exports. The tickets are kept here and
//! no HTTP request for data is served: what an export holds is read and written with QEMU's own tools.

use crate::tests::{Answered, Front, PASSWORD, basic};
use async_trait::async_trait;
use http::StatusCode;
use std::{
    collections::HashMap,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};
use stillpoint_engine::ports::{DataPlane, Driven, Source, Ticket, TicketId, TicketStatus};

const API: &str = "/ovirt-engine/api";
const MIB: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(60);

/// The tickets that the core asked for, and what it is to believe of them.
#[derive(Default)]
pub(crate) struct Tickets {
    there: Mutex<HashMap<TicketId, (Ticket, TicketStatus)>>,
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

    async fn remove(&self, id: &TicketId, _limit: Duration) -> Driven<()> {
        self.there.lock().unwrap().remove(id);
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
    }
}

fn io(ticket: &Ticket, command: &str) {
    let out = run("qemu-io", &["-f", "raw", "-c", command, &opened(ticket)]);
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
        self.send(method, &format!("{API}{path}"), &headers, body.to_owned()).await
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
        assert!(shown.contains("<transfer_url>https://kvm1.example.com/images/"), "{shown}");
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
        self.ask("POST", &format!("/imagetransfers/{id}/{action}"), "<action/>").await.status
    }

    async fn disk_status(&self, disk: &str) -> String {
        let body = self.ask("GET", &format!("/disks/{disk}"), "").await.body;
        between(&body, "<status>", "<").unwrap().to_owned()
    }

    async fn events_of(&self, id: &str) -> Vec<String> {
        let body = self.ask("GET", "/events", "").await.body;
        let of = body.split("<event ").filter(|event| event.contains(id));
        of.map(|event| between(event, "<code>", "<").unwrap().to_owned()).collect()
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
    let refused = Command::new("qemu-io")
        .args(["-f", "raw", "-c", "write 0 512", &opened(&ticket)])
        .output()
        .unwrap();
    assert!(!refused.status.success(), "a download's export can be written to");

    assert_eq!(front.disk_status(&disk).await, "locked");
    let removal = front.ask("DELETE", &format!("/disks/{disk}"), "").await;
    assert_eq!(removal.status, StatusCode::CONFLICT);
    assert!(removal.body.contains(&id), "names the transfer: {}", removal.body);
    let upload = format!("<image_transfer><disk id=\"{disk}\"/></image_transfer>");
    assert_eq!(front.ask("POST", "/imagetransfers", &upload).await.status, StatusCode::CONFLICT);
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
    assert_eq!(front.ask("DELETE", &format!("/disks/{disk}"), "").await.status, StatusCode::OK);
}
