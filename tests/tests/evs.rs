//! Huawei's EVS at the root: its own unmodified client with an access key and with a token, the vendor's published example
//! word by word, and what is refused there that Cinder's paths allow.
//!
//! The client's checks are in `tests/clients/evs_sdk.py`. Items (`E124`) are those of the volume API's contract.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use stillpoint_system_tests::{
    Checks, Scene, sdk,
    volume::{ask_token, token_of},
};
use stillpoint_testkit::{Answer, Api, Daemon, Password, eventually};

/// The client signs by the second: the same call twice in one is the same request.
const AGAIN: &str = "a signed request came again";
const LONG: Duration = Duration::from_secs(60);
const DEMO: &str = "d0000000000000000000000000000001";
const ACCESS: &str = "EVSTESTKEY";
const SECRET: &str = "evs-test-secret-of-forty-characters-0000";
/// What a member of a VM's backup has in its metadata, and nobody may remove.
const ENABLE_ACTIVE: &str = "__system__enableActive";
const MIB: usize = 1 << 20;

/// The users of every test, and a key of the member's.
fn bootstrap() -> Result<String> {
    let mut text = String::new();
    for (name, id) in [("demo", DEMO), ("other", "d0000000000000000000000000000002")] {
        text += &format!("[[project]]\nname = \"{name}\"\nid = \"{id}\"\n");
    }
    for (name, role) in [("admin", ""), ("alice", "member"), ("bob", "reader")] {
        let password = Password::of(name)?.0;
        text += &format!("[[user]]\nname = \"{name}\"\npassword = \"{password}\"\n");
        text += &match role {
            "" => "admin = true\n".to_owned(),
            role => format!("[[user.role]]\nproject = \"demo\"\nrole = \"{role}\"\n"),
        };
        if name == "alice" {
            text += &format!("[[user.access_key]]\naccess = \"{ACCESS}\"\nsecret = \"{SECRET}\"\n");
        }
    }
    Ok(text)
}

/// As an account without rights, so that a folder can be closed to it.
fn daemon() -> Result<Daemon> {
    Daemon::builder().bootstrap(&bootstrap()?).unprivileged().start()
}

/// A token of the project, from where IAM's clients ask for it.
fn token(daemon: &Daemon, user: &str) -> Result<String> {
    let (api, scope) = (Api::anonymous(daemon.url()), json!({"project": {"name": "demo"}}));
    token_of(ask_token(&api, "/v3/auth/tokens", user, &scope)?)
}

/// A raw caller with a token.
struct Raw {
    api: Api,
    token: String,
}

impl Raw {
    fn of(daemon: &Daemon, user: &str) -> Result<Self> {
        Ok(Self {
            api: Api::anonymous(daemon.url()),
            token: token(daemon, user)?,
        })
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let mut headers = vec![("X-Auth-Token", self.token.as_str())];
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        let body = Some(body.as_bytes()).filter(|body| !body.is_empty());
        let answer = self.api.send(method, path, &headers, body)?;
        let is_evs = !path.starts_with("/volume");
        ensure!(
            !is_evs || answer.header("x-request-id").is_some_and(|id| id.starts_with("req-")),
            "E139: {method} {path}"
        );
        Ok(answer)
    }

