//! Making a VM, with a disk if one is wanted.

use super::place;
use crate::{
    layout,
    trouble::{Trouble, status_of},
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::body::Body;
use http::{Response, StatusCode};
use maud::{Markup, html};
use stillpoint_engine::{
    Fault,
    command::{AttachFields, CreateDisk, CreateVm, DomainRef, VmFields},
};
use stillpoint_types::{Access, FaultCode, ImageFormat, Need, VmId};

/// Fields with what they are called, what they say when nothing was typed yet, and their hint.
const FIELDS: &[(&str, &str, &str, &str)] = &[
    ("memory", "Memory in MiB", "1024", ""),
    ("cores", "Processors", "1", ""),
    ("disk", "Size of a new disk in GiB", "", "Empty: without a disk."),
    (
        "kernel",
        "Kernel",
        "",
        "A file of the daemon's boot directory. Empty: it boots from its disks.",
    ),
    ("initrd", "Initial RAM disk", "", ""),
    ("cmdline", "Kernel command line", "", ""),
];

fn content(visit: &Visit, form: Option<&Fields>, error: Option<&str>) -> Markup {
    let typed = |name: &str, first: &'static str| match form {
        Some(form) => form.raw(name).unwrap_or_default().to_owned(),
        None => first.to_owned(),
    };
    html! {
        form.card.confirm method="post" {
            (ui::error(error))
            (ui::word(visit))
            label for="name" { "Name" }
            input id="name" name="name" value=(typed("name", "")) required maxlength="255" autocomplete="off" autofocus;
            @for (name, text, first, hint) in FIELDS {
                label for=(name) { (text) }
                input id=(name) name=(name) value=(typed(name, first)) autocomplete="off"
                    inputmode=[matches!(*name, "memory" | "cores" | "disk").then_some("numeric")]
                    aria-describedby=[(!hint.is_empty()).then(|| format!("{name}-hint"))];
                @if !hint.is_empty() { span.hint id={ (name) "-hint" } { (hint) } }
            }
            p.actions {
                button type="submit" { "Make the VM" }
                a href="/console/" { "Cancel" }
            }
        }
    }
}

fn page(visit: &Visit, form: Option<&Fields>, fault: Option<&Fault>) -> Response<Body> {
    let status = fault.map_or(StatusCode::OK, status_of);
    let content = content(visit, form, fault.map(|fault| fault.text.as_str()));
    layout::page_with(visit, status, "New virtual machine", "/console/", &content)
}

/// The form.
pub(crate) async fn ask(visit: Visit) -> Result<Response<Body>, Trouble> {
    let who = &visit.who;
    if who.may(who.home_project, Need::Operate) == Access::Allowed {
        return Ok(page(&visit, None, None));
    }
    let text = format!(
        "User {} has no project in which he may make things: he needs the role member.",
        who.name
    );
    Err(Fault::new(FaultCode::Forbidden, text).into())
}

/// Makes it.
pub(crate) async fn act(posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    match submit(&visit, &form).await {
        Ok((vm, said)) => Ok(ui::done(&visit, &place(vm), &said)),
        Err(fault) if fault.code == FaultCode::Forbidden => Err(fault.into()),
        Err(fault) => Ok(page(&visit, Some(&form), Some(&fault))),
    }
}

/// A whole number in a field, times its unit.
fn number(form: &Fields, name: &str, what: &str, unit: u64) -> Result<Option<u64>, Fault> {
    let Some(text) = form.text(name) else { return Ok(None) };
    let bad = || {
        Fault::new(
            FaultCode::InvalidValue,
            format!("{what}: {text:?} is not a whole number that can be used here."),
        )
    };
    let number: u64 = text.parse().map_err(|_bad| bad())?;
    number.checked_mul(unit).map(Some).ok_or_else(bad)
}

async fn submit(visit: &Visit, form: &Fields) -> Result<(VmId, String), Fault> {
    let text = |name: &str| form.text(name).map(str::to_owned);
    let cores = number(form, "cores", "Processors", 1)?.map(u32::try_from).transpose();
    let cores = cores.map_err(|_bad| Fault::new(FaultCode::InvalidValue, "Processors: that are too many."))?;
    let size_bytes = number(form, "disk", "Size of a new disk", 1 << 30)?;
    let command = CreateVm {
        fields: VmFields {
            name: text("name"),
            memory_bytes: number(form, "memory", "Memory", 1 << 20)?,
            cores,
            kernel: text("kernel"),
            initrd: text("initrd"),
            cmdline: text("cmdline"),
            ..VmFields::default()
        },
        ..CreateVm::default()
    };
    let (engine, who, origin) = (visit.engine(), &visit.who, &visit.origin);
    let vm = engine.create_vm(who, origin, command).await?.id;
    let Some(size_bytes) = size_bytes else {
        return Ok((vm, "The VM is made. It has no disk yet.".into()));
    };
    let disk = CreateDisk {
        id: None,
        image: None,
        alias: None,
        description: String::new(),
        domain: DomainRef::Default,
        size_bytes,
        format: ImageFormat::Cow,
        sparse: None,
        attach: Some((
            vm,
            AttachFields {
                bootable: Some(true),
                ..AttachFields::default()
            },
        )),
    };
    // The VM is there: what is said then is said on its page.
    let said = match engine.create_disk(who, origin, disk).await {
        Ok(_) => "The VM is made; its disk is being made.".to_owned(),
        Err(fault) => format!("The VM is made, but not its disk: {}", fault.text),
    };
    Ok((vm, said))
}
