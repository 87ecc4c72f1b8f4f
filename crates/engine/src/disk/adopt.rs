//! Adopts an image file that lies in the storage domain's directory as a new disk.
//!
//! The file's name holds the image's id: `IMAGE.qcow2` or `IMAGE.raw`. What may become an image is decided by the gate
//! ([`crate::ports::Images::gate`]): its header's names are followed only to images that are recorded already, so that
//! the new disk takes its place in the tree and a hostile file can name nothing else.

use super::create::insert;
use crate::{
    command::{Accepted, AdoptDisk, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::Actor,
    limits,
    ports::DriverErrorKind,
    view::UnregisteredView,
};
use std::{path::Path, sync::Arc};
use stillpoint_store::{
    Conn, Tx,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
};
use stillpoint_types::{Caller, DiskId, DomainId, FaultCode, ImageFormat, ImageId, now_micros};

/// Files of the directory that are looked at for one list.
const FILES_MAX: usize = 10_000;

/// The image id in a file's name, and the format of its ending.
fn image_of_name(name: &str) -> Option<(ImageId, ImageFormat)> {
    let (stem, ending) = name.rsplit_once('.')?;
    let format = match ending {
        "qcow2" => ImageFormat::Cow,
        "raw" => ImageFormat::Raw,
        _ => return None,
    };
    Some((stem.parse().ok()?, format))
}

/// The recorded images that a file's backing name may lead to, and its own if that is recorded.
fn known(conn: &Conn, own: ImageId, backing_name: Option<&str>) -> Result<Vec<ImageRow>, Fault> {
    let named = backing_name
        .and_then(|name| name.rsplit('/').next())
        .and_then(image_of_name);
    let mut rows = match named {
        Some((id, _)) => image::chain(conn, id)?,
        None => Vec::new(),
    };
    rows.extend(image::get(conn, own)?);
    Ok(rows)
}

pub(crate) async fn adopt(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: AdoptDisk,
) -> Result<Accepted<DiskId>, Fault> {
    super::view::expect_domain(engine, command.domain)?;
    if !who.is_admin {
        // A file in the directory belongs to nobody yet: whoever adopts it decides whose it is.
        let text =
            "Adopting image files is for administrators: they can name files that other projects' disks stand on.";
        return Err(Fault::new(FaultCode::Forbidden, text));
    }
    limits::text("description", &command.description, limits::TEXT_MAX)?;
    if let Some(alias) = &command.alias {
        limits::name("alias", alias)?;
    }
    let file = engine.image_file(command.image, command.format);
    let hint = (command.format == ImageFormat::Raw).then_some(ImageFormat::Raw);
    let facts = engine
        .images
        .inspect(&file.path, hint)
        .await
        .map_err(|error| refused(error, &file.path))?;
    let (image, backing_name) = (command.image, facts.backing_name);
    let rows = engine
        .store
        .read(move |conn| known(conn, image, backing_name.as_deref()))
        .await?;
    let known: Vec<_> = rows.iter().map(|row| engine.image_ref(row)).collect();
    let name = file
        .path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let adoptable = engine
        .images
        .gate(&engine.domain_path(), &name, command.format, &known)
        .await
        .map_err(|error| refused(error, &file.path))?;
    let (project, actor, domain) = (who.home_project, Actor::of(who, origin), engine.domain.id);
    let id = command.id.unwrap_or_else(DiskId::fresh);
    let row = DiskRow {
        id,
        project,
        domain,
        alias: command.alias.unwrap_or_else(|| format!("disk-{id}")),
        description: command.description,
        size_bytes: adoptable.facts.size_bytes,
        sparse: adoptable.facts.actual_bytes < adoptable.facts.size_bytes,
        image: command.image,
        illegal: None,
        created_at: now_micros(),
    };
    let image = ImageRow {
        id: command.image,
        disk: id,
        parent: adoptable.parent,
        domain,
        format: command.format,
        size_bytes: adoptable.facts.size_bytes,
        state: ImageState::Live,
        created_at: row.created_at,
    };
    engine.store.write(move |tx| record(tx, &actor, &image, &row)).await?;
    Ok(Accepted { id, job: None })
}

pub(crate) fn record(tx: &Tx, actor: &Actor, image: &ImageRow, row: &DiskRow) -> Result<(), Fault> {
    if let Some(parent) = image.parent {
        // Between the gate and this transaction the parent may have been merged, doomed or written to.
        let unchanged = image::get(tx, parent)?.is_some_and(|row| row.state == ImageState::Live);
        let (writers, _) = image::names(tx, parent)?;
        if !unchanged || !writers.is_empty() {
            return Err(Fault::new(
                FaultCode::ImageRefused,
                format!(
                    "Image {} stands on image {parent}, which a disk writes to or which is being removed.",
                    image.id
                ),
            ));
        }
    }
    insert(tx, image, row)?;
    disk::get(tx, row.id)?;
    let text = format!(
        "The disk {} was successfully added from its image file {}.",
        row.alias, image.id
    );
    Event::new(What::DiskAdded, text)
        .by(actor)
        .disk(row.project, row.id, &row.alias)
        .write(tx)
}

fn refused(error: crate::ports::DriverError, path: &Path) -> Fault {
    let code = match error.kind {
        DriverErrorKind::InvalidImage | DriverErrorKind::Busy => FaultCode::ImageRefused,
        DriverErrorKind::NotFound => FaultCode::RelatedNotFound,
        _ => return error.into(),
    };
    let text = format!("Cannot adopt {}: {}", path.display(), error.chain());
    Fault::new(code, text)
}

/// Lists the image files that belong to no disk, each with what its header says.
pub(crate) async fn unregistered(
    engine: &Arc<Inner>,
    who: &Caller,
    id: DomainId,
) -> Result<Vec<UnregisteredView>, Fault> {
    super::view::expect_domain(engine, id)?;
    if !who.is_admin {
        return Ok(Vec::new());
    }
    let directory = engine.domain_path();
    let names = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&directory)?.take(FILES_MAX);
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    })
    .await
    .map_err(Fault::internal)?
    .map_err(|error| Fault::new(FaultCode::Storage, "The storage domain's directory cannot be read.").because(error))?;
    let mut found: Vec<_> = names.iter().filter_map(|name| image_of_name(name)).collect();
    found.sort_unstable();
    let unknown = engine
        .store
        .read(move |conn| -> Result<Vec<_>, Fault> {
            let mut unknown = Vec::new();
            for (image, format) in found {
                if image::get(conn, image)?.is_none() {
                    unknown.push((image, format));
                }
            }
            Ok(unknown)
        })
        .await?;
    let mut views = Vec::with_capacity(unknown.len());
    for (image, format) in unknown {
        let hint = (format == ImageFormat::Raw).then_some(format);
        let facts = engine
            .images
            .inspect(&engine.image_file(image, format).path, hint)
            .await;
        let (facts, refused) = match facts {
            Ok(facts) => (Some(facts), None),
            Err(error) => (None, Some(error.chain())),
        };
        views.push(UnregisteredView {
            image,
            format,
            size_bytes: facts.as_ref().map_or(0, |f| f.size_bytes),
            actual_bytes: facts.as_ref().map_or(0, |f| f.actual_bytes),
            refused,
        });
    }
    Ok(views)
}
