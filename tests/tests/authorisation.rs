//! Who may do what, asked of every route of the oVirt dialect as the route table has it.
//!
//! The table of rules below must name exactly the routes that there are: a new route without a rule fails here. Each
//! route is then tried on a real daemon without credentials in every form, as a reader, as a member, as an administrator,
//! and as a member of another project, for whom nothing of this project may exist: same status, same text, no word of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use stillpoint_api_ovirt::{Access, Place, Route, Shape, routes};
use stillpoint_system_tests::{Scene, Things, only_id};
use stillpoint_testkit::{Answer, Api, Xml, eventually};
use uuid::Uuid;

/// Values for some placeholders of a route's pattern, and a body.
type Target = (Vec<(&'static str, String)>, &'static str);
type Maker = fn(&Scene, &Things) -> Result<Target>;

/// What a route is, by what must hold for it.
enum Rule {
    /// Needs no credentials; without parameters it answers this.
    Public(u16),
    /// The same for everybody who is logged in, and nothing of a project in it.
    Shared,
    /// A list over projects, in which everybody finds his own: what of the scene is in it.
    Filtered(fn(&Things) -> &str),
    /// Users see themselves, administrators see all.
    Own,
    /// Shows a thing of a project.
    Thing,
    /// Changes a thing of a project, which is made anew for the purpose.
    Change(Maker),
    /// Does something to an image transfer that is over; a member is told this.
    Ended(u16),
    /// Makes a thing of something that the body names: one that is not seen is answered as one that is not there.
    CreateOf(fn(disk: &str) -> String),
    /// Makes a thing in the caller's own project.
    Create(&'static str),
}
use Rule::{Change, Create, CreateOf, Ended, Filtered, Own, Public, Shared, Thing};

const NEW_DISK: &str = "<disk><provisioned_size>1048576</provisioned_size><format>cow</format></disk>";
const ACTION: &str = "<action><async>true</async></action>";

fn fresh() -> String {
    format!("zebra-{}", Uuid::new_v4())
}

fn new_vm(scene: &Scene, body: &'static str) -> Result<Target> {
    Ok((vec![("vm", Scene::vm(&scene.admin, &fresh())?)], body))
}

fn running_vm(scene: &Scene) -> Result<Target> {
    let vm = Scene::vm(&scene.admin, &fresh())?;
    scene.admin.start(&vm)?;
    Ok((vec![("vm", vm)], ACTION))
}

fn attached(scene: &Scene, things: &Things, body: &'static str) -> Result<Target> {
    let disk = Scene::attached_disk(&scene.admin, &things.vm, &fresh())?;
    Ok((vec![("disk", disk)], body))
}

/// A disk whose id is known before it is attached.
fn unattached(scene: &Scene, _: &Things) -> Result<Target> {
    let disk = Scene::disk(&scene.admin, &fresh())?;
    let body = format!("<disk_attachment><interface>virtio</interface><disk id=\"{disk}\"/></disk_attachment>");
    Ok((Vec::new(), Box::leak(body.into_boxed_str())))
}

fn new_nic(scene: &Scene, things: &Things) -> Result<Target> {
    Ok((vec![("nic", Scene::nic(&scene.admin, &things.vm, &fresh())?)], ""))
}

fn new_snapshot(scene: &Scene, body: &'static str) -> Result<Target> {
    let vm = Scene::vm(&scene.admin, &fresh())?;
    let snapshot = scene.admin.snapshot(&vm, "zebra", false, None)?;
    Ok((vec![("vm", vm), ("snapshot", snapshot)], body))
}

fn client_job(scene: &Scene, ended: bool, body: &'static str) -> Result<Target> {
    let (job, step) = Scene::client_job(&scene.admin, &fresh())?;
    if ended {
        scene.admin.act(&format!("jobs/{job}/end"), "")?;
    }
    Ok((vec![("job", job), ("step", step)], body))
}

fn loose_disk(scene: &Scene, body: &'static str) -> Result<Target> {
    Ok((vec![("disk", Scene::disk(&scene.admin, &fresh())?)], body))
}

/// A VM with a disk, and what is done to it.
fn with_disk<T>(scene: &Scene, work: impl Fn(&Api, &str, &str) -> Result<T>) -> Result<(String, T)> {
    let vm = Scene::vm(&scene.admin, &fresh())?;
    let disk = Scene::attached_disk(&scene.admin, &vm, &fresh())?;
    let done = work(&scene.admin, &vm, &disk)?;
    Ok((vm, done))
}

fn vm_to_back_up(scene: &Scene) -> Result<Target> {
    let (vm, disk) = with_disk(scene, |_, _, disk| Ok(disk.to_owned()))?;
    let body = format!("<backup><disks><disk id=\"{disk}\"/></disks></backup>");
    Ok((vec![("vm", vm)], Box::leak(body.into_boxed_str())))
}

fn ready_backup(scene: &Scene) -> Result<Target> {
    let (vm, (backup, _)) = with_disk(scene, Scene::ready_backup)?;
    Ok((vec![("vm", vm), ("backup", backup)], ACTION))
}

fn new_checkpoint(scene: &Scene) -> Result<Target> {
    let (vm, (_, checkpoint)) = with_disk(scene, Scene::ended_backup)?;
    Ok((vec![("vm", vm), ("checkpoint", checkpoint)], ""))
}

/// The rule of a route, by its method and name; `None`: nobody has thought about it.
fn rule(method: &str, name: &str) -> Option<Rule> {
    Some(match (method, name) {
        ("GET" | "POST", "sso/token") | ("POST", "sso/token-info") | ("GET", "pki/resource") => Public(400),
        ("POST", "sso/revoke" | "sso/logout") | ("GET", "sso/status" | "health/get") => Public(200),

        ("GET", "image_transfers/list") => Filtered(|things| &things.transfer),
        ("POST", "image_transfers/add") => CreateOf(|disk| {
            format!(
                "<image_transfer><disk id=\"{disk}\"/><direction>download</direction><format>raw</format>\
                 <inactivity_timeout>1</inactivity_timeout><timeout_policy>cancel</timeout_policy></image_transfer>"
            )
        }),
        ("POST", "image_transfer/cancel" | "image_transfer/extend") => Ended(200),
        ("POST", "image_transfer/pause") => Ended(400),
        ("POST", "image_transfer/finalize" | "image_transfer/resume") => Ended(409),
        ("GET", "vms/list") => Filtered(|things| &things.vm),
        ("GET", "disks/list" | "storage_domain_disks/list") => Filtered(|things| &things.loose_disk),
        ("GET", "domain_disk_snapshots/list") => Filtered(|things| &things.image),
        ("GET", "jobs/list") => Filtered(|things| &things.job),
        ("GET", "events/list") => Filtered(|things| things.word),
        ("GET", "users/list" | "user/get") => Own,

        ("POST", "vms/add") => Create("<vm><name>NAME</name><memory>33554432</memory></vm>"),
        ("POST", "disks/add" | "storage_domain_disks/add") => Create(NEW_DISK),

        ("PUT", "vm/update") => Change(|scene, _| new_vm(scene, "<vm><description>changed</description></vm>")),
        ("DELETE", "vm/remove") => Change(|scene, _| new_vm(scene, "")),
        ("POST", "vm/start") => Change(|scene, _| new_vm(scene, ACTION)),
        ("POST", "vm/stop" | "vm/shutdown") => Change(|scene, _| running_vm(scene)),
        ("POST", "vm_nics/add") => Change(|scene, _| new_vm(scene, "<nic><name>nic9</name></nic>")),
        ("PUT", "vm_nic/update") => Change(|scene, things| {
            let (given, _) = new_nic(scene, things)?;
            Ok((given, "<nic><linked>false</linked></nic>"))
        }),
        ("DELETE", "vm_nic/remove") => Change(new_nic),
        ("POST", "disk_attachments/add") => Change(unattached),
        ("PUT", "disk_attachment/update") => Change(|scene, things| {
            attached(
                scene,
                things,
                "<disk_attachment><read_only>true</read_only></disk_attachment>",
            )
        }),
        ("DELETE", "disk_attachment/remove") => Change(|scene, things| attached(scene, things, "")),
        ("POST", "snapshots/add") => {
            Change(|scene, _| new_vm(scene, "<snapshot><description>s</description></snapshot>"))
        }
        ("DELETE", "snapshot/remove") => Change(|scene, _| new_snapshot(scene, "")),
        ("POST", "vm_backups/add") => Change(|scene, _| vm_to_back_up(scene)),
        ("POST", "vm_backup/finalize") => Change(|scene, _| ready_backup(scene)),
        ("DELETE", "vm_checkpoint/remove") => Change(|scene, _| new_checkpoint(scene)),
        ("POST", "snapshot/restore") => Change(|scene, _| new_snapshot(scene, ACTION)),
        ("PUT", "disk/update") => {
            Change(|scene, _| loose_disk(scene, "<disk><description>changed</description></disk>"))
        }
        ("DELETE", "disk/remove") => Change(|scene, _| loose_disk(scene, "")),

        ("GET", name) if shows_a_thing(name) => Thing,
        ("GET", name) if is_shared(name) => Shared,
        _ => return rule_of_clients(method, name),
    })
}

/// The rules of what clients tell of their own work.
fn rule_of_clients(method: &str, name: &str) -> Option<Rule> {
    Some(match (method, name) {
        ("POST", "jobs/add") => Create("<job><description>NAME</description></job>"),
        ("POST", "events/add") => Create(
            "<event><origin>NAME</origin><severity>normal</severity><custom_id>1</custom_id>\
             <description>NAME</description></event>",
        ),
        ("POST", "job/end") => Change(|scene, _| client_job(scene, false, "<action/>")),
        ("POST", "job/clear") => Change(|scene, _| client_job(scene, true, "<action/>")),
        ("POST", "steps/add") => Change(|scene, _| {
            let body = "<step><description>more</description><type>executing</type></step>";
            client_job(scene, false, body)
        }),
        ("POST", "step/end") => Change(|scene, _| client_job(scene, false, "<action/>")),
        ("DELETE", "event/remove") => {
            Change(|scene, _| Ok((vec![("event", Scene::client_event(&scene.admin, &fresh())?)], "")))
        }
        _ => return None,
    })
}

fn shows_a_thing(name: &str) -> bool {
    const THINGS: &[&str] = &[
        "vm/get",
        "vm/creation_status",
        "vm_nics/list",
        "vm_nic/get",
        "disk_attachments/list",
        "disk_attachment/get",
        "disk_attachment/creation_status",
        "snapshots/list",
        "snapshot/get",
        "snapshot/creation_status",
        "snapshot_disks/list",
        "snapshot_disk/get",
        "snapshot_nics/list",
        "snapshot_nic/get",
        "snapshot_cdroms/list",
        "vm_backups/list",
        "vm_backup/get",
        "vm_backup_disks/list",
        "vm_backup_disk/get",
        "vm_checkpoints/list",
        "vm_checkpoint/get",
        "vm_checkpoint_disks/list",
        "vm_checkpoint_disk/get",
        "disk/get",
        "disk/creation_status",
        "disk/permissions",
        "disk/statistics",
        "disk_snapshots/list",
        "disk_snapshot/get",
        "storage_domain_disk/get",
        "domain_disk_snapshot/get",
        "image_transfer/get",
        "job/get",
        "steps/list",
        "step/get",
        "event/get",
        "vm/affinitylabels",
        "vm/applications",
        "vm/cdroms",
        "vm/graphicsconsoles",
        "vm/hostdevices",
        "vm/numanodes",
        "vm/permissions",
        "vm/reporteddevices",
        "vm/sessions",
        "vm/statistics",
        "vm/tags",
        "vm/watchdogs",
    ];
    THINGS.contains(&name)
}

fn is_shared(name: &str) -> bool {
    const SHARED: &[&str] = &[
        "system/get",
        "storage_domains/list",
        "storage_domain/get",
        "storage_domain/permissions",
        "storage_domain/templates",
        "storage_domain/vms",
        "disk_profiles/list",
        "disk_profile/get",
        "data_centers/list",
        "data_center/get",
        "data_center_clusters/list",
        "data_center_networks/list",
        "attached_storage_domains/list",
        "clusters/list",
        "cluster/get",
        "cluster_networks/list",
        "hosts/list",
        "host/get",
        "templates/list",
        "template/get",
        "tags/list",
        "tag/get",
        "networks/list",
        "network/get",
        "vnic_profiles/list",
        "vnic_profile/get",
        "roles/list",
        "role/get",
        "operating_systems/list",
        "operating_system/get",
        "cluster_levels/list",
        "cluster_level/get",
        "affinity_labels/list",
        "bookmarks/list",
        "domains/list",
        "groups/list",
        "icons/list",
        "instance_types/list",
        "system_permissions/list",
        "vm_pools/list",
    ];
    SHARED.contains(&name)
}

/// The scene with two furnished projects.
struct Stage {
    scene: Scene,
    zebra: Things,
    otter: Things,
    /// Headers that let nobody in.
    strangers: Vec<(&'static str, Vec<(&'static str, String)>)>,
}

impl Stage {
    fn set() -> Result<Self> {
        let scene = Scene::start()?;
        let zebra = scene.furnish(&scene.admin, "zebra")?;
        let otter = scene.furnish(&scene.mallory, "otter")?;
        let wrong = base64::engine::general_purpose::STANDARD.encode("alice@internal:wrong");
        let strangers = vec![
            ("nothing", vec![]),
            ("garbage", vec![("Authorization", "Bearer garbage".into())]),
            (
                "a token that was logged out",
                vec![("Authorization", format!("Bearer {}", logged_out(&scene)?))],
            ),
            ("a wrong password", vec![("Authorization", format!("Basic {wrong}"))]),
            (
                "a cookie of nobody",
                vec![
                    ("Cookie", "JSESSIONID=garbage".into()),
                    ("Prefer", "persistent-auth".into()),
                ],
            ),
        ];
        Ok(Self {
            scene,
            zebra,
            otter,
            strangers,
        })
    }

    /// The path of a route with the things of the first project in it, but for what `given` names.
    fn path(&self, route: &Route, given: &[(&'static str, String)]) -> Result<String> {
        let z = &self.zebra;
        let known = [
            ("vm", &z.vm),
            ("disk", &z.disk),
            ("nic", &z.nic),
            ("snapshot", &z.snapshot),
            ("image", &z.image),
            ("job", &z.job),
            ("step", &z.step),
            ("event", &z.event),
            ("transfer", &z.transfer),
            ("backup", &z.backup),
            ("checkpoint", &z.checkpoint),
        ];
        let mut path = String::new();
        for segment in route.pattern.split('/').filter(|segment| !segment.is_empty()) {
            let name = segment.trim_matches(['{', '}']);
            let value = if name == segment {
                segment.to_owned()
            } else if let Some((_, value)) = given.iter().find(|(given, _)| *given == name) {
                value.clone()
            } else if name == "disk" && (path.contains("/backups/") || path.contains("/checkpoints/")) {
                z.second_disk.clone()
            } else if let Some((_, value)) = known.iter().find(|(known, _)| *known == name) {
                (*value).clone()
            } else {
                // Something of the surroundings: the first there is.
                let list = self.scene.admin.get(&path)?.expect(&[200])?.xml()?;
                list.children
                    .first()
                    .with_context(|| format!("nothing in {path}"))?
                    .id()?
                    .to_owned()
            };
            path.push_str(&value);
            path.push('/');
        }
        Ok(path.trim_end_matches('/').to_owned())
    }

    /// The same with ids that nothing has, and those ids.
    fn nowhere(&self, route: &Route) -> Result<(String, Vec<String>)> {
        let mut ids = Vec::new();
        let mut given = Vec::new();
        for name in [
            "vm",
            "disk",
            "nic",
            "snapshot",
            "image",
            "job",
            "step",
            "transfer",
            "backup",
            "checkpoint",
        ] {
            let id = Uuid::new_v4().to_string();
            given.push((name, id.clone()));
            ids.push(id);
        }
        ids.push("987654321".into());
        given.push(("event", "987654321".into()));
        Ok((self.path(route, &given)?, ids))
    }

    /// All that can be seen of the projects. Waits until nothing is under way.
    fn world(&self) -> Result<String> {
        let admin = &self.scene.admin;
        // A backup that is ready waits for its client, and nothing else; so does a job that a client added.
        let waits = |job: &Xml| {
            if job.text_at("external") == Some("true") {
                return true;
            }
            let step = |step: &Xml| {
                step.text_at("description") == Some("Holding the disks for download")
                    && step.text_at("status") == Some("started")
            };
            job.find("steps").is_some_and(|steps| steps.children.iter().any(step))
        };
        eventually(Duration::from_secs(60), "all jobs to end", || {
            let running = admin.get("jobs?search=status%3Dstarted&follow=steps")?;
            let running = running.expect(&[200])?.xml()?;
            Ok(running.children.iter().all(waits).then_some(()))
        })?;
        let mut text = String::new();
        for path in [
            "vms?follow=disk_attachments.disk,snapshots.disks,nics",
            "disks?follow=disk_snapshots",
            "jobs?follow=steps",
            "events",
            "users",
        ] {
            text += &admin.get(path)?.expect(&[200])?.text();
        }
        Ok(text)
    }

    /// What a member of another project is told must hold nothing of this one, but for the ids that he sent himself.
    fn leaks_nothing(&self, told: &str, sent: &str) -> Result<()> {
        for secret in self.zebra.secrets() {
            ensure!(
                sent.contains(secret) || !told.contains(secret),
                "another project is told {secret:?}: {told}"
            );
        }
        Ok(())
    }
}

fn logged_out(scene: &Scene) -> Result<String> {
    let api = Api::anonymous(scene.daemon.url());
    let form = |text: String| {
        let headers = [
            ("Accept", "application/json"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        move |path: &str| api.send("POST", path, &headers, Some(text.as_bytes()))
    };
    let login = "grant_type=password&scope=ovirt-app-api&username=alice%40internal&password=alice-password";
    let answer = form(login.to_owned())("/ovirt-engine/sso/oauth/token")?
        .expect(&[200])?
        .json()?;
    let token = answer["access_token"].as_str().context("a token")?.to_owned();
    let api = Api::anonymous(scene.daemon.url());
    let bearer = format!("Bearer {token}");
    api.send("GET", "vms", &[("Authorization", &bearer)], None)?
        .expect(&[200])?;
    let headers = [
        ("Accept", "application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("token={token}&scope=ovirt-app-api");
    api.send(
        "POST",
        "/ovirt-engine/services/sso-logout",
        &headers,
        Some(body.as_bytes()),
    )?
    .expect(&[200])?;
    Ok(token)
}

fn ask(api: &Api, route: &Route, path: &str, body: &str) -> Result<Answer> {
    let mut headers = vec![("Accept", "application/xml")];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/xml"));
    }
    let body = body.replace("NAME", &format!("made-{}", Uuid::new_v4()));
    api.request(
        route.method.as_str(),
        path,
        &headers,
        (!body.is_empty()).then_some(body.as_bytes()),
    )
}

/// The fault in an answer, where the route's kind of failure puts it.
fn fault(route: &Route, answer: &Answer) -> Result<Xml> {
    let xml = answer.xml()?;
    let fault = if route.shape == Shape::Action {
        xml.find("fault").cloned()
    } else {
        Some(xml)
    };
    let fault = fault
        .filter(|fault| fault.name == "fault")
        .context("no fault in the answer")?;
    ensure!(
        fault.text_at("reason").is_some_and(|text| !text.is_empty()),
        "a fault without reason"
    );
    ensure!(
        fault.text_at("detail").is_some_and(|text| !text.is_empty()),
        "a fault without detail"
    );
    Ok(fault)
}

fn expect_strangers_out(stage: &Stage, route: &Route, path: &str, body: &str) -> Result<()> {
    let api = Api::anonymous(stage.scene.daemon.url());
    for (what, extra) in &stage.strangers {
        let mut headers = vec![("Accept", "application/xml"), ("Content-Type", "application/xml")];
        headers.extend(extra.iter().map(|(name, value)| (*name, value.as_str())));
        let answer = api
            .send(
                route.method.as_str(),
                path,
                &headers,
                Some(body.as_bytes()).filter(|body| !body.is_empty()),
            )
            .and_then(|answer| answer.expect(&[401]))
            .with_context(|| format!("with {what}"))?;
        ensure!(
            answer.header("www-authenticate") == Some("Basic realm=\"RESTAPI\""),
            "{what}: {:?}",
            answer.headers
        );
        fault(route, &answer).with_context(|| format!("with {what}: {}", answer.text()))?;
        stage.leaks_nothing(&answer.text(), path)?;
    }
    Ok(())
}

/// For a member of another project a thing is exactly as absent as one that never was.
fn expect_absent(stage: &Stage, route: &Route, path: &str, body: &str) -> Result<()> {
    let mallory = &stage.scene.mallory;
    let foreign = ask(mallory, route, path, body)?.expect(&[404])?;
    fault(route, &foreign)?;
    stage.leaks_nothing(&foreign.text(), path)?;
    let (nowhere, ids) = stage.nowhere(route)?;
    let unknown = ask(mallory, route, &nowhere, body)?.expect(&[404])?;
    let hide = |text: String, path: &str, ids: &[String]| {
        let mut text = text;
        for id in path
            .split('/')
            .map(str::to_owned)
            .chain(ids.iter().cloned())
            .filter(|id| id.contains('-') || ids.contains(id))
        {
            text = text.replace(&id, "ID");
        }
        text
    };
    // An event's id is its number.
    let number = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
    let own: Vec<String> = path.split('/').filter(number).map(str::to_owned).collect();
    let (told, expected) = (hide(foreign.text(), path, &own), hide(unknown.text(), &nowhere, &ids));
    ensure!(
        told == expected,
        "a foreign thing is told apart from none: {told} / {expected}"
    );
    Ok(())
}

fn expect_changes(stage: &Stage, route: &Route, make: Maker) -> Result<()> {
    let scene = &stage.scene;
    let (given, body) = make(scene, &stage.zebra)?;
    let path = stage.path(route, &given)?;
    let before = stage.world()?;
    expect_strangers_out(stage, route, &path, body)?;
    let refused = ask(&scene.bob, route, &path, body)?
        .expect(&[403])
        .context("a reader")?;
    fault(route, &refused).context("a reader")?;
    expect_absent(stage, route, &path, body).context("a member of another project")?;
    let after = stage.world()?;
    ensure!(
        before == after,
        "a refused request changed something:\n{before}\n{after}"
    );
    ask(&scene.alice, route, &path, body)?
        .expect(&[200, 201, 202])
        .context("a member")?;
    ensure!(stage.world()? != before, "the member's request changed nothing");
    let (given, body) = make(scene, &stage.zebra)?;
    let path = stage.path(route, &given)?;
    ask(&scene.admin, route, &path, body)?
        .expect(&[200, 201, 202])
        .context("an administrator")?;
    Ok(())
}

fn expect_ended(stage: &Stage, route: &Route, status: u16) -> Result<()> {
    let path = stage.path(route, &[])?;
    let before = stage.world()?;
    expect_strangers_out(stage, route, &path, "<action/>")?;
    let refused = ask(&stage.scene.bob, route, &path, "<action/>")?.expect(&[403])?;
    fault(route, &refused).context("a reader")?;
    expect_absent(stage, route, &path, "<action/>").context("a member of another project")?;
    for api in [&stage.scene.alice, &stage.scene.admin] {
        ask(api, route, &path, "<action/>")?.expect(&[status])?;
    }
    ensure!(before == stage.world()?, "something happened to what is over");
    Ok(())
}

fn expect_made_of(stage: &Stage, route: &Route, of: fn(&str) -> String) -> Result<()> {
    let scene = &stage.scene;
    let disk = Scene::disk(&scene.admin, &fresh())?;
    let (path, body) = (stage.path(route, &[])?, of(&disk));
    let before = stage.world()?;
    expect_strangers_out(stage, route, &path, &body)?;
    let refused = ask(&scene.bob, route, &path, &body)?.expect(&[403])?;
    fault(route, &refused).context("a reader")?;
    let foreign = ask(&scene.mallory, route, &path, &body)?.expect(&[400])?.text();
    let nothing = Uuid::new_v4().to_string();
    let unknown = ask(&scene.mallory, route, &path, &of(&nothing))?.expect(&[400])?.text();
    ensure!(foreign.replace(&disk, &nothing) == unknown, "{foreign} / {unknown}");
    ensure!(before == stage.world()?, "a refused request made something");
    for api in [&scene.alice, &scene.admin] {
        let id = only_id(&ask(api, route, &path, &body)?.expect(&[201])?)?;
        api.wait_status(
            &format!("{path}/{id}"),
            "phase",
            "finished_failure",
            Duration::from_secs(60),
        )?;
    }
    Ok(())
}

fn expect_made_at_home(stage: &Stage, route: &Route, body: &'static str) -> Result<()> {
    let scene = &stage.scene;
    let path = stage.path(route, &[])?;
    let before = stage.world()?;
    expect_strangers_out(stage, route, &path, body)?;
    let refused = ask(&scene.bob, route, &path, body)?
        .expect(&[403])
        .context("a reader")?;
    fault(route, &refused)?;
    ensure!(before == stage.world()?, "a refused request made something");
    let collection = match route.name {
        "vms/add" => "vms",
        "jobs/add" => "jobs",
        "events/add" => "events",
        _ => "disks",
    };
    for (maker, sees, does_not) in [
        (&scene.alice, &scene.bob, &scene.mallory),
        (&scene.admin, &scene.alice, &scene.mallory),
        (&scene.mallory, &scene.admin, &scene.alice),
    ] {
        let id = only_id(&ask(maker, route, &path, body)?.expect(&[201, 202])?)?;
        sees.get(&format!("{collection}/{id}"))?.expect(&[200])?;
        does_not.get(&format!("{collection}/{id}"))?.expect(&[404])?;
    }
    Ok(())
}

fn expect_thing(stage: &Stage, route: &Route) -> Result<()> {
    let path = stage.path(route, &[])?;
    expect_strangers_out(stage, route, &path, "")?;
    for (who, api) in [
        ("admin", &stage.scene.admin),
        ("member", &stage.scene.alice),
        ("reader", &stage.scene.bob),
    ] {
        ask(api, route, &path, "")?.expect(&[200]).with_context(|| who)?;
    }
    expect_absent(stage, route, &path, "")
}

fn expect_shared(stage: &Stage, route: &Route) -> Result<()> {
    let path = stage.path(route, &[])?;
    expect_strangers_out(stage, route, &path, "")?;
    let scene = &stage.scene;
    for api in [&scene.admin, &scene.alice, &scene.bob, &scene.mallory] {
        let told = ask(api, route, &path, "")?.expect(&[200])?.text();
        stage.leaks_nothing(&told, "")?;
    }
    Ok(())
}

fn expect_filtered(stage: &Stage, route: &Route, part: fn(&Things) -> &str) -> Result<()> {
    let path = stage.path(route, &[])?;
    expect_strangers_out(stage, route, &path, "")?;
    let scene = &stage.scene;
    let (zebra, otter) = (part(&stage.zebra), part(&stage.otter));
    for (who, api, sees_zebra, sees_otter) in [
        ("admin", &scene.admin, true, true),
        ("member", &scene.alice, true, false),
        ("reader", &scene.bob, true, false),
        ("foreign member", &scene.mallory, false, true),
    ] {
        let told = ask(api, route, &path, "")?.expect(&[200])?.text();
        ensure!(told.contains(zebra) == sees_zebra, "{who}, {zebra}: {told}");
        ensure!(told.contains(otter) == sees_otter, "{who}, {otter}: {told}");
    }
    let mut queries: Vec<String> = [
        "all_content=true",
        "include_active=true",
        "unregistered=true",
        "from=0",
        "max=1000",
        "search=name%3Dzebra*",
        "search=zebra",
        "search=message%3D*zebra*",
        "search=alias%3Dzebra*",
        "search=correlation_id%3Dzebra",
        "search=page%201",
        "follow=disk_attachments.disk,snapshots.disks,nics,cluster,host,template",
        "follow=storage_domains,disk_snapshots",
        "follow=steps,owner",
        "follow=vm,user",
    ]
    .map(str::to_owned)
    .into();
    queries.extend(
        stage
            .zebra
            .secrets()
            .into_iter()
            .skip(1)
            .map(|id| format!("search=id%3D{id}")),
    );
    for query in &queries {
        let answer = ask(&scene.mallory, route, &format!("{path}?{query}"), "")?.expect(&[200, 400])?;
        stage.leaks_nothing(&answer.text(), "").context(query.clone())?;
        // The images of a storage domain cannot be searched: oVirt ignores the parameter there.
        let searched = query.contains("zebra") && route.name != "domain_disk_snapshots/list";
        if searched && answer.status == 200 {
            ensure!(answer.xml()?.children.is_empty(), "{query}: {}", answer.text());
        }
    }
    Ok(())
}

fn expect_own(stage: &Stage, route: &Route) -> Result<()> {
    let scene = &stage.scene;
    let users = scene.admin.get("users")?.expect(&[200])?.xml()?;
    ensure!(users.children.len() == 4, "an administrator sees all users");
    let of = |name: &str| {
        users
            .children
            .iter()
            .find(|user| user.text_at("name") == Some(name))
            .context("a user")
    };
    let path = if route.pattern.contains('{') {
        format!("users/{}", of("alice")?.id()?)
    } else {
        "users".to_owned()
    };
    expect_strangers_out(stage, route, &path, "")?;
    if !route.pattern.contains('{') {
        for (name, api) in [
            ("alice", &scene.alice),
            ("bob", &scene.bob),
            ("mallory", &scene.mallory),
        ] {
            let told = ask(api, route, &path, "")?.expect(&[200])?.xml()?;
            let names: Vec<_> = told.children.iter().filter_map(|user| user.text_at("name")).collect();
            ensure!(names == [name], "{name} sees {names:?}");
        }
        return Ok(());
    }
    ask(&scene.admin, route, &path, "")?.expect(&[200])?;
    ask(&scene.alice, route, &path, "")?.expect(&[200])?;
    for api in [&scene.bob, &scene.mallory] {
        let foreign = ask(api, route, &path, "")?.expect(&[404])?.text();
        let nobody = Uuid::new_v4().to_string();
        let unknown = ask(api, route, &format!("users/{nobody}"), "")?.expect(&[404])?.text();
        ensure!(foreign.replace(of("alice")?.id()?, &nobody) == unknown, "{foreign}");
    }
    Ok(())
}

fn expect_public(stage: &Stage, route: &Route, status: u16) -> Result<()> {
    let api = Api::anonymous(stage.scene.daemon.url());
    let path = format!("/ovirt-engine{}", route.pattern);
    let headers = [
        ("Accept", "application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let body = (route.method.as_str() == "POST").then_some(b"".as_slice());
    let answer = api.send(route.method.as_str(), &path, &headers, body)?;
    // Without TLS there are no certificates to give away.
    let good = if route.name == "pki/resource" { 404 } else { status };
    answer.expect(&[good])?;
    Ok(())
}

fn check(stage: &Stage, route: &Route) -> Result<()> {
    let rule = rule(route.method.as_str(), route.name).context("no rule")?;
    let access = match rule {
        Public(_) => Access::Public,
        Shared | Filtered(_) | Own | Create(_) | CreateOf(_) => Access::AnyUser,
        Thing => Access::Read,
        Change(_) | Ended(_) => Access::Operate,
    };
    ensure!(
        route.access == access,
        "the route table says {:?}, the rule {access:?}",
        route.access
    );
    match rule {
        Public(status) => expect_public(stage, route, status),
        Shared => expect_shared(stage, route),
        Filtered(part) => expect_filtered(stage, route, part),
        Own => expect_own(stage, route),
        Thing => expect_thing(stage, route),
        Change(make) => expect_changes(stage, route, make),
        Create(body) => expect_made_at_home(stage, route, body),
        CreateOf(body) => expect_made_of(stage, route, body),
        Ended(status) => expect_ended(stage, route, status),
    }
}

#[test]
fn every_route_has_a_rule_about_who_may_use_it() {
    let missing: BTreeSet<String> = routes()
        .filter(|route| rule(route.method.as_str(), route.name).is_none())
        .map(|route| format!("{} {}", route.method, route.name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let open = routes().filter(|route| route.access == Access::Public);
    let places: BTreeSet<&str> = open
        .map(|route| route.pattern.split('/').nth(1).unwrap_or_default())
        .collect();
    assert_eq!(
        places,
        BTreeSet::from(["services", "sso"]),
        "nothing of the API itself is open"
    );
    assert!(routes().all(|route| (route.place == Place::Server) == (route.access == Access::Public)));
}

#[test]
fn each_route_lets_in_exactly_whom_it_should_and_tells_others_nothing() {
    let stage = Stage::set().unwrap();
    let mut failed = BTreeMap::new();
    let mut count = 0;
    for route in routes() {
        count += 1;
        if let Err(error) = check(&stage, route) {
            failed.insert(
                format!("{} {} ({})", route.method, route.pattern, route.name),
                format!("{error:#}"),
            );
        }
    }
    let shown: Vec<String> = failed
        .iter()
        .map(|(route, error)| format!("{route}: {error}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {count} routes:\n{}",
        failed.len(),
        shown.join("\n")
    );
    stage.scene.daemon.scan_log(&[]).unwrap();
}
