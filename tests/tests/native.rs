//! Our own family, `/stillpoint/v1`: who may use which route, what it tells of a thing, and the stream of what happens.
//!
//! Made from the route table itself, so that no route can be forgotten.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillpoint_api_native::{Access, ROOT, Route, routes};
use stillpoint_sdk::{Connection, Message};
use stillpoint_system_tests::volume::Volumes;
use stillpoint_system_tests::{Checks, Scene, Things};
use stillpoint_testkit::{Answer, Api, Daemon, Guest, Password, VmSpec, eventually};

const LONG: Duration = Duration::from_secs(240);
/// Fits wherever an id is given.
const NOTHING: &str = "5aa119a8-d25b-45a7-8d1b-88e127885635";

/// A stream of events, read beside the test.
struct Listener(mpsc::Receiver<Message>);

impl Listener {
    fn open(url: &str, user: &str, query: &str) -> Result<Self> {
        let password = Password::of(user)?.0;
        let builder = Connection::builder(url).user(format!("{user}@internal"), password);
        Self::of(builder.build()?, query, None)
    }

    fn of(connection: Connection, query: &str, last: Option<String>) -> Result<Self> {
        let (send, receive) = mpsc::channel();
        let (opened, open) = mpsc::channel();
        let path = format!("{ROOT}/events{query}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async move {
                let mut stream = match connection.listen(&path, last.as_deref()).await {
                    Ok(stream) => stream,
                    Err(error) => return opened.send(Err(error)).unwrap_or_default(),
                };
                opened.send(Ok(())).unwrap_or_default();
                while let Ok(Some(message)) = stream.next().await {
                    if send.send(message).is_err() {
                        return;
                    }
                }
            });
        });
        open.recv_timeout(LONG)??;
        Ok(Self(receive))
    }

    /// The messages up to the first for which it is so, that one too.
    fn until(&self, what: &str, is_it: impl Fn(&Message, &Value) -> bool) -> Result<Vec<(Message, Value)>> {
        let mut all = Vec::new();
        let begun = Instant::now();
        loop {
            let left = LONG.saturating_sub(begun.elapsed());
            let message = self
                .0
                .recv_timeout(left)
                .with_context(|| format!("{what} after {all:?}"))?;
            let data: Value = serde_json::from_str(&message.data)?;
            let found = is_it(&message, &data);
            all.push((message, data));
            if found {
                return Ok(all);
            }
        }
    }

    /// Whether the stream has ended by then.
    fn ends_within(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        while let Some(left) = limit.checked_sub(begun.elapsed()) {
            match self.0.recv_timeout(left) {
                Ok(_message) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return true,
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
            }
        }
        false
    }
}

fn path(route: &Route, kind: &str, id: &str) -> String {
    let pattern = route.pattern.replace("{kind}", kind).replace("{id}", id);
    format!("{ROOT}{pattern}")
}

/// A stream has no end that could be waited for: its head is asked for.
fn method(route: &Route) -> &str {
    if route.name == "events/listen" {
        "HEAD"
    } else {
        route.method.as_str()
    }
}

fn ask(api: &Api, route: &Route, kind: &str, id: &str) -> Result<Answer> {
    let body = (route.method.as_str() != "GET").then_some(b"{}".as_slice());
    let answer = api.request(method(route), &path(route, kind, id), &[], body)?;
    ensure!(
        answer.header("x-request-id").is_some_and(|id| id.starts_with("req-")),
        "no request id"
    );
    Ok(answer)
}

fn refused(answer: &Answer, status: u16, code: &str) -> Result<()> {
    ensure!(
        answer.status == status,
        "{status} expected: {} {}",
        answer.status,
        answer.text()
    );
    if answer.body.is_empty() {
        return Ok(());
    }
    let error = &answer.json()?["error"];
    ensure!(error["code"] == code, "{error}");
    ensure!(error["message"].is_string() && error["remedy"].is_string(), "{error}");
    for member in ["object", "blocker"] {
        ensure!(error.get(member).is_some(), "no {member}: {error}");
    }
    Ok(())
}

fn explained(api: &Api, kind: &str, id: &str) -> Result<Value> {
    api.get_json(&format!("{ROOT}/explain/{kind}/{id}"))?
        .expect(&[200])?
        .json()
}

