//! `cloudvolumes`: volumes with EVS's own fields. Work on them is answered with a job's id.

use super::{
    body::{self, MALFORMED, Object},
    list::{self, Noun},
    show, snapshot,
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use stillpoint_engine::{
    Fault,
    command::{
        Accepted,
        volume::{CreateVolume, DeleteVolume, ExtendVolume, TypeRef, UpdateVolume, VolumeSource},
    },
    view::{volume::VolumeView, volume_job::VolumeWork},
};
use stillpoint_types::{DiskId, FaultCode, JobId, VolumeSnapshotId};

const NOUN: Noun = Noun {
    plural: "volumes",
    statuses: show::volume_statuses,
    equal: &[("id", "id"), ("name", "name"), ("server_id", "server")],
    sort: &[
        ("id", "id"),
        ("status", "status"),
        ("size", "size"),
        ("name", "name"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
    ],
};

/// Most volumes that one request makes.
const COUNT_MAX: u64 = 100;
/// How long a volume that goes again may take to be made.
const TAKE_BACK_MAX: Duration = Duration::from_secs(10);
/// Names of EVS's own types; where no type of that name was made they are the default one.
pub(super) const ALIASES: &[&str] = &["SATA", "SAS", "SSD", "GPSSD", "ESSD"];

/// The volume that the path names.
fn named(call: &Call) -> Result<DiskId, Refused> {
    body::uuid(call.segment(0))
        .map(DiskId)
        .ok_or_else(|| Refused::not_found("There is no such volume"))
}

/// `POST /v2.1/...`: the job and the volumes.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let (job, volumes) = made(&call).await?;
    let ids: Vec<_> = volumes.iter().map(DiskId::to_string).collect();
    let document = json!({"job_id": job.to_string(), "volume_ids": ids});
    Ok(Answer::json(StatusCode::ACCEPTED, &document))
}

/// `POST /v2/...`: the job alone.
pub(crate) async fn add_at_once(call: Call) -> Result<Answer, Refused> {
    let (job, _) = made(&call).await?;
    Ok(Answer::ok(&json!({"job_id": job.to_string()})))
}

async fn made(call: &Call) -> Result<(JobId, Vec<DiskId>), Refused> {
    let beside = ["bssParam", "server_id", "OS-SCH-HNT:scheduler_hints"];
    let asked = body::object(call, "volume", &beside)?;
    let whole = call.object()?;
    prepaid(&whole)?;
    if whole.get("server_id").is_some_and(|server| !server.is_null()) {
        return Err(Refused::bad_request(
            "A new volume is attached by a call of its own: leave out server_id",
        ));
    }
    let (count, first) = command(call, &asked).await?;
    let mut begun = Vec::new();
    for number in 0..count {
        let mut command = first.clone();
        if count > 1 {
            command.name = Some(format!("{}-{number:04}", first.name.as_deref().unwrap_or_default()));
        }
        match call.engine().create_volume(call.who(), call.origin(), command).await {
            Ok(accepted) => begun.push(accepted),
            Err(fault) => return Err(refused(take_back(call, begun, fault).await)),
        }
    }
    let mut job = None;
    for accepted in &begun {
        let of_this = job_of(call, *accepted, VolumeWork::Create).await?;
        job.get_or_insert(of_this);
    }
    let job = job.ok_or_else(|| Refused::internal("no volume was asked for"))?;
    Ok((job, begun.iter().map(|accepted| accepted.id).collect()))
}

/// All or none: what was begun goes again. What cannot be removed is said with the fault, and stays visible.
async fn take_back(call: &Call, begun: Vec<Accepted<DiskId>>, mut fault: Fault) -> Fault {
    let engine = call.engine();
    for Accepted { id, job } in begun {
        // Whether it was made well or not: it can be removed once nothing works on it.
        let is_made = match job {
            Some(job) => engine.wait(job, TAKE_BACK_MAX).await,
            None => Ok(()),
        };
        let command = DeleteVolume {
            volume: id,
            cascade: false,
            force: false,
        };
        if let Err(why) = engine.delete_volume(call.who(), call.origin(), command).await {
            // One whose making failed is gone already.
            if is_made.is_ok() || why.code != FaultCode::NotFound {
                fault
                    .text
                    .push_str(&format!("; volume {id} was made, and stays: {}", why.text));
            }
        }
    }
    fault
}

/// The job that a client waits for.
async fn job_of(call: &Call, accepted: Accepted<DiskId>, work: VolumeWork) -> Result<JobId, Refused> {
    match accepted.job {
        Some(job) => Ok(job),
        None => {
            let engine = call.engine();
            Ok(engine
                .note_volume_work(call.who(), call.origin(), accepted.id, work)
                .await?)
        }
    }
}

/// Refuses an order that would have to be paid before.
fn prepaid(body: &Object) -> Result<(), Refused> {
    let mode = body.get("bssParam").and_then(|order| order.get("chargingMode"));
    match mode {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(mode)) if mode == "postPaid" => Ok(()),
        Some(_) => Err(Refused::bad_request("chargingMode is postPaid").evs(MALFORMED)),
    }
}

