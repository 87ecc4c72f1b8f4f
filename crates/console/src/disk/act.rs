//! What can be done with a disk: make one, extend it, delete it.

use super::{PLACE, disk_id, place};
use crate::{
    layout,
    trouble::{Trouble, status_of},
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::{body::Body, extract::Path};
use http::{Response, StatusCode};
use maud::{Markup, html};
use stillpoint_engine::{
    Fault,
    command::{CreateDisk, DeleteDisk, DiskFields, DomainRef, UpdateDisk},
    view::DiskView,
};
use stillpoint_types::{Access, FaultCode, ImageFormat, Need};

const GIB: u64 = 1 << 30;

/// Refuses who may not change a thing of that project.
pub(crate) fn expect_operator(visit: &Visit, project: stillpoint_types::ProjectId, what: &str) -> Result<(), Trouble> {
    if visit.who.may(project, Need::Operate) == Access::Allowed {
        return Ok(());
    }
    let text = format!(
        "User {} may read {what} but not change it: ask an administrator for the role member.",
        visit.who.name
    );
    Err(Fault::new(FaultCode::Forbidden, text).into())
}

/// Whole GiB as they were typed, in bytes.
pub(crate) fn gibibytes(form: &Fields, name: &str) -> Result<u64, Fault> {
    let text = form.text(name).unwrap_or_default();
    let bytes = text.parse::<u64>().ok().filter(|number| *number > 0);
    let bytes = bytes.and_then(|number| number.checked_mul(GIB));
    bytes.ok_or_else(|| {
        Fault::new(
            FaultCode::InvalidValue,
            format!("The size {text:?} is no whole number of GiB, such as 10."),
        )
    })
}

async fn changeable(visit: &Visit, id: &str) -> Result<DiskView, Trouble> {
    let disk = visit.engine().disk(&visit.who, disk_id(id)?).await?;
    expect_operator(visit, disk.project, &format!("disk {}", disk.alias))?;
    Ok(disk)
}

/// A form that failed, or is shown for the first time.
pub(crate) fn shown(
    visit: &Visit,
    title: &str,
    part: &str,
    fault: Option<&Fault>,
    content: &Markup,
) -> Result<Response<Body>, Trouble> {
    let status = fault.map_or(StatusCode::OK, status_of);
    Ok(layout::page_with(visit, status, title, part, content))
}

fn new_form(visit: &Visit, form: &Fields, fault: Option<&Fault>) -> Result<Response<Body>, Trouble> {
    let typed = |name: &str| form.raw(name).unwrap_or_default();
    let content = html! {
        form.card.narrow method="post" {
            (ui::error(fault.map(|fault| fault.text.as_str())))
            (ui::word(visit))
            label for="alias" { "Name" }
            input id="alias" name="alias" value=(typed("alias")) maxlength="255" autocomplete="off" required autofocus;
            label for="size" { "Size in GiB" }
            input id="size" name="size" value=(typed("size")) inputmode="numeric" autocomplete="off" required
                aria-describedby="size-hint";
            span.hint id="size-hint" { "It takes space as it is written. It can be extended later, and never made smaller." }
            label for="description" { "Description" }
            input id="description" name="description" value=(typed("description")) autocomplete="off";
            p.actions { button type="submit" { "Make the disk" } a href=(PLACE) { "Cancel" } }
        }
    };
    shown(visit, "New disk", PLACE, fault, &content)
}

/// The form of a new disk.
pub(crate) async fn ask_new(visit: Visit) -> Result<Response<Body>, Trouble> {
    expect_operator(&visit, visit.who.home_project, "what is here")?;
    new_form(&visit, &Fields::default(), None)
}

/// Makes a disk.
pub(crate) async fn make(posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let command = gibibytes(&form, "size").map(|size_bytes| CreateDisk {
        id: None,
        image: None,
        alias: form.text("alias").map(str::to_owned),
        description: form.text("description").unwrap_or_default().to_owned(),
        domain: DomainRef::Default,
        size_bytes,
        format: ImageFormat::Cow,
        sparse: None,
        attach: None,
    });
    let made = match command {
        Ok(command) => visit.engine().create_disk(&visit.who, &visit.origin, command).await,
        Err(fault) => Err(fault),
    };
    match made {
        Ok(made) => Ok(ui::done(&visit, &place(made.id), "The disk is being made.")),
        Err(fault) if fault.code == FaultCode::Forbidden => Err(fault.into()),
        Err(fault) => new_form(&visit, &form, Some(&fault)),
    }
}

fn extend_form(visit: &Visit, disk: &DiskView, typed: &str, fault: Option<&Fault>) -> Result<Response<Body>, Trouble> {
    let back = place(disk.id);
    let confirm = ui::Confirm {
        happens: vec![
            format!(
                "The disk gets larger than its {} now; a guest that runs sees it at once.",
                ui::bytes(disk.size_bytes)
            ),
            "Its partitions and file systems stay as they are: the guest has to grow them.".into(),
            "It cannot be made smaller again. Older snapshots keep their size.".into(),
        ],
        fields: Some(html! {
            label for="size" { "New size in GiB" }
            input id="size" name="size" value=(typed) inputmode="numeric" autocomplete="off" required autofocus;
        }),
        button: "Extend",
        back: &back,
        error: fault.map(|fault| fault.text.as_str()),
        ..ui::Confirm::default()
    };
    shown(
        visit,
        &format!("Extend {}", disk.alias),
        PLACE,
        fault,
        &confirm.render(visit),
    )
}

/// The form that makes a disk larger.
pub(crate) async fn ask_extend(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let disk = changeable(&visit, &id).await?;
    let next = (disk.size_bytes / GIB + 1).to_string();
    extend_form(&visit, &disk, &next, None)
}

/// Makes it larger.
pub(crate) async fn extend(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let disk = changeable(&visit, &id).await?;
    let done = match gibibytes(&form, "size") {
        Ok(size_bytes) if size_bytes <= disk.size_bytes => Err(Fault::new(
            FaultCode::InvalidValue,
            format!(
                "{} is not larger than disk {} is now ({}): a disk cannot be made smaller.",
                ui::bytes(size_bytes),
                disk.alias,
                ui::bytes(disk.size_bytes)
            ),
        )),
        Ok(size_bytes) => {
            let fields = DiskFields {
                size_bytes: Some(size_bytes),
                ..DiskFields::default()
            };
            let command = UpdateDisk { disk: disk.id, fields };
            visit.engine().update_disk(&visit.who, &visit.origin, command).await
        }
        Err(fault) => Err(fault),
    };
    match done {
        Ok(_) => Ok(ui::done(&visit, &place(disk.id), "The disk is being extended.")),
        Err(fault) => extend_form(&visit, &disk, form.raw("size").unwrap_or_default(), Some(&fault)),
    }
}

fn delete_form(visit: &Visit, disk: &DiskView, fault: Option<&Fault>) -> Result<Response<Body>, Trouble> {
    let back = place(disk.id);
    let confirm = ui::Confirm {
        happens: vec![format!("The disk {} and all its images are removed.", disk.alias)],
        loses: vec![format!(
            "All that is on it ({}), and on its snapshots. Nothing brings it back but a backup.",
            ui::bytes(disk.total_bytes)
        )],
        button: "Delete the disk",
        back: &back,
        error: fault.map(|fault| fault.text.as_str()),
        ..ui::Confirm::default()
    };
    shown(
        visit,
        &format!("Delete {}", disk.alias),
        PLACE,
        fault,
        &confirm.render(visit),
    )
}

/// What a deletion would do.
pub(crate) async fn ask_delete(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let disk = changeable(&visit, &id).await?;
    delete_form(&visit, &disk, None)
}

/// Deletes it.
pub(crate) async fn delete(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, .. } = posted;
    let disk = changeable(&visit, &id).await?;
    let command = DeleteDisk { disk: disk.id };
    match visit.engine().delete_disk(&visit.who, &visit.origin, command).await {
        Ok(_) => Ok(ui::done(
            &visit,
            PLACE,
            &format!("Disk {} is being deleted.", disk.alias),
        )),
        Err(fault) => delete_form(&visit, &disk, Some(&fault)),
    }
}
