//! Cinder v3 with plain HTTP, item by item of the volume contract's checklist, and then with its real clients.
//!
//! Numbers with a V are those of that checklist. The clients' checks are in `tests/clients/cinder.py`;
//! `STILLPOINT_TEST_PYTHON` names a Python that has them (`./test` makes one; `scripts/make-venv target/venv` does it by hand).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use stillpoint_system_tests::{Checks, sdk};
use stillpoint_testkit::{Answer, Api, Daemon, Password, eventually};

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
            let auth = json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {
                    "name": user, "password": Password::of(user)?.0, "domain": {"id": "default"},
                }}},
                "scope": {"project": {"name": project, "domain": {"id": "default"}}},
            }});
            let headers = [("Content-Type", "application/json")];
            let answer = api.send(
                "POST",
                "/identity/v3/auth/tokens",
                &headers,
                Some(auth.to_string().as_bytes()),
            )?;
            let token = answer.header("x-subject-token").context("a token")?.to_owned();
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

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .map(|object| object.keys().map(String::as_str).collect())
        .unwrap_or_default()
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
    snapshot_bodies(&cinder, &mut checks);
    snapshot_lists(&cinder, &mut checks);
    snapshot_changes(&cinder, &mut checks);
    volumes(&cinder, &mut checks);
    volume_actions(&cinder, &mut checks);
    installation(&cinder, &mut checks);
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

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn snapshot_bodies(cinder: &Cinder, checks: &mut Checks) {
    let volume = cinder.make("volume", &json!({"size": 1})).unwrap();
    let asked = |body: Value| cinder.at("alice", 0, "POST", "snapshots", &json!({"snapshot": body}));
    let drop_all = || -> Result<()> {
        let all = cinder.get(&format!("snapshots?volume_id={volume}"))?;
        for id in ids(&all["snapshots"]) {
            cinder.wait("snapshot", id, "available")?;
            ensure!(cinder.status(0, "DELETE", &format!("snapshots/{id}"), &Value::Null)? == 202);
        }
        for id in ids(&all["snapshots"]) {
            cinder.wait_gone("snapshot", id)?;
        }
        Ok(())
    };
    checks.item("V41 V42 V43 V76 V95", || {
        let body = json!({"volume_id": volume, "name": "n", "description": "d", "metadata": {"a": "b"}});
        let made = asked(body)?.expect(&[202])?.json()?;
        let made = &made["snapshot"];
        let nine = [
            "created_at",
            "description",
            "id",
            "metadata",
            "name",
            "size",
            "status",
            "updated_at",
            "volume_id",
        ];
        ensure!(keys(made) == nine, "{made}");
        ensure!(made["status"] == "creating" && made["updated_at"].is_null(), "{made}");
        ensure!(
            made["name"] == "n" && made["description"] == "d" && made["metadata"] == json!({"a": "b"}),
            "{made}"
        );
        ensure!(made["size"] == 1 && is_instant(&made["created_at"]), "{made}");
        let shown = cinder.wait("snapshot", made["id"].as_str().context("id")?, "available")?;
        ensure!(keys(&shown).len() == 11, "{shown}");
        ensure!(shown["os-extended-snapshot-attributes:progress"] == "100%", "{shown}");
        ensure!(shown["os-extended-snapshot-attributes:project_id"] == DEMO, "{shown}");
        Ok(())
    });
    checks.item("V44 V45 V46 V47 V48 V49 V50 V56 V58", || {
        let long = "\u{fc}".repeat(255);
        for (body, field, wanted) in [
            (
                json!({"force": false, "name": null, "description": null, "metadata": {}}),
                "name",
                json!(null),
            ),
            (json!({"metadata": null}), "metadata", json!({})),
            (json!({"name": "  a  "}), "name", json!("a")),
            (json!({"name": ""}), "name", json!("")),
            (json!({"name": long}), "name", json!(long)),
            (json!({"description": long}), "description", json!(long)),
            (json!({"display_name": "x"}), "name", json!("x")),
            (json!({"force": "on"}), "name", json!(null)),
            (
                json!({"force": "f", "metadata": {"a/b": "1"}}),
                "metadata",
                json!({"a/b": "1"}),
            ),
        ] {
            let mut given = body.clone();
            given["volume_id"] = json!(volume);
            let made = asked(given)?.expect(&[202])?.json()?;
            ensure!(made["snapshot"][field] == wanted, "{body}: {made}");
        }
        drop_all()
    });
    checks.item("V51 V52 V53 V54 V55 V57 V59", || {
        let with = |more: Value| {
            let mut body = json!({"volume_id": volume});
            for (key, value) in more.as_object().into_iter().flatten() {
                body[key] = value.clone();
            }
            json!({"snapshot": body})
        };
        let long = "a".repeat(256);
        let mut beside = with(json!({}));
        beside["more"] = json!(1);
        expect_each(
            [
                (json!({}), 400),
                (json!([]), 400),
                (json!({"snapshot": null}), 400),
                (json!({"snapshot": {}}), 400),
                (with(json!({"size": 1})), 400),
                (beside, 400),
                (with(json!({"volume_id": "zzz"})), 400),
                (with(json!({"volume_id": NOBODY})), 404),
                (with(json!({"volume_id": null})), 404),
                (with(json!({"name": long})), 400),
                (with(json!({"name": 1})), 400),
                (with(json!({"description": long})), 400),
                (with(json!({"description": "a\nb"})), 400),
                (with(json!({"force": "maybe"})), 400),
                (with(json!({"force": 1})), 400),
                (with(json!({"force": null})), 400),
                (with(json!({"metadata": {"a": 1}})), 400),
                (with(json!({"metadata": {"a": null}})), 400),
                (with(json!({"metadata": {"": "1"}})), 400),
                (with(json!({"metadata": {long.as_str(): "1"}})), 400),
                (with(json!({"metadata": {"a": long}})), 400),
            ],
            |body| cinder.status(0, "POST", "snapshots", body),
        )?;
        let text = with(json!({})).to_string();
        expect_each(
            [
                (("application/json", "{bad"), 400),
                (("application/json", ""), 400),
                (("application/xml", text.as_str()), 415),
                (("text/plain", text.as_str()), 415),
                (("application/json; charset=utf-8", text.as_str()), 202),
            ],
            |(kind, body)| {
                Ok(cinder
                    .raw("alice", "", "POST", "snapshots", Some((kind, body.as_bytes())))?
                    .status)
            },
        )?;
        // Of another project.
        let foreign = cinder.at("mallory", 0, "POST", "snapshots", &with(json!({})))?;
        ensure!(foreign.status == 404, "{}", foreign.text());
        drop_all()
    });
    checks.item("V60 V61 V62 V63 V64 V65 V68", || {
        let snap = |minor: u16, force: Option<bool>| {
            let mut body = json!({"volume_id": volume});
            if let Some(force) = force {
                body["force"] = json!(force);
            }
            cinder.status(minor, "POST", "snapshots", &json!({"snapshot": body}))
        };
        ensure!(snap(66, Some(false))? == 400);
        let attach = json!({"os-attach": {"instance_uuid": NOBODY, "mountpoint": "/dev/vdb"}});
        ensure!(cinder.act("alice", 0, "volume", &volume, &attach)? == 202);
        expect_each(
            [
                ((0, None), 400),
                ((0, Some(true)), 202),
                ((65, None), 400),
                ((66, None), 202),
                ((66, Some(true)), 202),
                ((66, Some(false)), 400),
            ],
            |(minor, force)| snap(*minor, *force),
        )?;
        drop_all()?;
        ensure!(
            cinder.act(
                "alice",
                0,
                "volume",
                &volume,
                &json!({"os-detach": {"attachment_id": null}})
            )? == 202
        );
        for status in [
            "attaching",
            "creating",
            "extending",
            "error",
            "backing-up",
            "awaiting-transfer",
            "reserved",
            "maintenance",
        ] {
            cinder.reset("volume", &volume, status)?;
            expect_each([((0, Some(true)), 400), ((66, None), 400)], |(minor, force)| {
                snap(*minor, *force)
            })
            .with_context(|| status.to_owned())?;
        }
        cinder.reset("volume", &volume, "available")
    });
    checks.item("V69 V70", || {
        for (resource, limit) in [("snapshots", 0), ("gigabytes", 1)] {
            let limits = json!({"quota_set": {resource: limit}});
            cinder
                .at("admin", 0, "PUT", &format!("os-quota-sets/{DEMO}"), &limits)?
                .expect(&[200])?;
            let refused = asked(json!({"volume_id": volume}))?.expect(&[413])?;
            ensure!(refused.header("retry-after") == Some("0"));
            ensure!(refused.json()?["overLimit"]["retryAfter"] == "0", "{}", refused.text());
            ensure!(cinder.get("snapshots")?["snapshots"] == json!([]));
            cinder
                .at("admin", 0, "DELETE", &format!("os-quota-sets/{DEMO}"), &Value::Null)?
                .expect(&[200])?;
        }
        Ok(())
    });
    checks.item("V71", || {
        std::thread::scope(|scope| {
            let begun: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| asked(json!({"volume_id": volume}))?.expect(&[202])?.json()))
                .collect();
            for made in begun {
                let made = made.join().map_err(|_panic| anyhow::anyhow!("a thread"))??;
                cinder.wait("snapshot", made["snapshot"]["id"].as_str().context("id")?, "available")?;
            }
            Ok(())
        })
    });
}

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn snapshot_lists(cinder: &Cinder, checks: &mut Checks) {
    let volume = cinder.make("volume", &json!({"size": 1})).unwrap();
    let made: Vec<String> = (1..=3)
        .map(|at| {
            let body = json!({"volume_id": volume, "name": format!("s{at}"), "metadata": {"a": at.to_string()}});
            cinder.make("snapshot", &body).unwrap()
        })
        .collect();
    let newest_first: Vec<&str> = made.iter().rev().map(String::as_str).collect();
    let list = |user: &str, minor: u16, query: &str| {
        let path = format!("snapshots?volume_id={volume}&{query}");
        cinder.at(user, minor, "GET", &path, &Value::Null)
    };
    let listed = |minor: u16, query: &str| -> Result<Vec<String>> {
        let all = list("alice", minor, query)?.expect(&[200])?.json()?;
        Ok(ids(&all["snapshots"]).into_iter().map(str::to_owned).collect())
    };
    let statuses = |cases: &[(u16, &str, u16)]| {
        expect_each(
            cases.iter().map(|(minor, query, status)| ((*minor, *query), *status)),
            |(minor, query)| Ok(list("alice", *minor, query)?.status),
        )
    };
    checks.item("V74 V75 V84", || {
        for id in [NOBODY, "nope"] {
            let refused = cinder.at("alice", 0, "GET", &format!("snapshots/{id}"), &Value::Null)?;
            ensure!(refused.status == 404 && refused.json()?["itemNotFound"]["code"] == 404);
        }
        let all = list("alice", 0, "")?.expect(&[200])?.json()?;
        ensure!(ids(&all["snapshots"]) == newest_first, "{all}");
        ensure!(
            keys(&all["snapshots"][0]).len() == 9 && keys(&all) == ["snapshots"],
            "{all}"
        );
        Ok(())
    });
    checks.item("V77", || {
        for (minor, key) in [(14, "group_snapshot_id"), (41, "user_id"), (65, "consumes_quota")] {
            let path = format!("snapshots/{}", made[0]);
            let shown = |minor| -> Result<Value> {
                Ok(cinder.at("alice", minor, "GET", &path, &Value::Null)?.json()?["snapshot"].take())
            };
            ensure!(shown(minor)?.get(key).is_some(), "{key} at 3.{minor}");
            ensure!(shown(minor - 1)?.get(key).is_none(), "{key} before 3.{minor}");
        }
        Ok(())
    });
    checks.item("V78 V79", || {
        let mut seen = Vec::new();
        let mut path = format!("snapshots?volume_id={volume}&limit=1&offset=0");
        loop {
            let page = cinder.get(&path)?;
            seen.extend(ids(&page["snapshots"]).into_iter().map(str::to_owned));
            let Some(next) = page["snapshots_links"][0]["href"].as_str() else {
                break;
            };
            ensure!(next.contains("limit=1") && next.contains("marker="), "{next}");
            path = next
                .strip_prefix(&cinder.url)
                .context("a link to another place")?
                .to_owned();
        }
        ensure!(seen == newest_first, "{seen:?}");
        Ok(())
    });
    checks.item("V80 V81 V82 V83 V86 V87 V91 V93", || {
        ensure!(listed(0, "limit=0")?.is_empty());
        ensure!(listed(0, "offset=1")? == newest_first[1..]);
        statuses(&[
            (0, "limit=-1", 400),
            (0, "limit=x", 400),
            (0, "limit=5000", 200),
            (0, "offset=-1", 400),
            (0, "offset=x", 400),
            (0, "marker=nope", 404),
            (0, &format!("marker={NOBODY}"), 404),
            (0, "sort=id:asc&sort_key=id", 400),
            (0, "sort=created_at:up", 400),
            (0, "sort_key=bogus", 400),
            (0, "sort_key=status,id", 400),
            (29, "sort=name:asc", 400),
            (30, "sort=name:asc", 200),
            (0, "sort_key=display_name", 200),
            (30, "bogus=1", 200),
            (31, "bogus=1", 400),
            (45, "with_count=banana", 400),
        ])?;
        let of_admin = list("admin", 31, "bogus=1")?.expect(&[200])?.json()?;
        ensure!(of_admin["snapshots"] == json!([]), "{of_admin}");
        Ok(())
    });
    checks.item("V85 V88 V89 V90 V92", || {
        let oldest_first: Vec<&str> = made.iter().map(String::as_str).collect();
        ensure!(listed(0, "sort_key=created_at&sort_dir=asc")? == oldest_first);
        ensure!(listed(0, "sort=created_at:asc")? == oldest_first);
        ensure!(listed(0, "status=available")?.len() == 3 && listed(0, "status=error")?.is_empty());
        ensure!(listed(0, "name=s2")? == made[1..2] && listed(0, "name=s")?.is_empty());
        ensure!(listed(34, "name~=s")?.len() == 3 && listed(34, "name~=2")? == made[1..2]);
        statuses(&[(33, "name~=s", 400)])?;
        ensure!(listed(30, "name~=2")?.len() == 3);
        ensure!(listed(22, "metadata=%7B'a':%20'2'%7D")? == made[1..2]);
        ensure!(listed(21, "metadata=%7B'a':%20'2'%7D")?.len() == 3);
        let counted = list("alice", 45, "with_count=true&limit=1")?.json()?;
        ensure!(counted["count"] == 3, "{counted}");
        ensure!(list("alice", 44, "with_count=true")?.json()?.get("count").is_none());
        Ok(())
    });
    checks.item("V94", || {
        let asked = cinder
            .at(
                "mallory",
                0,
                "POST",
                "volumes",
                &json!({"volume": {"size": 1, "name": "foreign"}}),
            )?
            .expect(&[202])?;
        let id = asked.json()?["volume"]["id"].as_str().context("id")?.to_owned();
        let sees = |user: &str| -> Result<bool> {
            let all = cinder
                .at(user, 0, "GET", "volumes?all_tenants=1", &Value::Null)?
                .expect(&[200])?
                .json()?;
            Ok(ids(&all["volumes"]).contains(&id.as_str()))
        };
        ensure!(sees("admin")? && sees("mallory")? && !sees("alice")?);
        // Not there for others, whatever they want.
        for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/metadata")] {
            ensure!(
                cinder.status(0, method, &format!("volumes/{id}{path}"), &Value::Null)? == 404,
                "{method} {path}"
            );
        }
        Ok(())
    });
}

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn snapshot_changes(cinder: &Cinder, checks: &mut Checks) {
    let volume = cinder.make("volume", &json!({"size": 1})).unwrap();
    let snapshot = cinder.make("snapshot", &json!({"volume_id": volume})).unwrap();
    let path = format!("snapshots/{snapshot}");
    checks.item("V97 V98", || {
        let changed = cinder.at("alice", 0, "PUT", &path, &json!({"snapshot": {"name": "new"}}))?;
        let changed = changed.expect(&[200])?.json()?;
        ensure!(
            keys(&changed["snapshot"]).len() == 9 && changed["snapshot"]["name"] == "new",
            "{changed}"
        );
        ensure!(is_instant(&changed["snapshot"]["updated_at"]), "{changed}");
        expect_each(
            [
                (json!({}), 400),
                (json!({"metadata": {}}), 400),
                (json!({"force": true}), 400),
            ],
            |body| cinder.status(0, "PUT", &path, &json!({"snapshot": body})),
        )?;
        let body = json!({"snapshot": {"name": "x"}});
        ensure!(cinder.status(0, "PUT", &format!("snapshots/{NOBODY}"), &body)? == 404);
        Ok(())
    });
    checks.item("V103 V104 V105 V106 V107", || {
        for (noun, id) in [("snapshot", &snapshot), ("volume", &volume)] {
            let of = format!("{noun}s/{id}/metadata");
            let steps = [
                (
                    "POST",
                    "",
                    json!({"metadata": {"a": "1", "b": "2"}}),
                    json!({"a": "1", "b": "2"}),
                ),
                ("POST", "", json!({"metadata": {"b": "3"}}), json!({"a": "1", "b": "3"})),
                ("PUT", "", json!({"metadata": {"c": "4"}}), json!({"c": "4"})),
                ("PUT", "/d", json!({"meta": {"d": "5"}}), json!({"c": "4", "d": "5"})),
                ("DELETE", "/c", Value::Null, json!({"d": "5"})),
                ("PUT", "", json!({"metadata": {}}), json!({})),
            ];
            for (method, item, body, wanted) in steps {
                let answer = cinder
                    .at("alice", 0, method, &format!("{of}{item}"), &body)?
                    .expect(&[200])?;
                ensure!(method != "DELETE" || answer.body.is_empty(), "{}", answer.text());
                ensure!(cinder.get(&of)?["metadata"] == wanted, "{noun} {method} {item}");
            }
            expect_each(
                [
                    (("GET", "/none", Value::Null), 404),
                    (("DELETE", "/none", Value::Null), 404),
                    (("PUT", "/a", json!({"meta": {"b": "1"}})), 400),
                    (("PUT", "/a", json!({"meta": {"a": "1", "b": "1"}})), 400),
                ],
                |(method, item, body)| cinder.status(0, method, &format!("{of}{item}"), body),
            )?;
            let is_volume = noun == "volume";
            let slash = json!({"metadata": {"a/b": "1"}});
            ensure!(cinder.status(0, "POST", &of, &slash)? == if is_volume { 200 } else { 400 });
            let more = json!({"metadata": {}, "more": 1});
            ensure!(cinder.status(0, "POST", &of, &more)? == if is_volume { 400 } else { 200 });
        }
        Ok(())
    });
    checks.item("V108 V110 V111", || {
        let reset =
            |user: &str, body: Value| cinder.act(user, 0, "snapshot", &snapshot, &json!({"os-reset_status": body}));
        ensure!(reset("alice", json!({"status": "error"}))? == 403);
        for bad in [json!({"status": "rollbacking"}), json!({})] {
            ensure!(reset("admin", bad.clone())? == 400, "{bad}");
        }
        ensure!(reset("admin", json!({"status": "creating"}))? == 202);
        let report = |status: &str| {
            let action = json!({"os-update_snapshot_status": {"status": status, "progress": "70%"}});
            cinder.act("alice", 0, "snapshot", &snapshot, &action)
        };
        ensure!(report("available")? == 202);
        let shown = cinder.wait("snapshot", &snapshot, "available")?;
        ensure!(shown["os-extended-snapshot-attributes:progress"] == "70%", "{shown}");
        cinder.reset("snapshot", &snapshot, "deleting")?;
        ensure!(report("available")? == 400);
        cinder.reset("snapshot", &snapshot, "available")?;
        ensure!(cinder.act("alice", 0, "snapshot", &snapshot, &json!({"os-bogus": {}}))? == 400);
        ensure!(cinder.act("alice", 0, "snapshot", &snapshot, &json!({}))? == 400);
        ensure!(cinder.act("admin", 0, "snapshot", NOBODY, &json!({"os-force_delete": {}}))? == 404);
        Ok(())
    });
    checks.item("V99 V100 V101 V109", || {
        let delete = |id: &str| cinder.at("alice", 0, "DELETE", &format!("snapshots/{id}"), &Value::Null);
        for status in ["creating", "deleting", "backing-up", "error_deleting"] {
            cinder.reset("snapshot", &snapshot, status)?;
            ensure!(delete(&snapshot)?.status == 400, "{status}");
        }
        cinder.reset("snapshot", &snapshot, "error")?;
        ensure!(delete(&snapshot)?.expect(&[202])?.body.is_empty());
        cinder.wait_gone("snapshot", &snapshot)?;
        for (status, value) in [("error_deleting", Value::Null), ("creating", json!({}))] {
            let id = cinder.make("snapshot", &json!({"volume_id": volume}))?;
            cinder.reset("snapshot", &id, status)?;
            ensure!(cinder.act("alice", 0, "snapshot", &id, &json!({"os-force_delete": value}))? == 403);
            ensure!(cinder.act("admin", 0, "snapshot", &id, &json!({"os-force_delete": value}))? == 202);
            cinder.wait_gone("snapshot", &id)?;
        }
        Ok(())
    });
    checks.item("V113 V114 V115 V116", || {
        let revert = |minor: u16, id: &Value| {
            cinder.act(
                "alice",
                minor,
                "volume",
                &volume,
                &json!({"revert": {"snapshot_id": id}}),
            )
        };
        ensure!(revert(40, &json!(NOBODY))? == 400, "no snapshots");
        let older = cinder.make("snapshot", &json!({"volume_id": volume}))?;
        let newest = cinder.make("snapshot", &json!({"volume_id": volume}))?;
        ensure!(revert(39, &json!(newest))? == 404);
        for bad in [json!(older), json!(NOBODY), Value::Null] {
            ensure!(revert(40, &bad)? == 400, "{bad}");
        }
        let attach = json!({"os-attach": {"instance_uuid": NOBODY, "mountpoint": "/dev/vdb"}});
        ensure!(cinder.act("alice", 0, "volume", &volume, &attach)? == 202);
        ensure!(revert(40, &json!(newest))? == 409);
        ensure!(cinder.act("alice", 0, "volume", &volume, &json!({"os-detach": {}}))? == 202);
        cinder.reset("snapshot", &newest, "restoring")?;
        ensure!(revert(40, &json!(newest))? == 409);
        ensure!(cinder.get(&format!("volumes/{volume}"))?["volume"]["status"] == "available");
        cinder.reset("snapshot", &newest, "available")?;
        ensure!(revert(40, &json!(newest))? == 202);
        cinder.wait("volume", &volume, "available")?;
        ensure!(cinder.act("alice", 0, "volume", &volume, &json!({"os-extend": {"new_size": 2}}))? == 202);
        cinder.wait("volume", &volume, "available")?;
        ensure!(revert(40, &json!(newest))? == 400, "extended since");
        Ok(())
    });
}

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn volumes(cinder: &Cinder, checks: &mut Checks) {
    let add = |minor: u16, body: &Value| cinder.status(minor, "POST", "volumes", &json!({"volume": body}));
    checks.item("V141 V142 V148 V159 V160", || {
        let made = cinder
            .at(
                "alice",
                0,
                "POST",
                "volumes",
                &json!({"volume": {"size": "1", "name": "first"}}),
            )?
            .expect(&[202])?
            .json()?;
        let made = &made["volume"];
        ensure!(
            made["bootable"] == "false" && made["status"] == "creating" && made["size"] == 1,
            "{made}"
        );
        ensure!(made["links"].as_array().is_some_and(|links| links.len() == 2), "{made}");
        let id = made["id"].as_str().context("id")?.to_owned();
        let shown = cinder.wait("volume", &id, "available")?;
        for key in ["os-vol-host-attr:host", "migration_status"] {
            ensure!(shown.get(key).is_none(), "{key}: {shown}");
        }
        ensure!(shown["os-vol-tenant-attr:tenant_id"] == DEMO, "{shown}");
        let of_admin = cinder
            .at("admin", 0, "GET", &format!("volumes/{id}"), &Value::Null)?
            .json()?;
        let host = of_admin["volume"]["os-vol-host-attr:host"].as_str().context("a host")?;
        ensure!(host.ends_with("@qcow2#default") && host.len() > 14, "{host}");
        let listed = cinder.get("volumes?name=first")?;
        ensure!(keys(&listed["volumes"][0]) == ["id", "links", "name"], "{listed}");
        let sum = |minor| cinder.at("alice", minor, "GET", "volumes/summary?name=first", &Value::Null);
        ensure!(sum(11)?.status == 404);
        ensure!(sum(12)?.json()? == json!({"volume-summary": {"total_count": 1, "total_size": 1}}));
        ensure!(sum(36)?.json()?["volume-summary"]["metadata"] == json!({}));
        expect_each(
            [
                (json!({"size": 0}), 400),
                (json!({"size": -1}), 400),
                (json!({"size": 1.5}), 400),
                (json!({"size": "x"}), 400),
                (json!({}), 400),
            ],
            |body| add(0, body),
        )?;
        ensure!(cinder.status(2, "GET", "volumes?bootable=xx", &Value::Null)? == 400);
        Ok(())
    });
    checks.item("V143 V144 V145 V146 V147", || {
        let volume = cinder.make("volume", &json!({"size": 2}))?;
        let snapshot = cinder.make("snapshot", &json!({"volume_id": volume}))?;
        for (body, size) in [
            (json!({"snapshot_id": snapshot}), 2),
            (json!({"source_volid": volume}), 2),
            (json!({"snapshot_id": snapshot, "size": 3}), 3),
        ] {
            let id = cinder.make("volume", &body)?;
            let shown = cinder.get(&format!("volumes/{id}"))?;
            ensure!(shown["volume"]["size"] == size, "{body}: {shown}");
            for key in ["snapshot_id", "source_volid"] {
                ensure!(
                    shown["volume"][key] == *body.get(key).unwrap_or(&Value::Null),
                    "{shown}"
                );
            }
        }
        expect_each(
            [
                ((0, json!({"snapshot_id": snapshot, "size": 1})), 400),
                ((0, json!({"source_volid": volume, "size": 1})), 400),
                ((0, json!({"snapshot_id": NOBODY})), 404),
                ((0, json!({"source_volid": NOBODY})), 404),
                ((0, json!({"snapshot_id": snapshot, "source_volid": volume})), 400),
                ((0, json!({"size": 1, "volume_type": "nope"})), 404),
                ((0, json!({"size": 1, "availability_zone": "nope"})), 400),
                ((0, json!({"size": 1, "multiattach": true})), 400),
                ((0, json!({"size": 1, "imageRef": NOBODY})), 400),
                ((47, json!({"size": 1, "backup_id": NOBODY})), 404),
                ((53, json!({"size": 1, "bogus": 1})), 400),
                ((52, json!({"size": 1, "bogus": 1})), 202),
                (
                    (
                        0,
                        json!({"size": 1, "backup_id": null, "snapshot_id": null, "volume_type": null}),
                    ),
                    202,
                ),
            ],
            |(minor, body)| add(*minor, body),
        )?;
        cinder.reset("snapshot", &snapshot, "error")?;
        ensure!(add(0, &json!({"snapshot_id": snapshot}))? == 400);
        cinder.reset("snapshot", &snapshot, "available")?;
        Ok(())
    });
    checks.item("V149 V150 V157", || {
        let volume = cinder.make("volume", &json!({"size": 1}))?;
        cinder.make("snapshot", &json!({"volume_id": volume}))?;
        let path = format!("volumes/{volume}");
        ensure!(cinder.status(52, "PUT", &path, &json!({"volume": {}}))? == 200);
        ensure!(cinder.status(53, "PUT", &path, &json!({"volume": {}}))? == 400);
        ensure!(cinder.status(0, "DELETE", &path, &Value::Null)? == 400);
        ensure!(cinder.status(23, "DELETE", &format!("{path}?force=true"), &Value::Null)? == 403);
        ensure!(cinder.status(22, "DELETE", &format!("{path}?force=true"), &Value::Null)? == 400);
        ensure!(cinder.status(0, "DELETE", &format!("{path}?cascade=true"), &Value::Null)? == 202);
        cinder.wait_gone("volume", &volume)?;
        ensure!(cinder.get(&format!("snapshots?volume_id={volume}"))?["snapshots"] == json!([]));
        Ok(())
    });
    checks.item("V158", || {
        let volume = cinder.make("volume", &json!({"size": 1, "metadata": {"a": "1"}}))?;
        let path = format!("volumes/{volume}/metadata");
        let tag = cinder.at("alice", 15, "GET", &path, &Value::Null)?;
        let tag = tag.header("etag").context("no tag")?.to_owned();
        let (token, project) = cinder.tokens.get("alice").context("alice")?;
        let put = |value: &str| {
            let headers = [
                ("X-Auth-Token", token.as_str()),
                ("OpenStack-API-Version", "volume 3.15"),
                ("Content-Type", "application/json"),
                ("If-Match", tag.as_str()),
            ];
            let body = json!({"metadata": {"a": value}}).to_string();
            cinder.api.send(
                "PUT",
                &format!("/volume/v3/{project}/{path}"),
                &headers,
                Some(body.as_bytes()),
            )
        };
        put("2")?.expect(&[200])?;
        ensure!(put("3")?.expect(&[412])?.body.is_empty());
        Ok(())
    });
}

