//! Metadata of volumes and of snapshots: the same six calls on both, but for a few rules.
//!
//! | | volumes | snapshots |
//! |---|---|---|
//! | keys may have slashes | yes | no |
//! | elements of the body that are not known | 400 | passed over |
//! | `ETag` on GET and `If-Match` on PUT (3.15) | yes | the tag only |

use super::{
    body::{self, Keys},
    snapshot,
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_engine::command::volume::{Metadata, MetadataChange};
use stillpoint_types::{DiskId, VolumeSnapshotId};

/// Whose metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Volume(DiskId),
    Snapshot(VolumeSnapshotId),
}

impl Of {
    const fn keys(self) -> Keys {
        match self {
            Self::Volume(_) => Keys::Slash,
            Self::Snapshot(_) => Keys::NoSlash,
        }
    }

    const fn is_strict(self) -> bool {
        matches!(self, Self::Volume(_))
    }

    async fn read(self, call: &Call) -> Result<Metadata, Refused> {
        Ok(match self {
            Self::Volume(id) => call.engine().volume(call.who(), id).await?.metadata,
            Self::Snapshot(id) => call.engine().volume_snapshot(call.who(), id).await?.metadata,
        })
    }

    async fn change(self, call: &Call, change: MetadataChange) -> Result<Metadata, Refused> {
        let (engine, who, origin) = (call.engine(), call.who(), call.origin());
        Ok(match self {
            Self::Volume(id) => engine.change_volume_metadata(who, origin, id, change).await?,
            Self::Snapshot(id) => engine.change_snapshot_metadata(who, origin, id, change).await?,
        })
    }
}

/// The text that changes with the metadata.
fn tag(metadata: &Metadata) -> String {
    // FNV-1a: it tells versions of one map apart, and keeps no secret.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (key, value) in metadata {
        for byte in key.bytes().chain([0]).chain(value.bytes()).chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("\"{hash:016x}\"")
}

async fn get(call: &Call, of: Of) -> Result<Answer, Refused> {
    let metadata = of.read(call).await?;
    let answer = Answer::ok(&json!({"metadata": metadata}));
    Ok(if call.microversion.at_least(15) {
        answer.with_header("etag", &tag(&metadata))
    } else {
        answer
    })
}

fn given(call: &Call, of: Of) -> Result<Metadata, Refused> {
    let mut outer = call.object()?;
    let Some(value) = outer.remove("metadata") else {
        return Err(Refused::bad_request("The body must have an object \"metadata\""));
    };
    if of.is_strict() {
        body::only(&outer, "The body", &[])?;
    }
    body::pairs(&value, "metadata", of.keys())
}

async fn change(call: &Call, of: Of, replace: bool) -> Result<Answer, Refused> {
    let metadata = given(call, of)?;
    if replace
        && call.microversion.at_least(15)
        && of.is_strict()
        && let Some(wanted) = call.header("if-match")
    {
        let held = tag(&of.read(call).await?);
        let fits = |wanted: &str| matches!(wanted.trim(), "*") || wanted.trim() == held;
        if !wanted.split(',').any(fits) {
            return Err(Refused::precondition_failed());
        }
    }
    let change = if replace {
        MetadataChange::Replace(metadata)
    } else {
        MetadataChange::Merge(metadata)
    };
    Ok(Answer::ok(&json!({"metadata": of.change(call, change).await?})))
}

async fn get_item(call: &Call, of: Of) -> Result<Answer, Refused> {
    let key = call.segment(1);
    let metadata = of.read(call).await?;
    let value = metadata
        .get(key)
        .ok_or_else(|| Refused::not_found(format!("There is no metadata with key {}.", snapshot::short(key))))?;
    Ok(Answer::ok(&json!({"meta": {key: value}})))
}

async fn put_item(call: &Call, of: Of) -> Result<Answer, Refused> {
    let key = call.segment(1);
    let mut outer = call.object()?;
    let Some(value) = outer.remove("meta") else {
        return Err(Refused::bad_request("The body must have an object \"meta\""));
    };
    if of.is_strict() {
        body::only(&outer, "The body", &[])?;
    }
    let pairs = body::pairs(&value, "meta", of.keys())?;
    if pairs.len() != 1 || !pairs.contains_key(key) {
        return Err(Refused::bad_request("meta must have the key of the URL, and no other"));
    }
    of.change(call, MetadataChange::Merge(pairs.clone())).await?;
    Ok(Answer::ok(&json!({"meta": pairs})))
}

async fn delete_item(call: &Call, of: Of) -> Result<Answer, Refused> {
    of.change(call, MetadataChange::Remove(call.segment(1).to_owned()))
        .await?;
    Ok(Answer::empty(StatusCode::OK))
}

/// The six handlers of a noun.
macro_rules! handlers {
    ($noun:ident, $of:expr) => {
        pub(crate) mod $noun {
            use super::{Answer, Call, Of, Refused};

            /// `GET metadata`.
            pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
                super::get(&call, $of(&call)?).await
            }
            /// `POST metadata`.
            pub(crate) async fn merge(call: Call) -> Result<Answer, Refused> {
                super::change(&call, $of(&call)?, false).await
            }
            /// `PUT metadata`.
            pub(crate) async fn replace(call: Call) -> Result<Answer, Refused> {
                super::change(&call, $of(&call)?, true).await
            }
            /// `GET metadata/{key}`.
            pub(crate) async fn get_item(call: Call) -> Result<Answer, Refused> {
                super::get_item(&call, $of(&call)?).await
            }
            /// `PUT metadata/{key}`.
            pub(crate) async fn put_item(call: Call) -> Result<Answer, Refused> {
                super::put_item(&call, $of(&call)?).await
            }
            /// `DELETE metadata/{key}`.
            pub(crate) async fn delete_item(call: Call) -> Result<Answer, Refused> {
                super::delete_item(&call, $of(&call)?).await
            }
        }
    };
}

handlers!(of_volume, |call: &Call| -> Result<Of, Refused> {
    Ok(Of::Volume(super::super::volume::id(call)?))
});
handlers!(of_snapshot, |call: &Call| -> Result<Of, Refused> {
    Ok(Of::Snapshot(super::super::snapshot::id(call)?))
});

/// `POST volumes/{id}/action` with `os-show_image_metadata` and its kin: there is no image service, so there is none.
pub(super) fn of_images() -> Answer {
    Answer::ok(&json!({"metadata": Value::Object(serde_json::Map::new())}))
}
