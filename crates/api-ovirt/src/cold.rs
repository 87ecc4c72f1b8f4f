//! A VM that is down, from its making to its removal, as clients see it; the core and the images are real.

use crate::tests::{Answered, Front, PASSWORD, basic};
use http::StatusCode;
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

const API: &str = "/ovirt-engine/api";
/// Most pages that a walk over all links looks at.
const PAGES_MAX: usize = 2000;

/// A user of the API.
struct User<'a> {
    front: &'a Front,
    authorization: String,
}

impl User<'_> {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let mut all = vec![("authorization", self.authorization.as_str())];
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            all.push(("content-type", "application/xml"));
        }
        all.extend_from_slice(headers);
        self.front.send(method, path, &all, body.to_owned()).await
    }

    async fn get(&self, path: &str) -> String {
        let answered = self.send("GET", path, &[], "").await;
        assert_eq!(answered.status, StatusCode::OK, "{path}: {}", answered.body);
        answered.body
    }

    /// Adds something, waits until it is complete, and gives its href and the answer.
    async fn add(&self, path: &str, body: &str) -> (String, Answered) {
        let answered = self.send("POST", path, &[("expect", "201-created")], body).await;
        assert_eq!(answered.status, StatusCode::CREATED, "{path}: {}", answered.body);
        (answered.header("location").to_owned(), answered)
    }

    /// Removes something and waits until it is gone.
    async fn remove(&self, path: &str) {
        let answered = self.send("DELETE", path, &[], "").await;
        assert_eq!(answered.status, StatusCode::OK, "{path}: {}", answered.body);
        assert!(answered.body.contains("<status>complete</status>"), "{}", answered.body);
        if let Some(job) = between(&answered.body, "/jobs/", "\"") {
            self.front.wait(job).await;
        }
        assert_eq!(
            self.send("GET", path, &[], "").await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

impl Front {
    fn user(&self, name: &str, password: &str) -> User<'_> {
        User {
            front: self,
            authorization: basic(name, password),
        }
    }

    fn admin(&self) -> User<'_> {
        self.user("admin@internal", PASSWORD)
    }

    async fn wait(&self, job: &str) {
        let limit = Duration::from_secs(60);
        self.engine().wait(job.parse().unwrap(), limit).await.unwrap();
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

fn element<'a>(body: &'a str, name: &str) -> &'a str {
    between(body, &format!("<{name}>"), &format!("</{name}>")).unwrap_or_default()
}

fn id(href: &str) -> &str {
    href.rsplit('/').next().unwrap()
}

/// A VM with two disks: its href and theirs.
async fn machine(admin: &User<'_>, name: &str) -> (String, Vec<String>) {
    let body = format!(
        "<vm><name>{name}</name><memory>67108864</memory><cluster><name>Default</name></cluster>\
         <template><name>Blank</name></template><nics><nic><name>nic1</name></nic></nics></vm>"
    );
    let (vm, _) = admin.add(&format!("{API}/vms"), &body).await;
    let mut disks = Vec::new();
    for number in 1..=2 {
        let body = format!(
            "<disk_attachment><interface>virtio</interface><bootable>{}</bootable><disk><alias>{name}_Disk{number}</alias>\
             <format>cow</format><provisioned_size>1048576</provisioned_size></disk></disk_attachment>",
            number == 1
        );
        let (attachment, _) = admin.add(&format!("{vm}/diskattachments"), &body).await;
        disks.push(format!("{API}/disks/{}", id(&attachment)));
    }
    (vm, disks)
}