    fn ask(&self, method: &str, path: &str, body: &Value, status: u16) -> Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.send(method, path, &body)?.expect(&[status])?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        answer.json()
    }

    /// The status and the code of a refusal.
    fn refused(&self, method: &str, path: &str, body: &Value) -> Result<String> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.send(method, path, &body)?;
        let code = answer.json()?["error"]["code"].as_str().unwrap_or("?").to_owned();
        Ok(format!("{} {code}", answer.status))
    }

    fn volume(&self, name: &str) -> Result<String> {
        let body = json!({"volume": {"size": 1, "name": name, "volume_type": "SSD", "availability_zone": "nova"}});
        let made = self.ask("POST", &format!("/v2.1/{DEMO}/cloudvolumes"), &body, 202)?;
        let volume = made["volume_ids"][0].as_str().context("no volume")?.to_owned();
        self.wait_volume(&volume, "available", &["creating"])?;
        Ok(volume)
    }

    /// Waits for a status of a volume; those on the way to it are named.
    fn wait_volume(&self, volume: &str, wanted: &str, between: &[&str]) -> Result<()> {
        self.wait(&format!("/v2/{DEMO}/cloudvolumes/{volume}"), "volume", wanted, between)
    }

    fn wait_snapshot(&self, snapshot: &str, wanted: &str, between: &[&str]) -> Result<()> {
        self.wait(
            &format!("/v2/{DEMO}/cloudsnapshots/{snapshot}"),
            "snapshot",
            wanted,
            between,
        )
    }

    fn wait(&self, path: &str, noun: &str, wanted: &str, between: &[&str]) -> Result<()> {
        eventually(LONG, wanted, || {
            let shown = self.ask("GET", path, &Value::Null, 200)?;
            let status = shown[noun]["status"].as_str().context("no status")?;
            ensure!(
                status == wanted || between.contains(&status),
                "{status} on the way to {wanted}"
            );
            Ok((status == wanted).then_some(()))
        })
    }

    /// Takes a snapshot and waits until it is there.
    fn snapshot(&self, volume: &str, more: &Value) -> Result<String> {
        let made = self.ask("POST", &snapshots(), &asking(volume, more), 202)?;
        let id = made["snapshot"]["id"].as_str().context("no id")?.to_owned();
        self.wait_snapshot(&id, "available", &["creating"])?;
        Ok(id)
    }

    fn roll_back(&self, path: &str, volume: &str, snapshot: &str) -> Result<()> {
        let body = json!({"rollback": {"volume_id": volume}});
        let begun = self.ask("POST", &format!("/{path}/{snapshot}/rollback"), &body, 202)?;
        ensure!(begun == body, "{begun}");
        self.wait_volume(volume, "available", &["rollbacking"])?;
        self.wait_snapshot(snapshot, "available", &["rollbacking"])
    }
}

fn snapshots() -> String {
    format!("/v3/{DEMO}/snapshots")
}

/// The same noun at Cinder's path.
fn cinder() -> String {
    format!("/volume/v3/{DEMO}/snapshots")
}