/// What can be explained of somebody's things.
fn explainable(things: &Things) -> Vec<(&'static str, &str)> {
    vec![
        ("vm", &things.vm),
        ("disk", &things.disk),
        ("disk", &things.loose_disk),
        ("snapshot", &things.snapshot),
        ("snapshot", &things.active),
        ("backup", &things.backup),
        ("checkpoint", &things.checkpoint),
        ("transfer", &things.transfer),
        ("job", &things.job),
    ]
}

fn check_route(scene: &Scene, anonymous: &Api, route: &Route) -> Result<()> {
    if route.access == Access::Public {
        ask(anonymous, route, "vm", NOTHING)?.expect(&[200])?;
        return Ok(());
    }
    let answer = ask(anonymous, route, "vm", NOTHING)?;
    refused(&answer, 401, "unauthorized")?;
    ensure!(answer.header("www-authenticate").is_some(), "no WWW-Authenticate");
    let bad = [("Authorization", "Bearer never-issued")];
    refused(
        &anonymous.send(method(route), &path(route, "vm", NOTHING), &bad, None)?,
        401,
        "unauthorized",
    )?;
    match route.access {
        Access::Admin => {
            for api in [&scene.alice, &scene.bob] {
                refused(&ask(api, route, "vm", NOTHING)?, 403, "forbidden")?;
            }
            let answer = ask(&scene.admin, route, "vm", NOTHING)?;
            ensure!(![401, 403].contains(&answer.status), "{}", answer.text());
        }
        Access::AnyUser => {
            for api in [&scene.alice, &scene.bob, &scene.mallory] {
                ask(api, route, "vm", NOTHING)?.expect(&[200])?;
            }
        }
        Access::Read | Access::Operate => {
            for api in [&scene.admin, &scene.alice, &scene.mallory] {
                refused(&ask(api, route, "vm", NOTHING)?, 404, "not_found")?;
                if route.pattern.contains("{id}") {
                    refused(&ask(api, route, "vm", "no%2Fid")?, 404, "not_found")?;
                }
            }
        }
        Access::Public => {}
    }
    Ok(())
}

/// The documents name the routes of the table, and nothing else.
fn documents(anonymous: &Api) -> Result<()> {
    let table: BTreeSet<String> = routes()
        .map(|route| format!("{} {}", route.method, route.pattern))
        .collect();
    let openapi = anonymous
        .get_json(&format!("{ROOT}/openapi.json"))?
        .expect(&[200])?
        .json()?;
    ensure!(openapi["openapi"] == "3.1.0", "{openapi}");
    let mut listed = BTreeSet::new();
    for (path, operations) in openapi["paths"].as_object().context("paths")? {
        for (method, operation) in operations.as_object().context("operations")? {
            listed.insert(format!("{} {}", method.to_uppercase(), path.trim_end_matches('/')));
            for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = part.trim_end_matches('}');
                let parameters = operation["parameters"].as_array().context("parameters")?;
                ensure!(
                    parameters.iter().any(|p| p["name"] == name && p["in"] == "path"),
                    "{path}: {name}"
                );
            }
        }
    }
    ensure!(listed == table, "{listed:?}");
    let text = openapi.to_string();
    for (at, _) in text.match_indices("#/components/schemas/") {
        let name = text[at + "#/components/schemas/".len()..]
            .split('"')
            .next()
            .context("a name")?;
        ensure!(openapi["components"]["schemas"].get(name).is_some(), "no schema {name}");
    }
    let root = answer_fits(anonymous, "Root", "")?;
    ensure!(
        root["routes"].as_array().context("routes")?.len() == table.len(),
        "{root}"
    );
    refused(&anonymous.get_json(&format!("{ROOT}/nosuch"))?, 404, "not_found")?;
    let wrong = anonymous.send("DELETE", ROOT, &[], None)?;
    refused(&wrong, 405, "method_not_allowed")?;
    ensure!(
        wrong.header("allow").is_some_and(|allow| allow.contains("GET")),
        "no Allow"
    );
    Ok(())
}