fn volume_actions(cinder: &Cinder, checks: &mut Checks) {
    let volume = cinder.make("volume", &json!({"size": 1})).unwrap();
    let act = |minor: u16, action: Value| cinder.act("alice", minor, "volume", &volume, &action);
    let status = || -> Result<Value> { Ok(cinder.get(&format!("volumes/{volume}"))?["volume"]["status"].take()) };
    checks.item("V151", || {
        let extend = |minor: u16, size: i32| act(minor, json!({"os-extend": {"new_size": size}}));
        ensure!(extend(0, 1)? == 400 && extend(0, 0)? == 400);
        ensure!(extend(0, 2)? == 202);
        cinder.wait("volume", &volume, "available")?;
        ensure!(cinder.get(&format!("volumes/{volume}"))?["volume"]["size"] == 2);
        Ok(())
    });
    checks.item("V152 V153 V154", || {
        ensure!(act(0, json!({"os-reserve": null}))? == 202 && status()? == "attaching");
        ensure!(act(0, json!({"os-reserve": {}}))? == 400);
        ensure!(act(0, json!({"os-unreserve": null}))? == 202 && status()? == "available");
        ensure!(act(0, json!({"os-unreserve": null}))? == 202);
        ensure!(act(0, json!({"os-begin_detaching": null}))? == 400);
        ensure!(act(0, json!({"os-attach": {"mountpoint": "/dev/vdb"}}))? == 400);
        ensure!(
            act(
                0,
                json!({"os-attach": {"mountpoint": "/dev/vdb", "host_name": "elsewhere"}})
            )? == 202
        );
        let shown = cinder.get(&format!("volumes/{volume}"))?;
        let shown = &shown["volume"];
        ensure!(
            shown["status"] == "in-use" && shown["metadata"]["readonly"] == "False",
            "{shown}"
        );
        let attached = &shown["attachments"][0];
        ensure!(
            attached["server_id"].is_null() && attached["host_name"].is_null(),
            "{shown}"
        );
        ensure!(
            attached["device"] == "/dev/vdb" && attached["id"] == json!(volume),
            "{shown}"
        );
        ensure!(cinder.status(0, "DELETE", &format!("volumes/{volume}"), &Value::Null)? == 400);
        ensure!(act(0, json!({"os-begin_detaching": null}))? == 202 && status()? == "detaching");
        ensure!(act(0, json!({"os-roll_detaching": null}))? == 202 && status()? == "in-use");
        ensure!(act(0, json!({"os-detach": {"attachment_id": null}}))? == 202 && status()? == "available");
        Ok(())
    });
    checks.item("V155 V156", || {
        ensure!(act(0, json!({"os-set_bootable": {"bootable": true}}))? == 200);
        ensure!(cinder.get(&format!("volumes/{volume}"))?["volume"]["bootable"] == "true");
        for bad in ["in-use", "deleting", "bogus", "reverting"] {
            let action = json!({"os-reset_status": {"status": bad}});
            ensure!(cinder.act("admin", 0, "volume", &volume, &action)? == 400, "{bad}");
        }
        ensure!(act(0, json!({"os-reset_status": {"status": "error"}}))? == 403);
        ensure!(act(0, json!({"os-bogus": {}}))? == 400 && act(0, json!({}))? == 400);
        Ok(())
    });
}

