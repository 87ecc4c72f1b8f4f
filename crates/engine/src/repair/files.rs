//! Files that no row names: what becomes of each.
//!
//! None is ever unlinked. What may be a disk becomes one; what may not is kept in `orphans/`, beside the images.

use super::{
    facts::{File, Gate, Machine, Records, Seen, file_name},
    find::{Act, Finding, Object},
};
use crate::{files::names_base, lock::moment, reconcile::recover::MISMATCH, view::FindingKind};
use std::path::Path;
use stillpoint_store::{
    disk::DiskRow,
    image::{ImageRow, ImageState},
    repair::StrangeLayerRow,
};
use stillpoint_types::ImageFormat;

/// Endings of files that are no images: parts of what is being made, memories, marks.
const OTHERS: [&str; 7] = ["new", "memory", "part", "whole", "broken", "merged", "map"];

/// The image of a `.merged` file, as its name has it.
fn marked(name: &str) -> Option<&str> {
    name.strip_suffix(".merged")
}

fn is_recorded(records: &Records, name: &str) -> bool {
    records.images.values().any(|row| file_name(row.id, row.format) == name)
}

/// Whether a job under way speaks of a file: by its name, or by the id that is its name.
fn is_explained(records: &Records, name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    records
        .spoken_of
        .iter()
        .any(|text| text.contains(name) || (stem.len() == 36 && text.contains(stem)))
}

/// Unknown image files.
fn unknown<'a>(records: &'a Records, seen: &'a Seen) -> impl Iterator<Item = (&'a str, &'a File)> {
    let files = seen.files.iter().map(|(name, file)| (name.as_str(), file));
    files.filter(move |(name, file)| {
        let ending = Path::new(name)
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        let may_be = file.facts.is_ok() || ["qcow2", "raw"].contains(&ending);
        !name.contains('/')
            && !OTHERS.contains(&ending)
            && may_be
            && !is_recorded(records, name)
            && !is_explained(records, name)
    })
}

/// The unknown files that name an image as their base.
pub(super) fn standing_on<'a>(
    records: &'a Records,
    seen: &'a Seen,
    image: &ImageRow,
) -> impl Iterator<Item = (&'a str, &'a File)> {
    let base = file_name(image.id, image.format);
    let elsewhere = seen.files.iter().filter(|(name, _)| name.contains('/'));
    let elsewhere = elsewhere.map(|(name, file)| (name.as_str(), file));
    unknown(records, seen).chain(elsewhere).filter(move |(_, file)| {
        let named = file.facts.as_ref().ok().and_then(|facts| facts.backing_name.as_deref());
        named.is_some_and(|named| names_base(named, &base))
    })
}

/// Findings about files.
pub(super) fn find(records: &Records, seen: &Seen) -> Vec<Finding> {
    let on_disks = on_disks(records, seen);
    let orphans = unknown(records, seen).filter(|(_, file)| !on_disks.contains(&file.path.as_path()));
    let mut found: Vec<Finding> = orphans.map(|(name, file)| of_file(records, seen, name, file)).collect();
    for name in seen.files.keys() {
        let Some(image) = marked(name) else { continue };
        if is_recorded(records, image) || is_explained(records, image) {
            continue;
        }
        found.push(
            orphan(name)
                .seen(format!("{name} is what a merge left; all that it held is in its base"))
                .plan(aside(name))
                .by(Act::SetAside { file: name.clone() }),
        );
    }
    found
}

/// Files that are layers on which QEMU runs a disk, or was last seen to: findings about the disks.
fn on_disks<'a>(records: &'a Records, seen: &'a Seen) -> Vec<&'a Path> {
    let live = seen.machines.values().flat_map(|machine| match machine {
        Machine::Graph(graph) => graph.strange.as_slice(),
        Machine::Silent => &[],
    });
    let live = live.filter_map(|layer| layer.file.as_deref());
    let is_illegal = |disk: &DiskRow| disk.illegal.as_deref().is_some_and(|why| why.starts_with(MISMATCH));
    let is_marked = |row: &&StrangeLayerRow| records.disks.iter().any(|disk| disk.id == row.disk && is_illegal(disk));
    let recorded = records.strange.iter().filter(is_marked).map(|row| row.file.as_path());
    live.chain(recorded).collect()
}

