//! Copies what a chain shows into one new file, by `qemu-img convert`.
//!
//! The target is made by ourselves, as any base is, under its temporary name; the tool fills it and is told that it shows
//! zeros already, so that zeros are not written. The source's layers are named one by one, so no header's backing name is
//! followed, and opened without locks (`-U`): a tool that outlives a killed daemon holds nobody up. What it writes then
//! goes to a file that has no name any more as soon as the job goes on.

use super::{
    LocalImages, blocking,
    fail::fault,
    make::{self, Holds, utf8},
};
use serde_json::{Value, json};
use std::time::Duration;
use stillpoint_engine::ports::{Allocation, Driven, DriverErrorKind, ImageRef, Progress};
use stillpoint_types::ImageFormat;

const OP: &str = "copy an image";
/// What storage must be able to write, bytes a second; slower, and it has hung.
const LEAST_RATE_SHIFT: u32 = 22;

/// See [`stillpoint_engine::ports::Images::copy`].
pub(super) async fn copy(
    images: &LocalImages,
    source: &[ImageRef],
    target: ImageRef,
    (size, allocation): (u64, Allocation),
    progress: Progress<'_>,
) -> Driven<()> {
    let from = format!("json:{}", opened(source)?);
    let driver = driver(target.format);
    let Some(draft) = make::blank(images, target, (size, allocation), Holds::Anything).await? else {
        return Ok(());
    };
    let to = utf8(OP, &draft.path())?;
    let limit = Duration::from_secs(600 + (size >> LEAST_RATE_SHIFT));
    let options = ["convert", "-U", "-p", "-n", "--target-is-zero", "-O", driver, "--"];
    let arguments: Vec<&str> = options.into_iter().chain([from.as_str(), to.as_str()]).collect();
    images.tool.run_telling(OP, &arguments, limit, progress).await?;
    blocking(OP, move || draft.publish()).await
}

fn driver(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Cow => "qcow2",
        ImageFormat::Raw => "raw",
    }
}

/// The chain as QEMU shall open it: every layer by its own file.
fn opened(layers: &[ImageRef]) -> Driven<Value> {
    let mut below = Value::Null;
    for layer in layers {
        let file = json!({ "driver": "file", "filename": utf8(OP, &layer.path)? });
        below = match layer.format {
            ImageFormat::Cow => json!({ "driver": "qcow2", "file": file, "backing": below }),
            ImageFormat::Raw => json!({ "driver": "raw", "file": file }),
        };
    }
    if below.is_null() {
        return Err(fault(DriverErrorKind::InvalidImage, OP, "a chain without layers"));
    }
    Ok(below)
}
