//! Cinder v3 with plain HTTP, item by item of the volume contract's checklist, and then with its real clients.
//!
//! Numbers with a V are those of that checklist. The clients' checks are in `tests/clients/cinder.py`;
//! `STILLPOINT_TEST_PYTHON` names a Python that has them (`./test` makes one; `scripts/make-venv target/venv` does it by hand).

mod changes;
mod snapshots;
mod volumes;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use stillpoint_system_tests::{
    Checks, sdk,
    volume::{ask_token, token_of},
};
use stillpoint_testkit::{Answer, Api, Daemon, eventually};

const DEMO: &str = "d0000000000000000000000000000001";
const OTHER: &str = "d0000000000000000000000000000002";
const NOBODY: &str = "5aa119a8-d25b-45a7-8d1b-88e127885635";

/// Clients of one daemon, each with a token of a project.
struct Cinder {
    api: Api,
    url: String,
    tokens: HashMap<&'static str, (String, &'static str)>,
}

impl Cinder {
    fn login(daemon: &Daemon) -> Result<Self> {
        let api = Api::anonymous(daemon.url());
        let mut tokens = HashMap::new();
        for (user, project, id) in [
            ("admin", "demo", DEMO),
            ("alice", "demo", DEMO),
            ("bob", "demo", DEMO),
            ("mallory", "other", OTHER),
        ] {
            let scope = json!({"project": {"name": project, "domain": {"id": "default"}}});
            let token = token_of(ask_token(&api, "/identity/v3/auth/tokens", user, &scope)?)?;
            tokens.insert(user, (token, id));
        }
        Ok(Self {
            api,
            url: daemon.url().to_owned(),
            tokens,
        })
    }

    /// A request as it is; `path` below `/volume/v3/{project}/`, or whole if it begins with a slash.
    fn raw(&self, user: &str, version: &str, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Answer> {
        let (token, project) = self.tokens.get(user).context("a user")?;
        let mut headers = vec![("X-Auth-Token", token.as_str())];
        if !version.is_empty() {
            headers.push(("OpenStack-API-Version", version));
        }
        if let Some((kind, _)) = body {
            headers.push(("Content-Type", kind));
        }
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/volume/v3/{project}/{path}")
        };
        self.api.send(method, &path, &headers, body.map(|(_, bytes)| bytes))
    }

    /// A request at version 3.`minor`, with JSON.
    fn at(&self, user: &str, minor: u16, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let text = body.to_string();
        let body = (!body.is_null()).then_some(("application/json", text.as_bytes()));
        self.raw(user, &format!("volume 3.{minor}"), method, path, body)
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.at("alice", 0, "GET", path, &Value::Null)?.expect(&[200])?.json()
    }

    /// The status that alice gets for it at 3.`minor`.
    fn status(&self, minor: u16, method: &str, path: &str, body: &Value) -> Result<u16> {
        Ok(self.at("alice", minor, method, path, body)?.status)
    }

    fn wait(&self, noun: &str, id: &str, wanted: &str) -> Result<Value> {
        eventually(Duration::from_secs(60), &format!("{noun} {id} to be {wanted}"), || {
            let now = self.get(&format!("{noun}s/{id}"))?[noun].take();
            ensure!(wanted == "error" || now["status"] != "error", "it went to error: {now}");
            Ok((now["status"] == wanted).then_some(now))
        })
    }

    fn wait_gone(&self, noun: &str, id: &str) -> Result<()> {
        eventually(Duration::from_secs(60), &format!("{noun} {id} to be gone"), || {
            Ok((self.status(0, "GET", &format!("{noun}s/{id}"), &Value::Null)? == 404).then_some(()))
        })
    }

    /// Makes one of `body`, and waits until it is there; its id.
    fn make(&self, noun: &str, body: &Value) -> Result<String> {
        let answer = self
            .at("alice", 0, "POST", &format!("{noun}s"), &json!({noun: body}))?
            .expect(&[202])?
            .json()?;
        let id = answer[noun]["id"].as_str().context("an id")?.to_owned();
        self.wait(noun, &id, "available")?;
        Ok(id)
    }

    fn act(&self, user: &str, minor: u16, noun: &str, id: &str, action: &Value) -> Result<u16> {
        Ok(self
            .at(user, minor, "POST", &format!("{noun}s/{id}/action"), action)?
            .status)
    }

    /// An administrator says what the status is.
    fn reset(&self, noun: &str, id: &str, status: &str) -> Result<()> {
        let action = json!({"os-reset_status": {"status": status}});
        ensure!(self.act("admin", 0, noun, id, &action)? == 202, "{noun} to {status}");
        Ok(())
    }
}