#[tokio::test]
async fn a_vm_is_made_found_changed_and_removed() {
    let front = Front::new().await;
    let admin = front.admin();
    let (vm, disks) = machine(&admin, "db1").await;
    machine(&admin, "my vm").await;
    let shown = admin.get(&vm).await;
    for (name, value) in [
        ("name", "db1"),
        ("status", "down"),
        ("memory", "67108864"),
        ("description", ""),
    ] {
        assert!(shown.contains(&format!("<{name}>{value}</{name}>")), "{name}: {shown}");
    }
    let again = admin
        .send("POST", &format!("{API}/vms"), &[], "<vm><name>db1</name></vm>")
        .await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(element(&again.body, "detail").starts_with('['), "{}", again.body);
    for (query, count) in [
        ("search=name%3DDB1", 1),
        ("search=name%3DDB1&case_sensitive=true", 0),
        ("search=name%3Ddb*", 1),
        ("search=name%3D%22my%20vm%22", 1),
        ("search=name%3Ddb1%20or%20name%3D%22my%20vm%22", 2),
        ("search=name%3Ddb1%20and%20cluster%3DDefault", 1),
        ("search=status%3Ddown", 2),
        (&format!("search=id%3D{}", id(&vm)), 1),
        ("search=id%3Dnonsense", 0),
        ("search=page%202&max=1", 1),
        ("search=page%203&max=1", 0),
        ("max=0", 0),
    ] {
        let found = admin.get(&format!("{API}/vms?{query}")).await;
        assert_eq!(found.matches("<vm ").count(), count, "{query}: {found}");
    }
    let followed = admin
        .get(&format!("{vm}?follow=disk_attachments.disk,nics,cluster.data_center"))
        .await;
    assert_eq!(followed.matches("<provisioned_size>1048576<").count(), 2);
    assert!(
        followed.contains("<nics><nic ") && followed.contains("<data_center "),
        "{followed}"
    );
    let changed = admin
        .send(
            "PUT",
            &vm,
            &[],
            "<vm><description>a &lt;b> &amp; \"c\" ö</description></vm>",
        )
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    let json = admin.send("GET", &vm, &[("accept", "application/json")], "").await;
    let json: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(json["description"], "a <b> & \"c\" ö");
    let other = "<vm id=\"b0000000-0000-4000-8000-000000000001\"/>";
    assert_eq!(admin.send("PUT", &vm, &[], other).await.status, StatusCode::CONFLICT);
    let attachments = admin.get(&format!("{vm}/diskattachments")).await;
    assert_eq!(attachments.matches("<disk_attachment ").count(), 2);
    admin.remove(&vm).await;
    for disk in disks {
        assert_eq!(admin.send("GET", &disk, &[], "").await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_disk_gets_the_ids_that_a_restore_needs_and_can_be_attached() {
    let front = Front::new().await;
    let admin = front.admin();
    let (vm, _) = machine(&admin, "db1").await;
    let domains = admin.get(&format!("{API}/storagedomains")).await;
    let domain = between(&domains, "<name>", "</name>").unwrap();
    let body = format!(
        "<disk id=\"D1000000-0000-4000-8000-000000000001\"><image_id>a1000000-0000-4000-8000-000000000001</image_id>\
         <name>x</name><format>cow</format><provisioned_size>1000</provisioned_size><backup>incremental</backup>\
         <storage_domains><storage_domain><name>{domain}</name></storage_domain></storage_domains></disk>"
    );
    let (disk, answered) = admin.add(&format!("{API}/disks"), &body).await;
    assert_eq!(id(&disk), "d1000000-0000-4000-8000-000000000001");
    for (name, value) in [
        ("name", "x"),
        ("alias", "x"),
        ("image_id", "a1000000-0000-4000-8000-000000000001"),
        ("provisioned_size", "1024"),
        ("status", "ok"),
        ("storage_type", "image"),
    ] {
        assert_eq!(element(&answered.body, name), value, "{}", answered.body);
    }
    let missing = admin
        .send(
            "POST",
            &format!("{API}/disks"),
            &[],
            "<disk><format>cow</format></disk>",
        )
        .await;
    assert!(
        missing.body.contains("Disk [provisioned_size] required for add"),
        "{}",
        missing.body
    );
    let attach = format!(
        "<disk_attachment><interface>virtio</interface><disk id=\"{}\"/></disk_attachment>",
        id(&disk)
    );
    let (attachment, answered) = admin.add(&format!("{vm}/diskattachments"), &attach).await;
    assert_eq!(id(&attachment), id(&disk));
    assert_eq!(element(&answered.body, "interface"), "virtio");
    let busy = admin.send("DELETE", &disk, &[], "").await;
    assert_eq!(busy.status, StatusCode::CONFLICT, "{}", busy.body);
    admin.remove(&attachment).await;
    admin.get(&disk).await;
    admin.remove(&disk).await;
}

#[tokio::test]
async fn a_snapshot_is_taken_and_looked_at() {
    let front = Front::new().await;
    let admin = front.admin();
    let (vm, disks) = machine(&admin, "db1").await;
    let snapshots = format!("{vm}/snapshots");
    let list = admin.get(&snapshots).await;
    assert_eq!(list.matches("<snapshot ").count(), 1);
    assert_eq!(element(&list, "snapshot_type"), "active");
    assert!(list.contains("<description>Active VM</description>"), "{list}");
    let active = between(&list, "<snapshot href=\"", "\"").unwrap().to_owned();

    let header = [("correlation-id", "q9")];
    let body =
        "<snapshot><description>s1</description><persist_memorystate>False</persist_memorystate><foo/></snapshot>";
    let taken = admin.send("POST", &snapshots, &header, body).await;
    assert!(taken.status.is_success(), "{}", taken.body);
    let first = between(&taken.body, "<snapshot href=\"", "\"").unwrap().to_owned();
    assert_eq!(first, active, "the snapshot takes the id that the active one had");
    assert_eq!(element(&taken.body, "snapshot_type"), "regular");
    if taken.status == StatusCode::ACCEPTED {
        let status = between(&taken.body, "<link href=\"", "\" rel=\"creation_status\"").unwrap();
        let status = status.rsplit("href=\"").next().unwrap();
        front.wait(id(status)).await;
        assert_eq!(element(&admin.get(status).await, "status"), "complete");
    }
    let shown = admin.get(&first).await;
    assert_eq!(element(&shown, "snapshot_status"), "ok", "{shown}");
    assert!(
        shown.contains("rel=\"restore\"") && shown.contains("<name>db1</name>"),
        "{shown}"
    );
    assert!(!shown.contains("<initialization>"));
    let whole = admin.send("GET", &snapshots, &[("all-content", "true")], "").await;
    assert_eq!(
        whole.body.matches("&lt;ovf:Envelope").count(),
        1,
        "of the regular one alone"
    );
    let kept = admin.get(&format!("{first}/disks")).await;
    assert_eq!(kept.matches("<disk ").count(), 2);
    assert!(
        kept.contains(&format!("<snapshot href=\"{first}\" id=\"{}\"/>", id(&first))),
        "{kept}"
    );
    for (query, count) in [("", 1), ("?include_active=true", 2)] {
        let images = admin.get(&format!("{}/disksnapshots{query}", disks[0])).await;
        assert_eq!(images.matches("<disk_snapshot ").count(), count, "{images}");
    }
    let jobs = admin.get(&format!("{API}/jobs?search=correlation_id%3Dq9")).await;
    assert_eq!(jobs.matches("<job ").count(), 1, "{jobs}");
    let events = admin.get(&format!("{API}/events?search=correlation_id%3Dq9")).await;
    assert!(events.contains("<event "), "{events}");
}

#[tokio::test]
async fn a_snapshot_holds_the_disks_that_were_chosen() {
    let front = Front::new().await;
    let admin = front.admin();
    let (vm, disks) = machine(&admin, "db1").await;
    let snapshots = format!("{vm}/snapshots");
    let json = [("content-type", "application/json"), ("expect", "201-created")];
    let chosen = format!(
        r#"{{"description":"s2","persist_memorystate":false,"disk_attachments":{{"disk_attachment":[{{"disk":{{"id":"{}","image_id":"a1000000-0000-4000-8000-000000000009"}}}}]}}}}"#,
        id(&disks[0])
    );
    let second = admin.send("POST", &snapshots, &json, &chosen).await;
    assert_eq!(second.status, StatusCode::CREATED, "{}", second.body);
    assert_eq!(
        admin
            .get(&format!("{}/disks", second.header("location")))
            .await
            .matches("<disk ")
            .count(),
        1
    );
    assert!(
        admin
            .get(&disks[0])
            .await
            .contains("<image_id>a1000000-0000-4000-8000-000000000009</image_id>")
    );
    let none = "<snapshot><description>s3</description><disk_attachments/></snapshot>";
    let (third, _) = admin.add(&snapshots, none).await;
    assert_eq!(admin.get(&format!("{third}/disks")).await.matches("<disk ").count(), 0);
    let unknown = "<snapshot><description>x</description><disk_attachments><disk_attachment><disk id=\"d1000000-0000-4000-8000-0000000000ff\"/></disk_attachment></disk_attachments></snapshot>";
    assert_eq!(
        admin.send("POST", &snapshots, &[], unknown).await.status,
        StatusCode::BAD_REQUEST
    );
    let followed = admin.get(&format!("{snapshots}?follow=disks")).await;
    assert!(followed.matches("<disks><disk ").count() >= 1, "{followed}");
    let one = admin.get(&format!("{snapshots}?max=1")).await;
    assert_eq!(one.matches("<snapshot ").count(), 1);
}

#[tokio::test]
async fn a_snapshot_is_restored_and_removed() {
    let front = Front::new().await;
    let admin = front.admin();
    let (vm, _) = machine(&admin, "db1").await;
    let snapshots = format!("{vm}/snapshots");
    let mut taken = Vec::new();
    for name in ["s1", "s2", "s3"] {
        let body = format!("<snapshot><description>{name}</description></snapshot>");
        taken.push(admin.add(&snapshots, &body).await.0);
    }
    let [first, second, third] = taken.as_slice() else {
        panic!("three were taken");
    };
    let list = admin.get(&snapshots).await;
    let active = list.split("<snapshot ").find(|one| one.contains(">active<")).unwrap();
    let active = between(active, "href=\"", "\"").unwrap();
    let refused = admin.send("DELETE", active, &[], "").await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    let refused = admin.send("POST", &format!("{active}/restore"), &[], "<action/>").await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    assert!(refused.body.contains("<status>failed</status>") && refused.body.contains("<action><fault>"));

    admin.remove(second).await;
    let restored = admin.send("POST", &format!("{first}/restore"), &[], "").await;
    assert_eq!(restored.status, StatusCode::OK, "{}", restored.body);
    assert!(restored.body.contains("<status>complete</status>"));
    assert_eq!(element(&admin.get(first).await, "snapshot_status"), "ok");
    assert_eq!(
        admin.send("GET", third, &[], "").await.status,
        StatusCode::NOT_FOUND,
        "newer than the restored"
    );
    admin.remove(first).await;
    assert_eq!(admin.get(&snapshots).await.matches("<snapshot ").count(), 1);
}

/// Every href in a document, those of templates for searches and of actions aside.
fn hrefs(body: &str) -> Vec<String> {
    let (without_actions, mut rest) = (&mut String::new(), body);
    while let Some((before, after)) = rest.split_once("<actions>") {
        without_actions.push_str(before);
        rest = after.split_once("</actions>").map_or("", |(_, after)| after);
    }
    without_actions.push_str(rest);
    let parts = without_actions.split("href=\"").skip(1);
    let found = parts
        .filter_map(|part| part.split_once('"'))
        .map(|(href, _)| href.to_owned());
    found.filter(|href| !href.contains('{')).collect()
}

#[tokio::test]
async fn every_link_leads_somewhere_for_the_one_who_sees_it() {
    let front = Front::new().await;
    let admin = front.admin();
    let (vm, _) = machine(&admin, "db1").await;
    admin
        .add(
            &format!("{vm}/snapshots"),
            "<snapshot><description>s1</description></snapshot>",
        )
        .await;
    let (gone, _) = machine(&admin, "gone").await;
    admin.remove(&gone).await;
    for user in [front.admin(), front.user("a@b@internal", "reader-secret")] {
        let mut waiting = VecDeque::from([
            API.to_owned(),
            format!("{API}/vms?follow=disk_attachments.disk,snapshots.disks,nics"),
        ]);
        let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
        while let Some(href) = waiting.pop_front() {
            let body = user.get(&href).await;
            for href in hrefs(&body) {
                assert!(href.starts_with(API), "{href}");
                if seen.insert(href.clone()) {
                    waiting.push_back(href);
                }
            }
            let json = user.send("GET", &href, &[("accept", "application/json")], "").await;
            serde_json::from_str::<serde_json::Value>(&json.body).unwrap();
            assert!(seen.len() < PAGES_MAX, "the walk has no end");
        }
        assert!(seen.len() > 60, "only {} pages", seen.len());
    }
}

#[tokio::test]
async fn a_reader_reads_and_a_stranger_sees_nothing() {
    let front = Front::new().await;
    let admin = front.admin();
    let (vm, disks) = machine(&admin, "db1").await;
    let snapshot = "<snapshot><description>s1</description></snapshot>";
    let reader = front.user("a@b@internal", "reader-secret");
    reader.get(&vm).await;
    let refused = reader.send("POST", &format!("{vm}/snapshots"), &[], snapshot).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    let refused = reader.send("POST", &format!("{vm}/start"), &[], "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("<action><fault>"), "{}", refused.body);
    let stranger = front.user("carol@internal", "stranger-secret");
    for path in [&vm, &disks[0], &format!("{vm}/snapshots"), &format!("{vm}/tags")] {
        assert_eq!(
            stranger.send("GET", path, &[], "").await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let refused = stranger.send("POST", &format!("{vm}/snapshots"), &[], snapshot).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(!stranger.get(&format!("{API}/vms")).await.contains("<vm "));
    assert!(!stranger.get(&format!("{API}/events")).await.contains("db1"));
    assert!(!stranger.get(API).await.contains("<summary>"));
    assert!(
        admin
            .get(API)
            .await
            .contains("<vms><active>0</active><total>1</total></vms>")
    );
    assert!(!admin.get(&format!("{API}?filter")).await.contains("<summary>"));
}