const KNOWN: &[&str] = &[
    "availability_zone",
    "backup_id",
    "count",
    "description",
    "enterprise_project_id",
    "imageRef",
    "iops",
    "metadata",
    "multiattach",
    "name",
    "shareable",
    "size",
    "snapshot_id",
    "source_volid",
    "tags",
    "throughput",
    "volume_type",
];

async fn command(call: &Call, asked: &Object) -> Result<(u64, CreateVolume), Refused> {
    body::only(asked, "volume", KNOWN)?;
    let is_given = |key: &str| asked.get(key).is_some_and(|value| !value.is_null());
    if body::flag(asked, "multiattach")? || asked.get("shareable").is_some_and(|flag| *flag == json!(true)) {
        return Err(Refused::bad_request("Volumes for several servers are not served").evs(MALFORMED));
    }
    for key in ["backup_id", "imageRef", "iops", "throughput"] {
        if is_given(key) {
            return Err(Refused::bad_request(format!("{key} is not served")).evs(MALFORMED));
        }
    }
    match asked.get("availability_zone") {
        None | Some(Value::Null) => {}
        Some(Value::String(zone)) if zone == show::ZONE => {}
        Some(_) => {
            let text = format!("The one availability zone is {:?}", show::ZONE);
            return Err(Refused::bad_request(text).evs("EVS.1036"));
        }
    }
    let count = match asked.get("count") {
        None | Some(Value::Null) => 1,
        Some(value) => value
            .as_u64()
            .filter(|count| (1..=COUNT_MAX).contains(count))
            .ok_or_else(|| Refused::bad_request(format!("count is 1 to {COUNT_MAX}")).evs(MALFORMED))?,
    };
    let snapshot = body::optional_id(asked, "snapshot_id", "EVS.2045")?;
    let source = match (snapshot, body::optional_id(asked, "source_volid", "EVS.1002")?) {
        (None, None) => VolumeSource::Blank,
        (Some(snapshot), None) => VolumeSource::Snapshot(VolumeSnapshotId(snapshot)),
        (None, Some(volume)) => VolumeSource::Volume(DiskId(volume)),
        (Some(_), Some(_)) => {
            return Err(Refused::bad_request("A volume begins as one thing only").evs("EVS.1016"));
        }
    };
    let size_bytes = match asked.get("size") {
        None | Some(Value::Null) if source == VolumeSource::Blank => {
            return Err(Refused::bad_request("size is needed").evs(MALFORMED));
        }
        None | Some(Value::Null) => None,
        Some(size) => Some(body::gib(size, "size")?),
    };
    let of_type = match asked.get("volume_type") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => of_type(call, name).await?,
        Some(_) => return Err(Refused::bad_request("volume_type must be a text").evs("EVS.1020")),
    };
    let command = CreateVolume {
        project: call.project()?,
        name: body::name(asked)?.flatten(),
        description: body::description(asked)?.flatten(),
        size_bytes,
        source,
        of_type,
        metadata: body::new_metadata(asked)?,
    };
    Ok((count, command))
}