/// Whether a document is what a schema says, members that it does not name included.
fn fits(all: &Value, schema: &Value, value: &Value) -> Result<()> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().context("a name")?;
        return fits(all, &all["components"]["schemas"][name], value).with_context(|| name.to_owned());
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        // Either null or the other one: so errors say what is wrong with that.
        return if value.is_null() {
            Ok(())
        } else {
            fits(all, &choices[0], value)
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        ensure!(words.contains(value), "{value} is none of {words:?}");
    }
    match schema["type"].as_str().context("a type")? {
        "object" => {
            let known = schema["properties"].as_object().context("properties")?;
            let members = value.as_object().with_context(|| format!("{value} is no object"))?;
            let missing = known.keys().find(|name| !members.contains_key(*name));
            ensure!(missing.is_none(), "{missing:?} is missing in {value}");
            for (name, member) in members {
                let schema = known
                    .get(name)
                    .with_context(|| format!("{name} is not in the schema"))?;
                fits(all, schema, member).with_context(|| name.clone())?;
            }
        }
        "array" => {
            for item in value.as_array().with_context(|| format!("{value} is no list"))? {
                fits(all, &schema["items"], item)?;
            }
        }
        "string" => ensure!(value.is_string(), "{value} is no text"),
        "integer" => ensure!(value.is_i64() || value.is_u64(), "{value} is no number"),
        "boolean" => ensure!(value.is_boolean(), "{value} is no truth"),
        other => anyhow::bail!("the type {other}"),
    }
    Ok(())
}

/// The same for the answer to a path, and that answer.
fn answer_fits(api: &Api, name: &str, path: &str) -> Result<Value> {
    let openapi = api.get_json(&format!("{ROOT}/openapi.json"))?.expect(&[200])?.json()?;
    let value = api.get_json(&format!("{ROOT}{path}"))?.json()?;
    let schema = serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
    fits(&openapi, &schema, &value).with_context(|| path.to_owned())?;
    Ok(value)
}

/// Who may see a thing is told why it is so; for everybody else it is not there.
fn who_sees_what(scene: &Scene, zebra: &Things, otter: &Things) -> Result<()> {
    let secrets = zebra.secrets();
    let hides = |text: &str| {
        secrets
            .iter()
            .find(|secret| text.contains(**secret))
            .map(ToString::to_string)
    };
    for (kind, id) in explainable(zebra) {
        for api in [&scene.admin, &scene.alice, &scene.bob] {
            let told = explained(api, kind, id).with_context(|| format!("{kind} {id}"))?;
            ensure!(told["kind"] == kind && told["id"] == id, "{told}");
            ensure!(told["why"][0].is_string() && told["status"].is_string(), "{told}");
            ensure!(told["differences"].as_array().is_some_and(Vec::is_empty), "{told}");
            ensure!(told["locks"].as_array().is_some_and(Vec::is_empty), "{told}");
        }
        let foreign = scene.mallory.get_json(&format!("{ROOT}/explain/{kind}/{id}"))?;
        refused(&foreign, 404, "not_found")?;
        let never = scene.mallory.get_json(&format!("{ROOT}/explain/{kind}/{NOTHING}"))?;
        ensure!(
            foreign.text().replace(id, NOTHING) == never.text(),
            "{} is not {}",
            foreign.text(),
            never.text()
        );
        // An id of another kind is none of this one.
        if kind != "vm" {
            refused(
                &scene.admin.get_json(&format!("{ROOT}/explain/vm/{id}"))?,
                404,
                "not_found",
            )?;
        }
    }
    refused(
        &scene.mallory.get_json(&format!("{ROOT}/jobs/{}", zebra.job))?,
        404,
        "not_found",
    )?;
    let job = scene
        .bob
        .get_json(&format!("{ROOT}/jobs/{}", zebra.job))?
        .expect(&[200])?
        .json()?;
    ensure!(job["state"] == "done" && job["progress"] == 100, "{job}");
    ensure!(job["steps"][0]["ended_at"].is_string(), "{job}");
    answer_fits(&scene.bob, "Job", &format!("/jobs/{}", zebra.job))?;
    answer_fits(&scene.bob, "Error", "/jobs/none")?;
    for (kind, id) in explainable(otter) {
        let told = answer_fits(&scene.mallory, "Explanation", &format!("/explain/{kind}/{id}"))?.to_string();
        ensure!(hides(&told).is_none(), "{:?} in {told}", hides(&told));
    }
    // What happens in a project is heard there, and by administrators.
    let heard = |user: &str| -> Result<bool> {
        let stream = Listener::open(scene.daemon.url(), user, "?after=0")?;
        let all = stream.until("the newest event", |message, _| {
            message.id.as_deref().and_then(|id| id.parse::<i64>().ok()) >= otter.event.parse().ok()
        });
        let texts: Vec<String> = all?.into_iter().map(|(message, _)| message.data).collect();
        Ok(texts.iter().any(|text| hides(text).is_some()))
    };
    ensure!(heard("admin")?, "an administrator does not hear all");
    ensure!(!heard("mallory")?, "events of another project are heard");
    Ok(())
}