fn asking(volume: &str, more: &Value) -> Value {
    let mut snapshot = json!({"volume_id": volume});
    if let (Some(object), Some(more)) = (snapshot.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
    json!({"snapshot": snapshot})
}

/// A transfer of a disk through the other dialect, which is how its bytes are reached.
fn transfer(api: &Api, disk: &str, direction: &str) -> Result<(String, String)> {
    let body = format!(
        "<image_transfer><disk id=\"{disk}\"/><direction>{direction}</direction><format>raw</format></image_transfer>"
    );
    let made = api.post("imagetransfers", &body)?.expect(&[201])?.xml()?;
    let path = format!("imagetransfers/{}", made.id()?);
    api.wait_status(&path, "phase", "transferring", LONG)?;
    let shown = api.get(&path)?.expect(&[200])?.xml()?;
    let url = shown.text_at("transfer_url").context("no transfer_url")?;
    let ticket = url.rsplit('/').next().unwrap_or_default();
    Ok((path, format!("/images/{ticket}")))
}

fn end(api: &Api, path: &str) -> Result<()> {
    api.post(&format!("{path}/finalize"), "<action/>")?.expect(&[200])?;
    api.wait_status(path, "phase", "finished_success", LONG)
}

/// Fills the first MiB of a volume with one byte.
fn write(api: &Api, volume: &str, byte: u8) -> Result<()> {
    let (path, image) = transfer(api, volume, "upload")?;
    let range = format!("bytes 0-{}/*", MIB - 1);
    let headers = [("Content-Range", range.as_str())];
    api.send("PUT", &image, &headers, Some(&vec![byte; MIB]))?
        .expect(&[200])?;
    end(api, &path)
}

/// The byte that the first MiB of a volume is filled with.
fn read(api: &Api, volume: &str) -> Result<u8> {
    let (path, image) = transfer(api, volume, "download")?;
    let range = format!("bytes=0-{}", MIB - 1);
    let answer = api
        .send("GET", &image, &[("Range", range.as_str())], None)?
        .expect(&[200, 206])?;
    end(api, &path)?;
    let first = *answer.body.first().context("no bytes")?;
    ensure!(
        answer.body.len() == MIB && answer.body.iter().all(|byte| *byte == first),
        "mixed bytes"
    );
    Ok(first)
}

#[test]
fn huaweis_own_client_works_with_a_key_and_with_a_token() {
    let daemon = daemon().unwrap();
    let mut command = sdk::script(&daemon, "evs_sdk.py").unwrap();
    command.env("EVS_AK", ACCESS).env("EVS_SK", SECRET);
    command.env("EVS_PROJECT", DEMO).env("EVS_REGION", "demo");
    command.env("EVS_TOKEN", token(&daemon, "alice").unwrap());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "the client's checks:\n{said}");
    // What the script holds: the line is printed when the check is through.
    let mut checks = Checks::default();
    for items in [
        "E34 E36", "E35", "E37", "E38", "E39", "E40", "E119", "E121", "E124", "E125", "E126", "E127", "E140",
    ] {
        checks.item(items, || {
            ensure!(
                said.lines().any(|line| line == format!("ok {items}")),
                "not said:\n{said}"
            );
            Ok(())
        });
    }
    checks.finish();
    daemon.scan_log(&[AGAIN]).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn the_vendors_example_is_served_word_by_word_and_what_it_forbids_is_refused() {
    let daemon = daemon().unwrap();
    let alice = Raw::of(&daemon, "alice").unwrap();
    let volume = alice.volume("disk").unwrap();
    let mut checks = Checks::default();
    checks.item("E132", || {
        // The published example, but for the ids that are the installation's.
        let example = format!(
            "{{ \"snapshot\" : {{ \"name\" : \"snap-001\", \"description\" : \"Daily backup\", \"volume_id\" : \"{volume}\", \
             \"force\" : false, \"metadata\" : {{ }} }} }}"
        );
        let made = alice.send("POST", &snapshots(), &example)?.expect(&[202])?.json()?;
        let made = made["snapshot"].as_object().context("no snapshot")?;
        let mut keys: Vec<_> = made.keys().map(String::as_str).collect();
        keys.sort_unstable();
        let documented = [
            "created_at", "description", "id", "metadata", "name", "size", "status", "updated_at", "volume_id",
        ];
        ensure!(keys == documented, "{keys:?}");
        let wanted = json!({
            "status": "creating", "description": "Daily backup", "metadata": {}, "volume_id": volume, "size": 1,
            "name": "snap-001",
        });
        for (key, value) in wanted.as_object().context("no object")? {
            ensure!(made[key] == *value, "{key}: {}", made[key]);
        }
        ensure!(made["created_at"] == made["updated_at"], "{made:?}");
        let at = made["created_at"].as_str().context("no text")?;
        ensure!(at.len() == "2013-02-25T03:56:53.081642".len() && at.as_bytes()[19] == b'.', "{at}");
        alice.wait_snapshot(made["id"].as_str().context("no id")?, "available", &["creating"])
    });
    checks.item("E128", || {
        let anonymous = Api::anonymous(daemon.url());
        let answer = anonymous.send("GET", &format!("/v2/{DEMO}/cloudsnapshots/detail"), &[], None)?;
        ensure!(
            answer.status == 401 && answer.json()?["error"]["code"] == "EVS.5401",
            "{}",
            answer.text()
        );
        ensure!(answer.header("x-request-id").is_some(), "E139");
        let bob = Raw::of(&daemon, "bob")?;
        ensure!(bob.refused("POST", &snapshots(), &asking(&volume, &json!({})))? == "403 EVS.5403");
        bob.ask("GET", &snapshots(), &Value::Null, 200)?;
        let other = "/v3/d0000000000000000000000000000002/snapshots";
        ensure!(alice.refused("GET", other, &Value::Null)? == "400 EVS.0001");
        for path in ["snapshots", "snapshot-chains", "snapshots/x/tags"] {
            let code = alice.refused("GET", &format!("/v5/{DEMO}/{path}"), &Value::Null)?;
            ensure!(code == "404 EVS.5404", "{path}: {code}");
        }
        Ok(())
    });
    let before = alice.ask("GET", &snapshots(), &Value::Null, 200).unwrap();
    checks.item("E129", || {
        for (more, wanted) in [
            (json!({"name": "a".repeat(65)}), "400 EVS.1003"),
            (json!({"description": "\u{e9}".repeat(86)}), "400 EVS.1004"),
            (json!({"name": 1}), "400 EVS.1018"),
            (json!({"force": null}), "400 EVS.1018"),
            (json!({"metadata": {"a": 1}}), "400 EVS.1018"),
            (json!({"metadata": {"__system__enableActive": "true"}}), "403 EVS.5403"),
            (json!({"volume_id": "zzz"}), "400 EVS.1002"),
            (json!({"volume_id": null}), "400 EVS.1002"),
            (json!({"volume_id": DEMO}), "404 EVS.5404"),
            (json!({"size": 1}), "400 EVS.2108"),
        ] {
            let code = alice.refused("POST", &snapshots(), &asking(&volume, &more))?;
            ensure!(code == wanted, "{more}: {code}");
        }
        for body in [json!({}), json!({"snapshot": null}), json!([])] {
            let code = alice.refused("POST", &snapshots(), &body)?;
            ensure!(code.starts_with("400 EVS.10"), "{body}: {code}");
        }
        let after = alice.ask("GET", &snapshots(), &Value::Null, 200)?;
        ensure!(before == after, "a refused request left something");
        let long = json!({"name": "\u{e7}".repeat(64), "description": format!(" {} ", "\u{1f4be}".repeat(85))});
        alice.snapshot(&volume, &long)?;
        Ok(())
    });
    checks.item("E130", || {
        for (key, value) in [("name", "a".repeat(65)), ("description", "d".repeat(86))] {
            let made = alice.ask("POST", &cinder(), &asking(&volume, &json!({key: value})), 202)?;
            alice.wait_snapshot(
                made["snapshot"]["id"].as_str().context("no id")?,
                "available",
                &["creating"],
            )?;
        }
        Ok(())
    });
    checks.item("E131", || {
        let name = "n".repeat(200);
        let body = json!({"snapshot": {"volume_id": volume, "name": name}});
        let made = alice.ask("POST", &cinder(), &body, 202)?;
        let id = made["snapshot"]["id"].as_str().context("no id")?;
        let shown = alice.ask("GET", &format!("/v2/{DEMO}/cloudsnapshots/{id}"), &Value::Null, 200)?;
        ensure!(shown["snapshot"]["name"] == name, "{shown}");
        alice.wait_snapshot(id, "available", &["creating"])
    });
    checks.item("E135", || {
        let id = alice.snapshot(&volume, &json!({"name": "autobk_snapshot_x", "metadata": {"a": "b"}}))?;
        let metadata = format!("{}/{id}/metadata", snapshots());
        let merged = alice.ask("POST", &metadata, &json!({"metadata": {"c": "d"}}), 200)?;
        ensure!(merged == json!({"metadata": {"a": "b", "c": "d"}}), "{merged}");
        let set = alice.ask("PUT", &format!("{metadata}/a"), &json!({"meta": {"a": "z"}}), 200)?;
        ensure!(set == json!({"meta": {"a": "z"}}), "{set}");
        alice.ask("DELETE", &format!("{metadata}/c"), &Value::Null, 200)?;
        let own = json!({"metadata": {"__system__x": "1"}});
        ensure!(alice.refused("POST", &metadata, &own)? == "403 EVS.5403");
        let all = alice.ask("GET", &metadata, &Value::Null, 200)?;
        ensure!(all == json!({"metadata": {"a": "z"}}), "{all}");
        alice.ask("DELETE", &format!("{}/{id}", snapshots()), &Value::Null, 202)?;
        Ok(())
    });
    checks.item("E69", || {
        let admin = Raw::of(&daemon, "admin")?;
        let quota = format!("/volume/v3/{DEMO}/os-quota-sets/{DEMO}");
        admin.ask(
            "PUT",
            &quota,
            &json!({"quota_set": {"volumes": 3, "snapshots": 0}}),
            200,
        )?;
        ensure!(alice.refused("POST", &snapshots(), &asking(&volume, &json!({})))? == "413 EVS.5413");
        let three = json!({"volume": {"size": 1, "name": "batch", "count": 3}});
        let code = alice.refused("POST", &format!("/v2.1/{DEMO}/cloudvolumes"), &three)?;
        ensure!(code.starts_with("413 "), "{code}");
        let listed = alice.ask("GET", &format!("/v2/{DEMO}/cloudvolumes/detail"), &Value::Null, 200)?;
        ensure!(listed["count"] == 1, "all or none: {listed}");
        admin.ask("DELETE", &quota, &Value::Null, 200)?;
        Ok(())
    });
    checks.item("E66", || {
        let action = format!("/volume/v3/{DEMO}/volumes/{volume}/action");
        alice.ask("POST", &action, &json!({"os-reserve": null}), 202)?;
        ensure!(alice.refused("POST", &snapshots(), &asking(&volume, &json!({})))? == "400 EVS.5400");
        let made = alice.ask("POST", &snapshots(), &asking(&volume, &json!({"force": true})), 202)?;
        alice.wait_snapshot(
            made["snapshot"]["id"].as_str().context("no id")?,
            "available",
            &["creating"],
        )?;
        alice.ask("POST", &action, &json!({"os-unreserve": null}), 202)?;
        Ok(())
    });
    checks.finish();
    daemon.scan_log(&[]).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "one volume, and all that it goes back to")]