fn installation(cinder: &Cinder, checks: &mut Checks) {
    checks.item("V170", || {
        let used = || -> Result<(Value, Value)> {
            let limits = cinder.get("limits")?["limits"]["absolute"].take();
            let quota = cinder.get(&format!("os-quota-sets/{DEMO}?usage=true"))?["quota_set"].take();
            ensure!(
                limits["totalVolumesUsed"] == quota["volumes"]["in_use"],
                "{limits} {quota}"
            );
            ensure!(
                limits["totalGigabytesUsed"] == quota["gigabytes"]["in_use"],
                "{limits} {quota}"
            );
            ensure!(
                limits["totalSnapshotsUsed"] == quota["snapshots"]["in_use"],
                "{limits} {quota}"
            );
            Ok((limits["totalVolumesUsed"].clone(), limits["totalGigabytesUsed"].clone()))
        };
        let before = used()?;
        let volume = cinder.make("volume", &json!({"size": 3}))?;
        let more = |value: &Value, by: u64| value.as_u64().map(|value| value + by);
        let after = used()?;
        ensure!(
            after.0.as_u64() == more(&before.0, 1) && after.1.as_u64() == more(&before.1, 3),
            "{before:?} {after:?}"
        );
        ensure!(cinder.status(0, "DELETE", &format!("volumes/{volume}"), &Value::Null)? == 202);
        cinder.wait_gone("volume", &volume)?;
        ensure!(used()? == before);
        ensure!(cinder.status(0, "GET", &format!("os-quota-sets/{OTHER}"), &Value::Null)? == 403);
        Ok(())
    });
    checks.item("V171", || {
        ensure!(cinder.status(0, "GET", "types/default", &Value::Null)? == 200);
        ensure!(cinder.status(0, "GET", &format!("types/{NOBODY}"), &Value::Null)? == 404);
        let body = json!({"volume_type": {"name": "gold"}});
        ensure!(cinder.status(0, "POST", "types", &body)? == 403);
        for status in [200, 409] {
            cinder.at("admin", 0, "POST", "types", &body)?.expect(&[status])?;
        }
        Ok(())
    });
    checks.item("V172", || {
        let body = json!({"volume_type": {"name": "elsewhere", "extra_specs": {"vendor_name": "another"}}});
        cinder.at("admin", 0, "POST", "types", &body)?.expect(&[200])?;
        let body = json!({"volume": {"size": 1, "volume_type": "elsewhere"}});
        let made = cinder
            .at("alice", 0, "POST", "volumes", &body)?
            .expect(&[202])?
            .json()?;
        let id = made["volume"]["id"].as_str().context("id")?.to_owned();
        cinder.wait("volume", &id, "error")?;
        let messages = cinder
            .at("alice", 3, "GET", "messages", &Value::Null)?
            .expect(&[200])?
            .json()?;
        let found = messages["messages"]
            .as_array()
            .and_then(|all| all.iter().find(|message| message["resource_uuid"] == json!(id)))
            .with_context(|| format!("no message of {id}: {messages}"))?;
        ensure!(
            found["user_message"].as_str().is_some_and(|text| !text.is_empty()),
            "{found}"
        );
        ensure!(cinder.status(2, "GET", "messages", &Value::Null)? == 404);
        Ok(())
    });
    checks.item("administrators' pages", || {
        for path in ["os-services", "os-hosts", "scheduler-stats/get_pools?detail=true"] {
            ensure!(cinder.status(0, "GET", path, &Value::Null)? == 403, "{path}");
            cinder.at("admin", 0, "GET", path, &Value::Null)?.expect(&[200])?;
        }
        let services = cinder.at("admin", 0, "GET", "os-services", &Value::Null)?.json()?;
        ensure!(!services.to_string().contains("cinder-backup"), "{services}");
        ensure!(cinder.get("backups/detail")? == json!({"backups": []}));
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
