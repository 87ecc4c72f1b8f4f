//! From what a user wrote to the one thing that he means: by id, else by name. What is not there, and what is not clear,
//! is said with the candidates.

use super::{Session, Trouble, code, connect::id_of, shown::moment, suggest::did_you_mean};
use stillpoint_sdk::{
    Error, GetOptions, ListOptions, SnapshotsService, VmService,
    types::{Disk, Identified, Snapshot, Vm},
};

/// Most candidates that are told.
const CANDIDATES_MAX: usize = 10;
/// Most names that are read to suggest one.
const NAMES_MAX: u32 = 1000;

pub(crate) fn is_id(text: &str) -> bool {
    uuid::Uuid::parse_str(text).is_ok()
}

/// A search for a name. Whatever the search language makes of it, the exact one is looked for among what it finds.
fn search(field: &str, name: &str) -> String {
    format!("{field}=\"{}\"", name.replace(['"', '\\'], "*"))
}

/// The only one of several with a name; `tell` gives the id of one, and what else tells it apart.
pub(crate) fn only<T>(
    kind: &str,
    wanted: &str,
    mut found: Vec<T>,
    tell: impl Fn(&T) -> (String, String),
) -> Result<T, Trouble> {
    let count = found.len();
    if count == 1 {
        return Ok(found.swap_remove(0));
    }
    let mut hint = format!("name the one that you mean by its id, one of these {count}:");
    for item in found.iter().take(CANDIDATES_MAX) {
        let (id, text) = tell(item);
        hint.push_str(&format!("\n    {id}  {text}"));
    }
    Err(
        Trouble::new(format!("{wanted:?} is not clear: {count} {kind}s are named so"))
            .hint(hint)
            .code(code::NOT_FOUND),
    )
}

fn id<T: Identified>(object: &T) -> String {
    object.head().id.clone().unwrap_or_default()
}

/// Nothing is named so; `names` are those that there are, as far as they are known.
pub(crate) fn nothing<'n>(kind: &str, wanted: &str, names: impl IntoIterator<Item = &'n str>, list: &str) -> Trouble {
    Trouble::new(format!("there is no {kind} {wanted:?}, or this user may not see it"))
        .hint(format!("{}what there is: {list}", did_you_mean(wanted, names)))
        .code(code::NOT_FOUND)
}

/// A failure to read one thing by its id.
pub(crate) fn unread(error: Error, kind: &str, wanted: &str, list: &str) -> Trouble {
    match error {
        Error::NotFound(_) => nothing(kind, wanted, [], list),
        error => error.into(),
    }
}

/// A VM with its service.
pub(crate) async fn vm(session: &Session, wanted: &str) -> Result<(Vm, VmService), Trouble> {
    const LIST: &str = "stillpoint vm list";
    let vms = session.system().vms_service();
    if is_id(wanted) {
        let service = vms.vm_service(wanted);
        let read = session.read(|| service.get(GetOptions::new())).await;
        return Ok((read.map_err(|error| unread(error, "VM", wanted, LIST))?, service));
    }
    let search = search("name", wanted);
    let mut found = session.read(|| vms.list(ListOptions::new().search(&search))).await?;
    found.retain(|vm| vm.head.name.as_deref() == Some(wanted));
    if found.is_empty() {
        let some = || ListOptions::new().max(NAMES_MAX);
        let all = session.read(|| vms.list(some())).await.unwrap_or_default();
        let names = all.iter().filter_map(|vm| vm.head.name.as_deref());
        return Err(nothing("VM", wanted, names, LIST));
    }
    let tell = |vm: &Vm| (id(vm), vm.status.as_deref().unwrap_or_default().to_owned());
    let vm = only("VM", wanted, found, tell)?;
    let service = vms.vm_service(&id_of(&vm, "a VM")?);
    Ok((vm, service))
}

/// A disk.
pub(crate) async fn disk(session: &Session, wanted: &str) -> Result<Disk, Trouble> {
    const LIST: &str = "stillpoint disk list";
    let disks = session.system().disks_service();
    if is_id(wanted) {
        let service = disks.disk_service(wanted);
        let read = session.read(|| service.get(GetOptions::new())).await;
        return read.map_err(|error| unread(error, "disk", wanted, LIST));
    }
    let search = search("alias", wanted);
    let mut found = session.read(|| disks.list(ListOptions::new().search(&search))).await?;
    found.retain(|disk| disk.head.name.as_deref().or(disk.alias.as_deref()) == Some(wanted));
    if found.is_empty() {
        let some = || ListOptions::new().max(NAMES_MAX);
        let all = session.read(|| disks.list(some())).await.unwrap_or_default();
        let names = all.iter().filter_map(|disk| disk.head.name.as_deref());
        return Err(nothing("disk", wanted, names, LIST));
    }
    let tell = |disk: &Disk| (id(disk), super::size::shown(disk.provisioned_size));
    only("disk", wanted, found, tell)
}

/// All snapshots of a VM, oldest first, the active one last.
pub(crate) async fn snapshots(session: &Session, service: &SnapshotsService) -> Result<Vec<Snapshot>, Trouble> {
    let mut list = session.read(|| service.list(ListOptions::new())).await?;
    list.sort_by_key(|one| (kind(one) == "active", one.date.map(|date| date.0)));
    Ok(list)
}

/// The kind of a snapshot: `regular`, `active`, `preview`.
pub(crate) fn kind(snapshot: &Snapshot) -> &str {
    snapshot.snapshot_type.as_deref().unwrap_or_default()
}

/// What people call a snapshot.
pub(crate) fn description(snapshot: &Snapshot) -> &str {
    snapshot.base.head.description.as_deref().unwrap_or_default()
}

/// One of a VM's snapshots, by its id or its description.
pub(crate) fn snapshot(vm: &str, list: &[Snapshot], wanted: &str) -> Result<Snapshot, Trouble> {
    let by_id = list.iter().find(|one| one.base.head.id.as_deref() == Some(wanted));
    if let Some(found) = by_id {
        return Ok(found.clone());
    }
    let is_named = |one: &&Snapshot| kind(one) == "regular" && description(one) == wanted;
    let found: Vec<_> = list.iter().filter(is_named).cloned().collect();
    if found.is_empty() {
        let regular = list.iter().filter(|one| kind(one) == "regular").map(description);
        return Err(nothing(
            "snapshot",
            wanted,
            regular,
            &format!("stillpoint snapshot list {vm}"),
        ));
    }
    let tell = |one: &Snapshot| (id(one), one.date.map_or_else(String::new, |date| moment(date.0)));
    only("snapshot", wanted, found, tell)
}