fn a_volume_goes_back_to_any_snapshot_and_newer_ones_stay_usable() {
    let daemon = daemon().unwrap();
    let (alice, admin) = (Raw::of(&daemon, "alice").unwrap(), daemon.api("admin").unwrap());
    let volume = alice.volume("disk").unwrap();
    let mut taken = Vec::new();
    for byte in [1, 2, 3] {
        write(&admin, &volume, byte).unwrap();
        taken.push(alice.snapshot(&volume, &json!({"name": format!("s{byte}")})).unwrap());
    }
    write(&admin, &volume, 4).unwrap();
    let mut checks = Checks::default();
    checks.item("E120", || {
        alice.roll_back(&format!("v2/{DEMO}/cloudsnapshots"), &volume, &taken[1])?;
        ensure!(read(&admin, &volume)? == 2, "the middle one");
        alice.roll_back(&format!("v3/{DEMO}/snapshots"), &volume, &taken[2])?;
        ensure!(read(&admin, &volume)? == 3, "a newer one");
        Ok(())
    });
    checks.item("E123", || {
        for (version, snapshot, byte) in [("v2", 0, 1), ("v3", 1, 2)] {
            let path = format!("{version}/{DEMO}/os-vendor-snapshots");
            alice.roll_back(&path, &volume, &taken[snapshot])?;
            ensure!(read(&admin, &volume)? == byte, "{version}");
        }
        alice.roll_back(&format!("v5/{DEMO}/snapshots"), &volume, &taken[2])?;
        ensure!(read(&admin, &volume)? == 3, "v5");
        Ok(())
    });
    checks.item("E122", || {
        let close = |mode| fs::set_permissions(daemon.images_dir(), Permissions::from_mode(mode));
        close(0o500)?;
        let body = json!({"rollback": {"volume_id": volume}});
        let path = format!("/v2/{DEMO}/cloudsnapshots/{}", taken[0]);
        let begun = alice.ask("POST", &format!("{path}/rollback"), &body, 202);
        let failed = alice.wait_volume(&volume, "error_rollbacking", &["rollbacking"]);
        close(0o700)?;
        begun?;
        failed?;
        alice.wait_snapshot(&taken[0], "available", &[])?;
        let list = format!("/v2/{DEMO}/cloudvolumes/detail?status=error_rollbacking");
        ensure!(
            alice.ask("GET", &list, &Value::Null, 200)?["count"] == 1,
            "found by its status"
        );
        let cinder = alice.ask("GET", &format!("/volume/v3/{DEMO}/volumes/{volume}"), &Value::Null, 200)?;
        ensure!(cinder["volume"]["status"] == "error", "{cinder}");
        alice.roll_back(&format!("v2/{DEMO}/cloudsnapshots"), &volume, &taken[0])?;
        ensure!(read(&admin, &volume)? == 1, "after a failure");
        Ok(())
    });
    let vm = Scene::vm(&admin, "vm").unwrap();
    admin.attach(&vm, &volume, "virtio", false).unwrap();
    checks.item("E122", || {
        alice.wait_volume(&volume, "in-use", &[])?;
        let body = json!({"rollback": {"volume_id": volume}});
        let path = format!("/v2/{DEMO}/cloudsnapshots/{}/rollback", taken[0]);
        ensure!(alice.refused("POST", &path, &body)? == "400 EVS.5400");
        Ok(())
    });
    checks.item("E67", || {
        let made = alice.ask(
            "POST",
            &format!("/v2/{DEMO}/cloudsnapshots"),
            &asking(&volume, &json!({})),
            202,
        )?;
        alice.wait_snapshot(
            made["snapshot"]["id"].as_str().context("no id")?,
            "available",
            &["creating"],
        )
    });
    checks.finish();
    daemon.scan_log(&[]).unwrap();
}

