//! Image transfers: what they look like, beginning one, and what a client does to it. The data itself goes over
//! `/images/{ticket}`, which is another room's.

use crate::{
    answer::{Answer, action},
    call::{Call, body_id},
    disk::word,
    fault::Refused,
    list::{self, Listing},
    search::{self, Field, Search, Searchable},
};
use stillpoint_engine::{
    Fault,
    command::{ControlTransfer, CreateTransfer, TransferAction, TransferOf},
    view::{Page, Paged, TransferView},
};
use stillpoint_types::{TimeoutPolicy, TransferDirection, TransferId};
use stillpoint_wire::model::{self, Header, Identified};

/// Not a searchable collection in oVirt; nothing that a client asks for is passed over in silence.
static FIELDS: &[Field] = &[search::own(&["id"]), search::own(&["phase"])];
const ACTIONS: &[&str] = &["cancel", "extend", "finalize", "pause", "resume"];

impl Searchable for TransferView {
    fn field(&self, name: &str) -> Vec<String> {
        match name {
            "id" => vec![self.id.to_string()],
            "phase" => vec![self.phase.to_string()],
            _ => Vec::new(),
        }
    }
}

struct Transfers {
    host: String,
    search: Search,
}

impl Listing for Transfers {
    type View = TransferView;
    type Item = model::ImageTransfer;

    async fn page(&self, call: &Call, page: Page) -> Result<Paged<TransferView>, Fault> {
        let views = call.engine().transfers(&call.who, &page).await?;
        let mut page = list::by_id(views, page.limit, |view| view.id.to_string());
        page.items.retain(|view| self.search.finds(view));
        Ok(page)
    }

    async fn show(&self, call: &Call, view: TransferView) -> Result<model::ImageTransfer, Refused> {
        Ok(represent(call, &self.host, &view))
    }
}

/// `GET /imagetransfers`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let search = call.search(FIELDS)?;
    if search.page.is_some() {
        return Err(Refused::bad_parameter(
            "Image transfers are not listed in pages".to_owned(),
        ));
    }
    call.follow(&[])?;
    let host = call.house().await?.host.0;
    let transfers = Transfers {
        host,
        search: search.clone(),
    };
    list::answer(call, transfers, &search).await
}

/// `GET /imagetransfers/{transfer}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    call.follow(&[])?;
    let view = call.engine().transfer(&call.who, call.id(0)?).await?;
    let host = call.house().await?.host.0;
    Ok(call.ok(&represent(&call, &host, &view)))
}

/// `POST /imagetransfers`
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let body: model::ImageTransfer = call.read()?;
    let command = creation(&body)?;
    let accepted = call.engine().create_transfer(&call.who, call.origin(), command).await?;
    let view = call.engine().transfer(&call.who, accepted.id).await?;
    let host = call.house().await?.host.0;
    Ok(call.added(represent(&call, &host, &view), None))
}

/// `POST /imagetransfers/{transfer}/cancel`
pub(crate) async fn cancel(call: Call) -> Result<Answer, Refused> {
    act(call, TransferAction::Cancel).await
}

/// `POST /imagetransfers/{transfer}/extend`
pub(crate) async fn extend(call: Call) -> Result<Answer, Refused> {
    act(call, TransferAction::Extend).await
}

/// `POST /imagetransfers/{transfer}/finalize`
pub(crate) async fn finalize(call: Call) -> Result<Answer, Refused> {
    act(call, TransferAction::Finalize).await
}

/// `POST /imagetransfers/{transfer}/pause`
pub(crate) async fn pause(call: Call) -> Result<Answer, Refused> {
    act(call, TransferAction::Pause).await
}

/// `POST /imagetransfers/{transfer}/resume`
pub(crate) async fn resume(call: Call) -> Result<Answer, Refused> {
    act(call, TransferAction::Resume).await
}

async fn act(call: Call, what: TransferAction) -> Result<Answer, Refused> {
    let transfer: TransferId = call.id(0)?;
    let _parameters: model::Action = call.read()?;
    let command = ControlTransfer { transfer, action: what };
    call.engine()
        .control_transfer(&call.who, call.origin(), command)
        .await?;
    // The phase tells how it goes on: clients look at it, not at the action.
    Ok(call.ok(&action("complete", None)))
}