/// The names of an object's members, sorted: their order says nothing.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .map(|object| object.keys().map(String::as_str).collect())
        .unwrap_or_default();
    keys.sort_unstable();
    keys
}

fn ids(list: &Value) -> Vec<&str> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["id"].as_str()).collect()
}

fn is_instant(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|at| at.len() == 26 && at.as_bytes()[19] == b'.' && at.as_bytes()[10] == b'T')
}

/// Each of these statuses, in order.
fn expect_each<T>(cases: impl IntoIterator<Item = (T, u16)>, ask: impl Fn(&T) -> Result<u16>) -> Result<()>
where
    T: std::fmt::Debug,
{
    for (case, wanted) in cases {
        let status = ask(&case)?;
        ensure!(status == wanted, "{case:?}: {status}, not {wanted}");
    }
    Ok(())
}

#[test]
fn versions_volumes_and_snapshots_answer_as_cinder_does() {
    let daemon = Daemon::start().unwrap();
    let cinder = Cinder::login(&daemon).unwrap();
    let mut checks = Checks::default();
    versions(&cinder, &mut checks);
    snapshots::snapshot_bodies(&cinder, &mut checks).unwrap();
    snapshots::snapshot_lists(&cinder, &mut checks).unwrap();
    changes::snapshot_changes(&cinder, &mut checks).unwrap();
    volumes::volumes(&cinder, &mut checks);
    volumes::volume_actions(&cinder, &mut checks).unwrap();
    volumes::installation(&cinder, &mut checks);
    checks.finish();
}

fn versions(cinder: &Cinder, checks: &mut Checks) {
    let public = |path: &str| cinder.api.send("GET", path, &[("Accept", "*/*")], None);
    checks.item("V1 V2 V3 V4", || {
        let first = public("/volume/")?.expect(&[300])?;
        ensure!(first.header("content-type") == Some("application/json"));
        let first = first.json()?;
        let version = &first["versions"][0];
        ensure!(
            first["versions"].as_array().is_some_and(|all| all.len() == 1),
            "{first}"
        );
        ensure!(
            version["version"] == "3.71" && version["min_version"] == "3.0",
            "{first}"
        );
        ensure!(
            version["links"][0]["href"]
                .as_str()
                .is_some_and(|href| href.ends_with("/v3/")),
            "{first}"
        );
        for path in ["/volume/v3/", "/volume/v3"] {
            ensure!(public(path)?.expect(&[200])?.json()? == first, "{path}");
        }
        Ok(())
    });
    checks.item("V5 V6 V7 V8 V9 V10 V11", || {
        for (version, status, echoed) in [
            ("", 200, "volume 3.0"),
            ("volume latest", 200, "volume 3.71"),
            ("volume 3.72", 406, "volume 3.72"),
            ("volume banana", 400, ""),
            ("compute 2.1", 400, ""),
            ("compute 2.1,volume 3.45", 200, "volume 3.45"),
            ("compute 2.1, volume 3.45", 200, "volume 3.45"),
        ] {
            let answer = cinder.raw("alice", version, "GET", "volumes", None)?;
            ensure!(answer.status == status, "{version}: {}", answer.status);
            ensure!(answer.header("vary") == Some("OpenStack-API-Version"));
            let echo = answer.header("openstack-api-version").context("no version")?;
            ensure!(echoed.is_empty() || echo == echoed, "{version}: {echo}");
            ensure!(
                answer
                    .header("x-openstack-request-id")
                    .is_some_and(|id| id.starts_with("req-"))
            );
        }
        let refused = cinder.raw("alice", "volume 3.72", "GET", "volumes", None)?.json()?;
        ensure!(refused["computeFault"]["code"] == 406, "{refused}");
        Ok(())
    });
    checks.item("V12 V13 V14", || {
        let refused = cinder
            .at("alice", 0, "GET", &format!("/volume/v3/{DEMO}"), &Value::Null)?
            .expect(&[404])?;
        ensure!(refused.json()?["title"] == "Not Found", "{}", refused.text());
        ensure!(cinder.status(0, "PATCH", &format!("snapshots/{NOBODY}"), &json!({}))? == 404);
        ensure!(cinder.status(67, "GET", "/volume/v3/volumes", &Value::Null)? == 200);
        ensure!(cinder.status(0, "GET", &format!("/volume/v3/{OTHER}/volumes"), &Value::Null)? == 400);
        Ok(())
    });
}

#[test]
fn the_unmodified_openstack_clients_work() {
    let daemon = Daemon::start().unwrap();
    let mut command = sdk::script(&daemon, "cinder.py").unwrap();
    command.env("STILLPOINT_USER", "admin");
    let done = command.output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "the clients' checks:\n{said}");
    assert!(said.contains("checks passed"), "{said}");
    daemon.scan_log(&[]).unwrap();
}