/// The snapshot that a backup works from: one of its volume that bears the backup's name.
fn of_backup(who: &Raw, volume: &str, stem: &str, backup: &str) -> Result<Value> {
    let path = format!("/v2/{DEMO}/cloudsnapshots/detail?volume_id={volume}");
    let listed = who.ask("GET", &path, &Value::Null, 200)?;
    let all = listed["snapshots"].as_array().context("no list")?;
    let name = format!("{stem}{backup}");
    let found = all.iter().find(|snapshot| snapshot["name"] == name.as_str());
    found.cloned().with_context(|| format!("no {name} in {listed}"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one backup, and all who ask for its snapshots")]
fn a_snapshot_that_a_backup_works_from_is_seen_and_left_alone() {
    let daemon = daemon().unwrap();
    let (alice, admin) = (Raw::of(&daemon, "alice").unwrap(), daemon.api("admin").unwrap());
    let vm = Scene::vm(&admin, "vm").unwrap();
    let first = Scene::attached_disk(&admin, &vm, "first").unwrap();
    let second = Scene::attached_disk(&admin, &vm, "second").unwrap();
    // A stopped VM is backed up as it lies; a running one from a snapshot.
    admin.start(&vm).unwrap();
    let (backup, _) = Scene::ready_backup(&admin, &vm, &first).unwrap();
    let mut checks = Checks::default();
    checks.item("E133 E134", || {
        let shown = of_backup(&alice, &first, "autobk_snapshot_vbs_", &backup)?;
        ensure!(
            shown["status"] == "backing-up" && shown["metadata"][ENABLE_ACTIVE].is_null(),
            "{shown}"
        );
        let id = shown["id"].as_str().context("no id")?;
        let path = format!("/v2/{DEMO}/cloudsnapshots/{id}");
        let roll_back = json!({"rollback": {"volume_id": first}});
        for (method, path, body) in [
            ("DELETE", path.clone(), Value::Null),
            ("PUT", path.clone(), json!({"snapshot": {"name": "mine"}})),
            ("POST", format!("{path}/rollback"), roll_back),
            ("POST", format!("{path}/metadata"), json!({"metadata": {"a": "b"}})),
            (
                "POST",
                format!("/v2.1/{DEMO}/cloudvolumes"),
                json!({"volume": {"snapshot_id": id}}),
            ),
        ] {
            let code = alice.refused(method, &path, &body)?;
            ensure!(code == "403 EVS.5403", "{method} {path}: {code}");
        }
        Ok(())
    });
    admin
        .post(&format!("vms/{vm}/backups/{backup}/finalize"), "<action/>")
        .unwrap()
        .expect(&[200])
        .unwrap();
    admin
        .wait_status(&format!("vms/{vm}/backups/{backup}"), "phase", "succeeded", LONG)
        .unwrap();
    let body = format!("<backup><disks><disk id=\"{first}\"/><disk id=\"{second}\"/></disks></backup>");
    let made = admin
        .post(&format!("vms/{vm}/backups"), &body)
        .unwrap()
        .expect(&[201])
        .unwrap();
    let backup = made.xml().unwrap().id().unwrap().to_owned();
    admin
        .wait_status(&format!("vms/{vm}/backups/{backup}"), "phase", "ready", LONG)
        .unwrap();
    checks.item("E138", || {
        let path = format!("/v2/{DEMO}/os-quota-sets/{DEMO}?usage=True");
        let quota = alice.ask("GET", &path, &Value::Null, 200)?;
        ensure!(quota["quota_set"]["snapshots"]["in_use"] == 0, "{quota}");
        let headers = [
            ("X-Auth-Token", alice.token.as_str()),
            ("OpenStack-API-Version", "volume 3.65"),
        ];
        let listed = alice
            .api
            .send("GET", &format!("{}/detail", cinder()), &headers, None)?
            .expect(&[200])?
            .json()?;
        let all = listed["snapshots"].as_array().context("no list")?;
        ensure!(
            all.len() == 2 && all.iter().all(|snapshot| snapshot["consumes_quota"] == false),
            "{listed}"
        );
        Ok(())
    });
    checks.item("E136 E137", || {
        for volume in [&first, &second] {
            let shown = of_backup(&alice, volume, "autobk_snapshot_csbs_", &backup)?;
            ensure!(shown["metadata"][ENABLE_ACTIVE] == "true", "{shown}");
            let id = shown["id"].as_str().context("no id")?;
            let key = format!("{}/{id}/metadata/{ENABLE_ACTIVE}", snapshots());
            ensure!(alice.refused("DELETE", &key, &Value::Null)? == "403 EVS.5403");
        }
        Ok(())
    });
    admin
        .post(&format!("vms/{vm}/backups/{backup}/finalize"), "<action/>")
        .unwrap()
        .expect(&[200])
        .unwrap();
    checks.finish();
    daemon.scan_log(&[]).unwrap();
}