/// A type by its name.
async fn of_type(call: &Call, name: &str) -> Result<Option<TypeRef>, Refused> {
    let types = call.engine().volume_types(call.who()).await?;
    if types.iter().any(|there| there.name == name) {
        return Ok(Some(TypeRef::Name(name.to_owned())));
    }
    if ALIASES.contains(&name) {
        return Ok(None);
    }
    Err(Refused::bad_request("There is no volume type of that name").evs("EVS.1020"))
}

/// What a refused making or growing is: most of what the body names are parameters here.
fn refused(fault: Fault) -> Refused {
    match fault.code {
        FaultCode::VolumeStatus => Refused::from(fault).evs("EVS.2043"),
        _ => fault.into(),
    }
}

/// `GET`, `GET .../detail`: a page, in full both.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let asked = list::read(&call, &NOUN)?;
    let found = call.engine().volumes(call.who(), asked.query.clone()).await;
    let listed = found.map_err(list::refused)?;
    let id = |view: &VolumeView| view.id.to_string();
    let show = |view: &VolumeView| Value::Object(show::volume(&call, view));
    Ok(Answer::ok(&list::answer(&call, &asked, &NOUN, &listed, id, show)))
}

/// `GET .../{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().volume(call.who(), named(&call)?).await?;
    Ok(Answer::ok(&json!({"volume": show::volume(&call, &view)})))
}

/// `PUT .../{id}`: its names. The answer is the volume itself, in no object of its name.
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let volume = named(&call)?;
    let asked = body::object(&call, "volume", &[])?;
    body::only(&asked, "volume", &["name", "description"])?;
    let body::Names { name, description } = body::names(&asked)?;
    let command = UpdateVolume {
        volume,
        name,
        description,
    };
    let engine = call.engine();
    engine.update_volume(call.who(), call.origin(), command).await?;
    let view = engine.volume(call.who(), volume).await?;
    Ok(Answer::ok(&show::volume(&call, &view)))
}

/// `DELETE .../{id}`: with its snapshots.
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = DeleteVolume {
        volume: named(&call)?,
        cascade: true,
        force: false,
    };
    let begun = call.engine().delete_volume(call.who(), call.origin(), command).await;
    let accepted = begun.map_err(snapshot::by_status("EVS.1046"))?;
    let job = job_of(&call, accepted, VolumeWork::Delete).await?;
    Ok(Answer::ok(&json!({"job_id": job.to_string()})))
}

/// `POST .../{id}/action` with `os-extend`.
pub(crate) async fn act(call: Call) -> Result<Answer, Refused> {
    let volume = named(&call)?;
    let asked = body::object(&call, "os-extend", &["bssParam"])?;
    prepaid(&call.object()?)?;
    body::only(&asked, "os-extend", &["new_size"])?;
    let size = asked.get("new_size").unwrap_or(&Value::Null);
    let command = ExtendVolume {
        volume,
        size_bytes: body::gib(size, "new_size")?,
        in_use: true,
    };
    let begun = call.engine().extend_volume(call.who(), call.origin(), command).await;
    let accepted = begun.map_err(|fault| match fault.code {
        FaultCode::OutOfRange | FaultCode::InvalidValue => Refused::from(fault).evs("EVS.1015"),
        _ => snapshot::by_status("EVS.1014")(fault),
    })?;
    let job = job_of(&call, accepted, VolumeWork::Extend).await?;
    Ok(Answer::json(StatusCode::ACCEPTED, &json!({"job_id": job.to_string()})))
}