fn orphan(name: &str) -> Finding {
    let object = Object {
        kind: "file",
        id: name.to_owned(),
        name: name.to_owned(),
    };
    Finding::new(FindingKind::OrphanImage, object).recorded("no image of that name")
}

fn aside(name: &str) -> String {
    format!("Keep {name} in orphans/, beside the images: nothing is unlinked.")
}

fn of_file(records: &Records, seen: &Seen, name: &str, file: &File) -> Finding {
    let found = orphan(name);
    let facts = match &file.facts {
        Ok(facts) => facts,
        Err(why) => {
            let act = Act::SetAside { file: name.to_owned() };
            return found
                .seen(format!("it is no image that can be used: {why}"))
                .plan(aside(name))
                .by(act);
        }
    };
    let format = match facts.format {
        ImageFormat::Cow => "qcow2",
        ImageFormat::Raw => "raw",
    };
    let over = facts
        .backing_name
        .as_deref()
        .map_or_else(String::new, |base| format!(", over {base}"));
    let holds = if facts.has_data {
        "holds data"
    } else {
        "holds nothing of its own"
    };
    let found = found.seen(format!(
        "a {format} image of {} bytes{over}, which {holds}",
        facts.size_bytes
    ));
    let found = found.seen(format!("last written {}", moment(file.written_at)));
    let base = facts.backing_name.as_deref().and_then(|named| base_of(records, named));
    let gate = file.gate.as_ref().unwrap_or(&Gate::Busy);
    if *gate == Gate::Busy {
        return found
            .seen("a process has it open")
            .plan("Nothing by itself: end that process, then look again.");
    }
    let writer = base.and_then(|base| records.writer(base.id));
    if let (Gate::Open(parent), None) = (gate, writer) {
        return found
            .plan("Make it a disk of its own, where it is: attach it to a VM, or delete it.")
            .by(Act::Adopt {
                file: name.to_owned(),
                format: facts.format,
                parent: *parent,
            });
    }
    if !facts.has_data {
        let act = Act::SetAside { file: name.to_owned() };
        return found.plan(aside(name)).by(act);
    }
    let Some(base) = base.filter(|base| base.state == ImageState::Live && facts.format == ImageFormat::Cow) else {
        let found = match gate {
            Gate::Shut(why) => found.seen(format!("it cannot become a disk: {why}")),
            _ => found,
        };
        if facts
            .backing_name
            .as_deref()
            .is_some_and(|named| is_unknown(records, seen, named))
        {
            return found.plan("Nothing by itself: first repair what it stands on, then look again.");
        }
        let act = Act::SetAside { file: name.to_owned() };
        return found.plan(aside(name)).by(act);
    };
    if let Some(disk) = writer {
        let found = found.seen(format!(
            "it stands on the image that disk {} writes to; that it is the newer of the two nobody has seen",
            disk.alias
        ));
        if records.held.contains(&disk.id) {
            return found.plan("Nothing by itself: a job holds the disk. Look again when it has ended.");
        }
        let runs = records
            .users_of(disk.id)
            .find(|user| seen.machines.contains_key(&user.vm));
        if let Some(user) = runs {
            return found.plan(format!(
                "Nothing by itself: VM {} writes to what it stands on. Shut the VM down, then look again.",
                user.name
            ));
        }
        return copied(found, name, base, facts.size_bytes);
    }
    copied(found, name, base, facts.size_bytes)
}

fn copied(found: Finding, name: &str, base: &ImageRow, size_bytes: u64) -> Finding {
    found
        .plan("Copy what it shows into a disk of its own: attach that to a VM instead of the other, or delete it.")
        .plan(aside(name))
        .by(Act::Copy {
            file: name.to_owned(),
            below: base.id,
            size_bytes,
        })
}

/// The recorded image that a backing name means.
fn base_of<'a>(records: &'a Records, named: &str) -> Option<&'a ImageRow> {
    let is_it = |row: &&ImageRow| names_base(named, &file_name(row.id, row.format));
    records.images.values().find(is_it)
}

fn is_unknown(records: &Records, seen: &Seen, named: &str) -> bool {
    unknown(records, seen).any(|(name, _)| names_base(named, name))
}