/// A member of a VM's snapshot is a snapshot of the volume APIs, too.
fn a_volumes_snapshot(scene: &Scene, zebra: &Things) -> Result<()> {
    let list = Volumes::login(&scene.daemon, "alice", "demo")?.get("snapshots")?;
    let mut list = list["snapshots"].as_array().context("snapshots")?.iter();
    let member = list
        .find(|one| one["volume_id"] == zebra.disk.as_str())
        .context("a member")?;
    let id = member["id"].as_str().context("an id")?;
    let told = answer_fits(&scene.bob, "Explanation", &format!("/explain/volume_snapshot/{id}"))?;
    ensure!(told["status"] == "available", "{told}");
    ensure!(told["why"].to_string().contains(&zebra.snapshot), "{told}");
    ensure!(told["chains"][0]["images"][0]["id"] == zebra.image.as_str(), "{told}");
    let path = format!("{ROOT}/explain/volume_snapshot/{id}");
    refused(&scene.mallory.get_json(&path)?, 404, "not_found")
}

/// A file that is lost is said, with what to do.
fn a_lost_file(scene: &Scene, zebra: &Things) -> Result<()> {
    let told = explained(&scene.alice, "disk", &zebra.disk)?;
    let images = told["chains"][0]["images"].as_array().context("images")?;
    ensure!(images.len() == 2 && images[1]["active"] == true, "{told}");
    ensure!(images[1]["seen"]["backing"] == images[0]["file"], "{told}");
    ensure!(images[0]["snapshots"][0] == zebra.snapshot.as_str(), "{told}");
    let file = images[0]["file"].as_str().context("a file")?;
    let at = scene.daemon.data_dir().join("images").join(file);
    let aside = at.with_extension("aside");
    std::fs::rename(&at, &aside)?;
    let told = explained(&scene.alice, "vm", &zebra.vm)?;
    let repairs = answer_fits(&scene.admin, "Repairs", "/repairs");
    std::fs::rename(&aside, &at)?;
    ensure!(
        repairs?["repairs"].as_array().is_some_and(|list| !list.is_empty()),
        "no repair"
    );
    let difference = &told["differences"][0];
    ensure!(
        difference["kind"] == "image" && difference["id"] == zebra.image.as_str(),
        "{told}"
    );
    ensure!(difference["job_at_work"] == false, "{told}");
    let remedies = told["remedies"].to_string();
    ensure!(remedies.contains("stillpoint repair --plan"), "{remedies}");
    let told = scene
        .admin
        .post_json(&format!("{ROOT}/repairs/none"), &serde_json::json!({"all": true}))?;
    refused(&told, 400, "invalid_value")?;
    Ok(())
}

fn token(api: &Api, user: &str) -> Result<String> {
    let password = Password::of(user)?.0;
    let form = format!("grant_type=password&scope=ovirt-app-api&username={user}%40internal&password={password}");
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Accept", "application/json"),
    ];
    let answer = api.send("POST", "/ovirt-engine/sso/oauth/token", &headers, Some(form.as_bytes()))?;
    let answer = answer.expect(&[200])?.json()?;
    Ok(answer["access_token"].as_str().context("a token")?.to_owned())
}