fn creation(body: &model::ImageTransfer) -> Result<CreateTransfer, Refused> {
    Ok(CreateTransfer {
        of: named(body)?,
        direction: word(body.direction.as_deref(), "ImageTransferDirection")?.unwrap_or(TransferDirection::Upload),
        format: word(body.format.as_deref(), "DiskFormat")?,
        shallow: body.shallow.unwrap_or(false),
        inactivity_s: body
            .inactivity_timeout
            .map(|seconds| {
                u64::try_from(seconds)
                    .map_err(|_negative| Refused::invalid_value(format!("inactivity_timeout is {seconds}")))
            })
            .transpose()?,
        policy: word(body.timeout_policy.as_deref(), "ImageTransferTimeoutPolicy")?.unwrap_or(TimeoutPolicy::Legacy),
    })
}

/// Exactly one of disk, disk snapshot and image, which is an old word for the disk; a disk as it was in a backup.
fn named(body: &model::ImageTransfer) -> Result<TransferOf, Refused> {
    let disk = body.disk.as_ref().map(|disk| (disk.head().id.as_deref(), false));
    let image = body.image.as_ref().map(|image| (image.head().id.as_deref(), false));
    let snapshot = body
        .snapshot
        .as_ref()
        .map(|snapshot| (snapshot.head().id.as_deref(), true));
    let mut given = [disk, image, snapshot].into_iter().flatten();
    let (id, is_snapshot) = match (given.next(), given.next()) {
        (Some((Some(id), is_snapshot)), None) => (id, is_snapshot),
        (Some(_), Some(_)) => {
            return Err(Refused::bad_parameter(
                "An image transfer is of a disk or of a disk snapshot: name one of them",
            ));
        }
        (None | Some((None, _)), _) => {
            return Err(Refused::incomplete(
                "ImageTransfer",
                &["disk.id|snapshot.id|image.id"],
                "add",
            ));
        }
    };
    let backup = body.backup.as_ref().map(|backup| backup.head().id.as_deref());
    Ok(match (backup, is_snapshot) {
        (None, true) => TransferOf::Image(body_id(id, "disk snapshot")?),
        (None, false) => TransferOf::Disk(body_id(id, "disk")?),
        (Some(Some(backup)), false) => TransferOf::Backup {
            backup: body_id(backup, "backup")?,
            disk: body_id(id, "disk")?,
        },
        (Some(None), _) => return Err(Refused::incomplete("ImageTransfer", &["backup.id"], "add")),
        (Some(_), true) => {
            return Err(Refused::bad_parameter(
                "A transfer of a backup is of one of its disks, not of a disk snapshot",
            ));
        }
    })
}

fn represent(call: &Call, host: &str, view: &TransferView) -> model::ImageTransfer {
    let base = call.base();
    let mut head = Header::new(view.id.to_string(), format!("{base}/imagetransfers/{}", view.id));
    head.comment = view.reason.clone();
    for action in ACTIONS {
        head.add_action(action);
    }
    let public_url = call.visit.api.0.settings.public_url.trim_end_matches('/');
    let url = view
        .ticket
        .as_ref()
        .map(|ticket| format!("{public_url}/images/{}", ticket.0.as_hyphenated()));
    let disk = format!("{base}/disks/{}", view.disk);
    // A transfer can be read for a while after its disk was removed: then there is nothing to lead to.
    let mut of_disk = model::Disk::of(view.disk.to_string(), disk.clone());
    if !view.disk_is_there {
        of_disk.head_mut().href = None;
    }
    let mut image = model::Image::default();
    image.head_mut().id = Some(view.disk.to_string());
    let snapshot = view
        .image
        .and_then(|image| model::DiskSnapshot::reference(image.to_string(), format!("{disk}/disksnapshots/{image}")));
    model::ImageTransfer {
        head,
        active: Some(view.active),
        direction: Some(view.direction.to_string()),
        format: Some(view.format.to_string()),
        inactivity_timeout: i32::try_from(view.inactivity_s).ok(),
        phase: Some(view.phase.to_string()),
        proxy_url: url.clone(),
        shallow: Some(view.shallow),
        timeout_policy: Some(view.policy.to_string()),
        transfer_url: url,
        transferred: Some(view.transferred_bytes),
        backup: view.backup.map(|id| {
            let mut backup = model::Backup::default();
            backup.head_mut().id = Some(id.to_string());
            Box::new(backup)
        }),
        disk: Some(Box::new(of_disk)),
        host: model::Host::reference(host, format!("{base}/hosts/{host}")),
        image: Some(Box::new(image)),
        snapshot,
    }
}
