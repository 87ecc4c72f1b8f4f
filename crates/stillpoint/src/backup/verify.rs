//! `stillpoint backup verify`: whether a directory still holds what was written.

use super::{
    Trouble,
    folder::Folder,
    options::VerifyOptions,
    point::{Backing, Disk, MANIFEST, Manifest, OVF, SUMS},
    progress::Progress,
    qcow2::{self, Image, Way},
    run::sha256,
    table::Table,
};
use crate::client::shown::note;
use indicatif::BinaryBytes;
use std::{collections::BTreeMap, fs, path::Path, process::ExitCode};

/// The longest file beside the disks that is read.
const NOTE_MAX_BYTES: u64 = 64 << 20;

/// Verifies a directory and reports.
pub(crate) fn verify(options: &VerifyOptions) -> Result<ExitCode, Trouble> {
    let folder = Folder::open(&options.dir)?;
    let points = match &options.at {
        Some(at) => chain(&folder, folder.choose(Some(at))?)?,
        None => folder.points()?,
    };
    if points.is_empty() {
        return Err(Trouble::new(format!("there is no point in {}", options.dir.display())));
    }
    let progress = Progress::new();
    let mut table = Table::new(&["POINT", "DISK", "MODE", "FILE", "STATE"]);
    let mut problems: Vec<String> = Vec::new();
    for point in &points {
        let mut of_point = notes(&folder, point);
        for disk in &point.disks {
            let found = of_disk(&folder, point, disk, &progress);
            table.row(vec![
                point.number.to_string(),
                disk.alias.clone(),
                if disk.backing.is_some() { "incremental" } else { "full" }.to_owned(),
                BinaryBytes(disk.file_bytes).to_string(),
                if found.is_empty() { "good" } else { "DAMAGED" }.to_owned(),
            ]);
            of_point.extend(found);
        }
        problems.extend(
            of_point
                .into_iter()
                .map(|text| format!("point {}: {text}", point.number)),
        );
    }
    let printed = if options.json {
        let value = serde_json::json!({
            "directory": options.dir, "points": points.len(), "good": problems.is_empty(), "problems": problems,
        });
        super::print(&value.to_string())
    } else {
        super::print(&table.text())
    };
    if problems.is_empty() {
        printed?;
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &problems {
        note(problem);
    }
    note("a point that stands on a damaged one cannot be restored: make a full one, and keep what is good");
    printed?;
    Ok(ExitCode::FAILURE)
}

/// A point and all that it stands on, the oldest first. Each disk may stand on a point of its own.
pub(crate) fn chain(folder: &Folder, point: Manifest) -> Result<Vec<Manifest>, Trouble> {
    let mut all: BTreeMap<String, Manifest> = folder
        .points()?
        .into_iter()
        .map(|point| (point.point.clone(), point))
        .collect();
    let (mut wanted, mut found) = (vec![point.point], Vec::new());
    while let Some(name) = wanted.pop() {
        // Taken out: what is met twice is needed once, and a ring has an end.
        if let Some(point) = all.remove(&name) {
            wanted.extend(
                point
                    .disks
                    .iter()
                    .filter_map(|disk| Some(disk.backing.as_ref()?.point.clone())),
            );
            found.push(point);
        }
    }
    found.sort_by_key(|point| point.number);
    Ok(found)
}

/// Whether points are as they were written; for a restore, which says only what is wrong.
pub(crate) fn problems(folder: &Folder, points: &[Manifest], progress: &Progress) -> Vec<String> {
    let of_point = |point: &Manifest| {
        let disks = point
            .disks
            .iter()
            .flat_map(|disk| of_disk(folder, point, disk, progress));
        let all = notes(folder, point).into_iter().chain(disks.collect::<Vec<_>>());
        all.map(|text| format!("point {}: {text}", point.number))
            .collect::<Vec<_>>()
    };
    points.iter().flat_map(of_point).collect()
}

/// What is wrong with the manifest and its companions.
fn notes(folder: &Folder, point: &Manifest) -> Vec<String> {
    let mut wrong = Vec::new();
    let sums = match small(&folder.file(&point.point, SUMS)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(text) => return vec![text],
    };
    let sums: BTreeMap<&str, &str> = sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, file)| (file, sum))
        .collect();
    for (file, is_there) in [(MANIFEST, true), (OVF, point.has_ovf)] {
        if !is_there {
            continue;
        }
        match small(&folder.file(&point.point, file)) {
            Ok(bytes) if sums.get(file) == Some(&sha256(&bytes).as_str()) => {}
            Ok(_) => wrong.push(format!("{file} was changed: it has another digest than {SUMS} says")),
            Err(text) => wrong.push(text),
        }
    }
    for disk in &point.disks {
        if sums.get(disk.file.as_str()) != Some(&disk.sha256.as_str()) {
            wrong.push(format!("{SUMS} and the manifest differ about {}", disk.file));
        }
    }
    wrong
}

fn small(path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        if fs::metadata(path)?.len() > NOTE_MAX_BYTES {
            return Err(std::io::Error::other("it is too long"));
        }
        fs::read(path)
    };
    read().map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// What is wrong with a disk's file: structure, place in its chain, digests.
fn of_disk(folder: &Folder, point: &Manifest, disk: &Disk, progress: &Progress) -> Vec<String> {
    let path = folder.file(&point.point, &disk.file);
    let image = match Image::open(&path) {
        Ok(image) => image,
        Err(error) => return vec![Trouble::from(error).chain()],
    };
    let mut wrong = Vec::new();
    let wanted = disk.backing.as_ref().map(Backing::name);
    if image.backing() != wanted.as_deref() {
        wrong.push(format!(
            "{} stands on {:?} instead of {wanted:?}",
            disk.file,
            image.backing()
        ));
    }
    if image.map().size_bytes() != disk.size_bytes {
        let size = image.map().size_bytes();
        wrong.push(format!(
            "{} holds a disk of {size} bytes instead of {}",
            disk.file, disk.size_bytes
        ));
    }
    if let Some(backing) = &disk.backing {
        wrong.extend(below(folder, point, disk, backing));
    }
    let bar = progress.begin(format!("{} of point {}", disk.alias, point.number), disk.file_bytes);
    let digests = qcow2::digest(&image, None, Way::Direct, |bytes| bar.add(bytes));
    bar.end();
    match digests {
        Ok(now) if now.file == disk.sha256 && now.content == disk.content_sha256 => {}
        Ok(_) => wrong.push(format!(
            "{} was changed: it has another digest than the manifest says",
            disk.file
        )),
        Err(error) => wrong.push(Trouble::from(error).chain()),
    }
    wrong
}

/// What is wrong with what a file stands on: that it is there, is of the same disk, and is older.
fn below(folder: &Folder, point: &Manifest, disk: &Disk, backing: &Backing) -> Option<String> {
    let points = match folder.points() {
        Ok(points) => points,
        Err(trouble) => return Some(trouble.chain()),
    };
    let found = points.into_iter().find(|below| below.point == backing.point);
    let Some(found) = found else {
        return Some(format!(
            "{} stands on point {}, which is not there",
            disk.file, backing.point
        ));
    };
    let is_good = found.number < point.number
        && found
            .disks
            .iter()
            .any(|below| below.id == disk.id && below.file == backing.file);
    (!is_good).then(|| {
        format!(
            "{} stands on {}, which is not an older point of this disk",
            disk.file,
            backing.name()
        )
    })
}
