//! Whether the files of disks are still what is recorded: there, of their format, of their size, over their base.
//!
//! Looked at before a machine is started on them or an overlay is laid over them. A file that was removed, replaced, cut
//! or re-based behind our back is told by its name, and nothing is done to it: QEMU itself would follow whatever a
//! header says now, and a guest would write into the wrong history. Headers only are read; nothing is written.

use crate::{engine::Inner, fault::Fault};
use futures_util::{StreamExt, TryStreamExt};
use std::path::Path;
use stillpoint_store::{
    disk,
    image::{self, ImageRow},
};
use stillpoint_types::{DiskId, FaultCode, ImageFormat, ImageId};

/// How many files are looked at at the same time.
const AT_ONCE: usize = 16;

/// Looks at all layers of all these disks.
pub(crate) async fn expect_recorded(engine: &Inner, disks: Vec<DiskId>) -> Result<(), Fault> {
    let chains = engine
        .store
        .read(move |conn| -> Result<Vec<_>, Fault> {
            let mut chains = Vec::with_capacity(disks.len());
            for id in disks {
                let row = disk::get(conn, id)?.ok_or_else(|| Fault::not_found("disk", id))?;
                chains.push((row.alias, image::chain(conn, row.image)?));
            }
            Ok(chains)
        })
        .await?;
    look(engine, &chains).await
}

/// Looks at all layers of the chain that ends in an image; `alias`: of its disk.
pub(crate) async fn expect_chain_recorded(engine: &Inner, alias: &str, top: ImageId) -> Result<(), Fault> {
    let alias = alias.to_owned();
    let read = move |conn: &stillpoint_store::Conn| -> Result<_, Fault> { Ok(image::chain(conn, top)?) };
    let chain = engine.store.read(read).await?;
    look(engine, &[(alias, chain)]).await
}

/// Whether a backing name, as a header has it, means a file of that name in the same directory.
pub(crate) fn names_base(backing: &str, file_name: &str) -> bool {
    Path::new(backing).file_name().is_some_and(|name| name == file_name)
}

async fn look(engine: &Inner, chains: &[(String, Vec<ImageRow>)]) -> Result<(), Fault> {
    let mut looks = Vec::new();
    for (alias, chain) in chains {
        let mut base = None;
        for layer in chain {
            looks.push(one(engine, alias, layer, base.replace(layer)));
        }
    }
    futures_util::stream::iter(looks)
        .buffered(AT_ONCE)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await
}

async fn one(engine: &Inner, alias: &str, layer: &ImageRow, base: Option<&ImageRow>) -> Result<(), Fault> {
    let file = engine.image_ref(layer);
    let refuse = |what: String| {
        let text = format!(
            "Disk {alias} cannot be used: its image file {} {what}. Put the file back as it was; nothing was done to it.",
            file.path.display()
        );
        Fault::new(FaultCode::ImageIllegal, text)
    };
    let facts = engine
        .images
        .inspect(&file.path, Some(layer.format))
        .await
        .map_err(|error| refuse(format!("cannot be read ({})", error.context)).because(error.chain()))?;
    if facts.size_bytes != layer.size_bytes {
        let (has, recorded) = (facts.size_bytes, layer.size_bytes);
        return Err(refuse(format!("holds {has} bytes, but {recorded} are recorded")));
    }
    let named = facts.backing_name.as_deref().map(Path::new).and_then(Path::file_name);
    let recorded = base.map(|base| engine.image_ref(base).path);
    let recorded = recorded.as_deref().and_then(Path::file_name);
    if layer.format == ImageFormat::Cow && named != recorded {
        let shown = |name: Option<&std::ffi::OsStr>| {
            name.map_or_else(|| "none".into(), |name| name.to_string_lossy().into_owned())
        };
        let (has, recorded) = (shown(named), shown(recorded));
        return Err(refuse(format!("names {has} as its base, but {recorded} is recorded")));
    }
    Ok(())
}
