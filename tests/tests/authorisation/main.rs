//! Who may do what, asked of every route of the oVirt dialect as the route table has it.
//!
//! The table of rules below must name exactly the routes that there are: a new route without a rule fails here. Each
//! route is then tried on a real daemon without credentials in every form, as a reader, as a member, as an administrator,
//! and as a member of another project, for whom nothing of this project may exist: same status, same text, no word of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use stillpoint_api_ovirt::{Access, Place, Route, Shape, routes, routes_v3};
use stillpoint_system_tests::{Scene, Things, only_id};
use stillpoint_testkit::{Answer, Api, Xml, eventually};
use uuid::Uuid;

mod rules;

use rules::*;

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
        // They have numbers: the first is there, whatever it is of.
        let first = "00000000-0000-0000-0000-000000000001".to_owned();
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
            ("statistic", &first),
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

fn expect_stuck(stage: &Stage, route: &Route, make: Maker, word: &str) -> Result<()> {
    let scene = &stage.scene;
    let (given, body) = make(scene, &stage.zebra)?;
    let path = stage.path(route, &given)?;
    expect_strangers_out(stage, route, &path, body)?;
    let refused = ask(&scene.bob, route, &path, body)?.expect(&[403])?;
    fault(route, &refused).context("a reader")?;
    expect_absent(stage, route, &path, body).context("a member of another project")?;
    for api in [&scene.alice, &scene.admin] {
        let told = ask(api, route, &path, body)?.expect(&[409])?.text();
        ensure!(told.contains(word), "{told}");
    }
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
        Change(_) | Ended(_) | Stuck(..) => Access::Operate,
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
        Stuck(make, word) => expect_stuck(stage, route, make, word),
        Create(body) => expect_made_at_home(stage, route, body),
        CreateOf(body) => expect_made_of(stage, route, body),
        Ended(status) => expect_ended(stage, route, status),
    }
}

/// A body that a route of version 3 understands, so that it is the sender who is refused.
fn body_v3(stage: &Stage, route: &Route) -> String {
    match (route.method.as_str(), route.name) {
        ("POST", "vms/add") => "<vm><name>x</name><memory>33554432</memory></vm>".into(),
        ("PUT", "vm/update") => "<vm><description>x</description></vm>".into(),
        ("POST", "vm_nics/add") | ("PUT", "vm_nic/update") => "<nic><name>nic9</name></nic>".into(),
        ("POST", "jobs/add") => "<job><description>j</description></job>".into(),
        ("POST", "steps/add") => "<step><description>s</description><type>executing</type></step>".into(),
        ("POST", "events/add") => "<event><origin>o</origin><severity>normal</severity><custom_id>1</custom_id>\
                                   <description>e</description></event>"
            .into(),
        ("POST", "snapshots/add") => "<snapshot><description>s</description></snapshot>".into(),
        ("POST", "vm_disks/add") => format!("<disk id=\"{}\"/>", stage.zebra.loose_disk),
        ("POST", "disks/add" | "storage_domain_disks/add") => NEW_DISK.into(),
        ("PUT", _) => "<disk><description>x</description></disk>".into(),
        // Some actions need to be told a snapshot, or a storage domain; the others do not mind.
        ("POST", _) => format!(
            "<action><snapshot id=\"{}\"/><storage_domain><name>data</name></storage_domain></action>",
            stage.zebra.snapshot
        ),
        _ => String::new(),
    }
}

/// Nobody gets further in version 3 than in version 4: who is refused there is refused here.
fn check_v3(stage: &Stage, route: &Route) -> Result<()> {
    const V3: &str = "/ovirt-engine/api/v3";
    let (scene, path, body) = (&stage.scene, stage.path(route, &[])?, body_v3(stage, route));
    let told = |api: &Api, status: u16| -> Result<String> {
        let answer = ask(&api.speaking(None, V3), route, &path, &body)?.expect(&[status])?;
        if status >= 400 {
            let fault = fault(route, &answer)?;
            ensure!(fault.children[0].name == "reason", "not the order of version 3");
        }
        Ok(answer.text())
    };
    told(&Api::anonymous(scene.daemon.url()), 401).context("nobody")?;
    let is_get = route.method.as_str() == "GET";
    match route.access {
        Access::Public => ensure!(false, "nothing of version 3 is open"),
        // Users see themselves.
        Access::AnyUser if route.name == "user/get" => {}
        Access::AnyUser if is_get => {
            told(&scene.bob, 200).context("a reader")?;
            stage.leaks_nothing(&told(&scene.mallory, 200)?, "")?;
        }
        Access::AnyUser => drop(told(&scene.bob, 403).context("a reader")?),
        Access::Read | Access::Operate => {
            told(&scene.bob, if is_get { 200 } else { 403 }).context("a reader")?;
            stage.leaks_nothing(
                &told(&scene.mallory, 404).context("a member of another project")?,
                &path,
            )?;
        }
    }
    Ok(())
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
    let before = stage.world().unwrap();
    for route in routes_v3() {
        count += 1;
        if let Err(error) = check_v3(&stage, route) {
            let place = format!("{} v3 {} ({})", route.method, route.pattern, route.name);
            failed.insert(place, format!("{error:#}"));
        }
    }
    assert_eq!(
        before,
        stage.world().unwrap(),
        "a refused request of version 3 changed something"
    );
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
