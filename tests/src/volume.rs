//! A client of the volume APIs, as one user in one project: plain HTTP, so that a test sees what is on the wire.

use crate::tool;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use stillpoint_testkit::{Answer, Api, Daemon, Password, eventually};

const SOON: Duration = Duration::from_secs(60);

/// The client.
#[derive(Debug)]
pub struct Volumes {
    /// What sends.
    pub api: Api,
    /// The token.
    pub token: String,
    /// The project's id, 32 hexadecimal digits.
    pub project: String,
    /// The version that is asked for, as in `3.71`; `None`: none, which means 3.0.
    pub version: Option<&'static str>,
}

/// Asks for a token of a user of the test bootstrap, at one of the paths of the identity service; `scope` is what the body's
/// `scope` is to be.
///
/// # Errors
/// When there is no answer, or no such user.
pub fn ask_token(api: &Api, path: &str, user: &str, scope: &Value) -> Result<Answer> {
    let password = Password::of(user)?.0;
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": user, "password": password, "domain": {"id": "default"},
        }}},
        "scope": scope,
    }});
    let headers = [("Content-Type", "application/json")];
    api.send("POST", path, &headers, Some(body.to_string().as_bytes()))
}

/// The token in such an answer.
///
/// # Errors
/// When it is a refusal.
pub fn token_of(answer: Answer) -> Result<String> {
    let answer = answer.expect(&[201])?;
    Ok(answer
        .header("x-subject-token")
        .context("no X-Subject-Token")?
        .to_owned())
}

impl Volumes {
    /// Logs in.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn login(daemon: &Daemon, user: &str, project: &str) -> Result<Self> {
        let api = Api::anonymous(daemon.url());
        let scope = json!({"project": {"name": project, "domain": {"id": "default"}}});
        let answer = ask_token(&api, "/identity/v3/auth/tokens", user, &scope)?;
        let (body, token) = (answer.json()?, token_of(answer)?);
        let project = body["token"]["project"]["id"]
            .as_str()
            .context("no project")?
            .to_owned();
        Ok(Self {
            api,
            token,
            project,
            version: Some("3.71"),
        })
    }

    /// Sends with the token; `path` is a whole one.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let version = self.version.map(|version| format!("volume {version}"));
        let mut headers = vec![("X-Auth-Token", self.token.as_str())];
        headers.extend(
            version
                .iter()
                .map(|version| ("OpenStack-API-Version", version.as_str())),
        );
        let text = body.map(ToString::to_string);
        if text.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        self.api
            .send(method, path, &headers, text.as_deref().map(str::as_bytes))
    }

    /// Sends to the Cinder dialect; `path` is below the project.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.send(method, &format!("/volume/v3/{}/{path}", self.project), body)
    }

    /// What a path below the project shows.
    ///
    /// # Errors
    /// When it is not 200, or no JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, None)?.expect(&[200])?.json()
    }

    /// Makes a thing of that kind (`volume`, `snapshot`) and waits until it is `available`; its id.
    ///
    /// # Errors
    /// When it is refused, or does not become so.
    pub fn create(&self, kind: &str, fields: &Value) -> Result<String> {
        let made = self
            .ask("POST", &format!("{kind}s"), Some(&json!({ kind: fields })))?
            .expect(&[202])?
            .json()?;
        let id = made[kind]["id"].as_str().context("no id")?.to_owned();
        self.wait(kind, &id, "available")?;
        Ok(id)
    }

    /// Waits for a status; `error` ends the waiting.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait(&self, kind: &str, id: &str, status: &str) -> Result<()> {
        eventually(SOON, &format!("{kind} {id} to be {status}"), || {
            let shown = self.get(&format!("{kind}s/{id}"))?;
            let now = shown[kind]["status"].as_str().context("no status")?;
            ensure!(now == status || !now.starts_with("error"), "{kind} {id} is {now}");
            Ok((now == status).then_some(()))
        })
    }

    /// Waits until it is not there any more.
    ///
    /// # Errors
    /// When it stays.
    pub fn gone(&self, kind: &str, id: &str) -> Result<()> {
        eventually(SOON, &format!("{kind} {id} to be gone"), || {
            Ok((self.ask("GET", &format!("{kind}s/{id}"), None)?.status == 404).then_some(()))
        })
    }

    /// The ids in a list.
    ///
    /// # Errors
    /// When it is no list.
    pub fn ids(&self, path: &str, kind: &str) -> Result<Vec<String>> {
        let shown = self.get(path)?;
        let items = shown[format!("{kind}s")].as_array().context("no list")?;
        items
            .iter()
            .map(|item| Ok(item["id"].as_str().context("no id")?.to_owned()))
            .collect()
    }

    /// Does something to a volume or snapshot.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn act(&self, kind: &str, id: &str, action: &Value) -> Result<Answer> {
        self.ask("POST", &format!("{kind}s/{id}/action"), Some(action))
    }
}

/// The file of a disk's active image: its path, as oVirt's dialect tells it.
///
/// # Errors
/// When there is no such disk.
pub fn image_of(daemon: &Daemon, admin: &Api, disk: &str) -> Result<PathBuf> {
    let shown = admin.get(&format!("disks/{disk}"))?.expect(&[200])?.xml()?;
    let image = shown.text_at("image_id").context("image_id")?;
    Ok(daemon.images_dir().join(format!("{image}.qcow2")))
}

/// Writes a byte 65,536 times to a disk that nobody has open, at so many MiB.
///
/// # Errors
/// When the tool is refused.
pub fn write(daemon: &Daemon, admin: &Api, disk: &str, mib: u32, byte: u8) -> Result<()> {
    let path = image_of(daemon, admin, disk)?;
    let command = format!("write -P {byte} {mib}M 64k");
    tool(
        "qemu-io",
        &["-f", "qcow2", "-c", &command, path.to_str().context("a path")?],
    )
    .map(drop)
}

/// Whether a disk holds that byte there. Its image may be merged meanwhile: then the one that took its place is read.
///
/// # Errors
/// When it does not.
pub fn holds(daemon: &Daemon, admin: &Api, disk: &str, mib: u32, byte: u8) -> Result<()> {
    let command = format!("read -P {byte} {mib}M 64k");
    eventually(SOON, &format!("the image of disk {disk} to stay where it is"), || {
        let path = image_of(daemon, admin, disk)?;
        let text = path.to_str().context("a path")?;
        let said = tool("qemu-io", &["-r", "-U", "-f", "qcow2", "-c", &command, text]);
        if !path.exists() || image_of(daemon, admin, disk)? != path {
            return Ok(None);
        }
        let said = said?;
        ensure!(
            !said.contains("failed"),
            "disk {disk} at {mib} MiB does not hold {byte}: {said}"
        );
        Ok(Some(()))
    })
}