#[test]
fn every_route_refuses_whom_its_row_does_not_let_in_and_a_thing_is_explained_to_who_may_see_it() -> Result<()> {
    let scene = Scene::start()?;
    let anonymous = Api::anonymous(scene.daemon.url());
    // A stream whose token is revoked ends within half a minute: begun here, looked at at the end.
    let token = token(&anonymous, "alice")?;
    let connection = Connection::builder(scene.daemon.url()).token(&token).build()?;
    let revoked = Listener::of(connection, "", None)?;
    let form = format!("scope=ovirt-app-api&token={token}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    anonymous
        .send(
            "POST",
            "/ovirt-engine/services/sso-logout",
            &headers,
            Some(form.as_bytes()),
        )?
        .expect(&[200])?;
    let begun = Instant::now();

    let mut checks = Checks::default();
    for route in routes() {
        checks.item(&format!("{route:?}"), || check_route(&scene, &anonymous, route));
    }
    checks.finish();
    documents(&anonymous)?;
    let zebra = scene.furnish(&scene.alice, "zebra")?;
    let otter = scene.furnish(&scene.mallory, "otter")?;
    who_sees_what(&scene, &zebra, &otter)?;
    a_volumes_snapshot(&scene, &zebra)?;
    a_lost_file(&scene, &zebra)?;
    for (query, word) in [("?after=x", "after"), ("?vm=x", "vm"), ("?only=x", "only")] {
        let answer = scene.alice.get_json(&format!("{ROOT}/events{query}"))?;
        refused(&answer, 400, "invalid_value")?;
        ensure!(answer.text().contains(word), "{}", answer.text());
    }
    ensure!(
        revoked.ends_within(Duration::from_secs(40)),
        "heard for {:?}",
        begun.elapsed()
    );

    let mut daemon = scene.daemon;
    let listening = Listener::open(daemon.url(), "bob", "")?;
    let asked = Instant::now();
    daemon.stop()?;
    ensure!(
        asked.elapsed() < Duration::from_secs(8),
        "a listener holds the daemon up"
    );
    listening.until("the end", |message, data| {
        message.event == "end" && data["error"]["code"] == "unavailable"
    })?;
    daemon.scan_log(&[])
}

/// The command line shows the same.
fn on_the_command_line(daemon: &Daemon, vm: &str) -> Result<()> {
    let run = |arguments: &[&str]| -> Result<String> {
        let done = Command::new(stillpoint_testkit::binary()?)
            .args(arguments)
            .env("STILLPOINT_URL", daemon.url())
            .env("STILLPOINT_PASSWORD", Password::of("admin")?.0)
            .output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8(done.stdout)?)
    };
    let page = run(&["explain", "talks"])?;
    for word in ["why", "process", "QEMU has the same layers", "lately", "running"] {
        ensure!(page.contains(word), "no {word} in {page}");
    }
    let document: Value = serde_json::from_str(&run(&["explain", "vm/talks", "--json"])?)?;
    ensure!(
        document["id"] == vm && document["chains"][0]["qemu"].is_array(),
        "{document}"
    );
    Ok(())
}

/// A job that waits for a QEMU that does not answer is told with all that it holds, and heard to its end.
fn a_held_job(daemon: &Daemon, api: &Api, vm: &str, disk: &str) -> Result<()> {
    let stream = Listener::open(daemon.url(), "alice", &format!("?vm={vm}"))?;
    daemon.hang_guest(vm)?;
    let body = "<snapshot><description>held</description></snapshot>";
    let made = api.post(&format!("vms/{vm}/snapshots"), body)?.expect(&[202])?;
    let snapshot = made.xml()?.id()?.to_owned();
    let told = answer_fits(api, "Explanation", &format!("/explain/vm/{vm}"))?;
    daemon.unhang_guest(vm)?;
    let held = |kind: &str, id: &str| {
        let mut locks = told["locks"].as_array().into_iter().flatten();
        locks.any(|lock| lock["kind"] == kind && lock["id"] == id && lock["since"].is_string())
    };
    ensure!(
        held("vm", vm) && held("disk", disk) && held("snapshot", &snapshot),
        "{told}"
    );
    let job = &told["jobs"][0];
    ensure!(
        job["kind"] == "snapshot_create" && job["id"] == told["locks"][0]["job"],
        "{told}"
    );
    let steps = job["steps"].as_array().context("steps")?;
    ensure!(steps.iter().any(|step| step["state"] == "started"), "{told}");
    ensure!(told["machine"]["trouble"].is_string(), "{told}");
    let differences = told["differences"].as_array().context("differences")?;
    ensure!(differences.iter().all(|one| one["job_at_work"] == true), "{told}");
    let command = format!("stillpoint job watch {}", job["id"].as_str().context("an id")?);
    ensure!(told["remedies"].to_string().contains(&command), "{told}");

    let heard = stream.until("the end of the snapshot", |_, data| data["code"] == 68)?;
    let event = |code: u32| heard.iter().position(|(_, data)| data["code"] == code);
    ensure!(event(45).is_some() && event(45) < event(68), "{heard:?}");
    let is_end =
        |message: &Message, data: &Value| message.event == "job" && data["id"] == job["id"] && data["state"] == "done";
    if !heard.iter().any(|(message, data)| is_end(message, data)) {
        stream.until("the end of the job", is_end)?;
    }
    // Whoever was cut off goes on where he was.
    let before = heard[event(45).context("45")?].0.id.clone();
    let password = Password::of("alice")?.0;
    let again = Connection::builder(daemon.url())
        .user("alice@internal", password)
        .build()?;
    let again = Listener::of(again, &format!("?only=events&vm={vm}"), before)?;
    let rest = again.until("the rest", |_, data| data["code"] == 68)?;
    ensure!(rest.iter().all(|(_, data)| data["code"] != 45), "{rest:?}");
    Ok(())
}

