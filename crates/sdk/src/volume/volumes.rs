//! Volumes and their snapshots.

use super::{
    Cloud, answer,
    cloud::{Ask, Service},
};
use crate::Error;
use http::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most elements of a page that is asked for.
const PAGE: &str = "1000";

/// A volume, as the server shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: String,
    /// Its name; names need not be different.
    pub name: Option<String>,
    /// A text about it.
    pub description: Option<String>,
    /// `available`, `in-use`, `creating`, `error`...
    pub status: String,
    /// GiB.
    pub size: u64,
    /// The name of its type.
    pub volume_type: Option<String>,
    /// `true` or `false`, as a text.
    pub bootable: Option<String>,
    /// The snapshot that it was made from.
    pub snapshot_id: Option<String>,
    /// The volume that it was made from.
    pub source_volid: Option<String>,
    /// When it was made, UTC: `2026-01-02T03:04:05.000000`.
    pub created_at: Option<String>,
    /// What has it: objects with `server_id`, `device`.
    #[serde(default)]
    pub attachments: Vec<Value>,
    /// What clients say about it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// All else that the server says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A snapshot of a volume, as the server shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// Its name; names need not be different.
    pub name: Option<String>,
    /// A text about it.
    pub description: Option<String>,
    /// The volume.
    pub volume_id: String,
    /// `available`, `creating`, `error`...
    pub status: String,
    /// GiB that the volume had.
    pub size: u64,
    /// When it was taken, UTC.
    pub created_at: Option<String>,
    /// What clients say about it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// All else that the server says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What a new volume shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// GiB; may be left out of a volume that begins as something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// A text about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Name or id of its type. Default: the cloud's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    /// Id of the snapshot that it begins as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Id of the volume that it begins as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_volid: Option<String>,
}

fn ask(method: Method, path: &[&str]) -> Ask {
    Ask::new(Service::Volume, method, path)
}

impl Cloud {
    /// All volumes of the project; with `name`, those that have it.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn volumes(&self, name: Option<&str>) -> Result<Vec<Volume>, Error> {
        self.pages("volumes", &[("name", name)]).await
    }

    /// A volume.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the server is not reached.
    pub async fn volume(&self, id: &str) -> Result<Volume, Error> {
        self.one(&ask(Method::GET, &["volumes", id]), "volume").await
    }

    /// Makes a volume. It is there at once; see [`Cloud::settled_volume`].
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn create_volume(&self, volume: &NewVolume) -> Result<Volume, Error> {
        let ask = ask(Method::POST, &["volumes"]).body(json!({ "volume": volume }));
        self.one(&ask, "volume").await
    }

    /// Makes a volume larger, also one in use: `size` is what it shall have, in GiB. See [`Cloud::settled_volume`].
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn extend_volume(&self, id: &str, size: u64) -> Result<(), Error> {
        self.act(id, json!({"os-extend": {"new_size": size}})).await
    }

    /// Brings a volume back to its newest snapshot: what was written since is lost. See [`Cloud::settled_volume`].
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn revert_volume(&self, id: &str, snapshot: &str) -> Result<(), Error> {
        self.act(id, json!({"revert": {"snapshot_id": snapshot}})).await
    }

    /// Deletes a volume; with `cascade` its snapshots, too. See [`Cloud::gone_volume`].
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn delete_volume(&self, id: &str, cascade: bool) -> Result<(), Error> {
        let cascade = if cascade { Some("true") } else { None };
        let ask = ask(Method::DELETE, &["volumes", id]).query("cascade", cascade);
        self.ask(&ask).await.map(drop)
    }

    /// All snapshots of the project's volumes; with `volume`, those of that one.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn snapshots(&self, volume: Option<&str>) -> Result<Vec<Snapshot>, Error> {
        self.pages("snapshots", &[("volume_id", volume)]).await
    }

    /// A snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the server is not reached.
    pub async fn snapshot(&self, id: &str) -> Result<Snapshot, Error> {
        self.one(&ask(Method::GET, &["snapshots", id]), "snapshot").await
    }

    /// Takes a snapshot of a volume, also of one in use. See [`Cloud::settled_snapshot`].
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn create_snapshot(
        &self,
        volume: &str,
        name: &str,
        description: Option<&str>,
    ) -> Result<Snapshot, Error> {
        let mut wanted = json!({"volume_id": volume, "name": name, "force": true});
        if let Some(text) = description {
            wanted["description"] = json!(text);
        }
        let ask = ask(Method::POST, &["snapshots"]).body(json!({ "snapshot": wanted }));
        self.one(&ask, "snapshot").await
    }

    /// Deletes a snapshot. See [`Cloud::gone_snapshot`].
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn delete_snapshot(&self, id: &str) -> Result<(), Error> {
        self.ask(&ask(Method::DELETE, &["snapshots", id])).await.map(drop)
    }

    /// What the cloud last said about why something went to an error; `None` if it says nothing, or has no such list.
    pub(super) async fn message(&self, id: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Message {
            user_message: String,
        }
        let ask = ask(Method::GET, &["messages"]).query("resource_uuid", Some(id));
        let body = self.ask(&ask).await.ok()?;
        let list: Vec<Message> = answer::member("", body, "messages").ok()?;
        list.into_iter().next().map(|message| message.user_message)
    }

    async fn act(&self, id: &str, action: Value) -> Result<(), Error> {
        let ask = ask(Method::POST, &["volumes", id, "action"]).body(action);
        self.ask(&ask).await.map(drop)
    }

    /// The member of an answer that the request is about.
    pub(super) async fn one<T: DeserializeOwned>(&self, ask: &Ask, name: &str) -> Result<T, Error> {
        answer::member(&ask.name(), self.ask(ask).await?, name)
    }

    /// A list with details, page by page.
    async fn pages<T: DeserializeOwned>(
        &self,
        plural: &str,
        filters: &[(&'static str, Option<&str>)],
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let mut ask = ask(Method::GET, &[plural, "detail"]).query("limit", Some(PAGE));
            for (name, value) in filters {
                ask = ask.query(name, *value);
            }
            let ask = ask.query("marker", marker.as_deref());
            let name = ask.name();
            let body = self.ask(&ask).await?;
            let has_more = body.get(format!("{plural}_links")).is_some();
            let page: Vec<Value> = answer::member(&name, body, plural)?;
            let last = page.last().and_then(|item| item.get("id")).and_then(Value::as_str);
            marker = last.map(str::to_owned);
            for item in page {
                all.push(serde_json::from_value(item).map_err(|error| Error::protocol(&name, error))?);
            }
            if !has_more || marker.is_none() {
                return Ok(all);
            }
        }
    }
}