fn healing(api: &Api) -> Result<Value> {
    answer_fits(api, "Healing", "/healing")
}

/// The daemon dies in the middle of a snapshot: what the restart found and did is told.
fn what_was_healed(daemon: &mut Daemon, vm: &str) -> Result<()> {
    daemon.set_env("STILLPOINT_CRASH_AT", Some("snapshot_create:switch:effect"));
    daemon.restart()?;
    let api = daemon.api("admin")?;
    let clean = healing(&api)?;
    let machine = &clean["machines"][0];
    ensure!(machine["vm"] == vm && machine["found"] == "connected", "{clean}");
    ensure!(clean["jobs"].as_array().is_some_and(Vec::is_empty), "{clean}");
    let body = "<snapshot><description>cut off</description></snapshot>";
    // The answer may be lost with the daemon.
    drop(api.post(&format!("vms/{vm}/snapshots"), body));
    daemon.wait_end(LONG)?;
    daemon.set_env("STILLPOINT_CRASH_AT", None);
    daemon.restart()?;
    let api = daemon.api("admin")?;
    let healed = eventually(LONG, "the job to be ended", || {
        let healed = healing(&api)?;
        Ok((healed["jobs"][0]["state"] == "done").then_some(healed))
    })?;
    let events = healed["events"].as_array().context("events")?;
    ensure!(events.iter().any(|event| event["code"] == 20001), "{healed}");
    let theirs = healing(&daemon.api("mallory")?)?.to_string();
    ensure!(!theirs.contains("talks") && !theirs.contains(vm), "{theirs}");
    let told = explained(&api, "vm", vm)?;
    for member in ["differences", "locks"] {
        ensure!(told[member].as_array().is_some_and(Vec::is_empty), "{told}");
    }
    Ok(())
}

#[test]
fn a_held_job_a_frozen_guest_and_what_a_restart_healed_are_told_as_they_are() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let api = daemon.api("admin")?;
    let vm = api.create_vm(&VmSpec::new("talks").cmdline(&guest.cmdline("sp.disks=1")?))?;
    let disk = api.create_disk("talks_0", 64 << 20)?;
    api.attach(&vm, &disk, "virtio", true)?;
    api.start(&vm)?;
    daemon.console(&vm).wait_record(50, LONG)?;
    on_the_command_line(&daemon, &vm)?;
    api.post(&format!("vms/{vm}/freezefilesystems"), "<action/>")?
        .expect(&[200])?;
    let told = explained(&api, "vm", &vm)?;
    ensure!(told["machine"]["frozen"]["by"] == "user", "{told}");
    ensure!(
        told["remedies"].to_string().contains("stillpoint vm thaw talks"),
        "{told}"
    );
    ensure!(
        told["machine"]["alive"] == true && told["machine"]["run_state"] == "running",
        "{told}"
    );
    api.post(&format!("vms/{vm}/thawfilesystems"), "<action/>")?
        .expect(&[200])?;
    a_held_job(&daemon, &api, &vm, &disk)?;
    what_was_healed(&mut daemon, &vm)
}
