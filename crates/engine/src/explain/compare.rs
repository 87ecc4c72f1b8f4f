//! Recorded against seen.

use super::{
    record::Recorded,
    world::{World, should_live},
};
use crate::view::explain::{ChainSeen, Difference, ImageSeen, Seen};
use stillpoint_types::{ImageId, VmStatus};

pub(super) fn all(recorded: &Recorded, world: &World) -> Vec<Difference> {
    let at_work = recorded.jobs.iter().any(|(row, steps)| {
        // A backup that only waits for its client changes nothing.
        !row.state.is_end() && !crate::backup::is_waiting(row, steps)
    });
    let mut found = Vec::new();
    if let (Some(machine), Some(seen)) = (&recorded.machine, &world.machine) {
        let status = machine.row.status;
        let text = match (&seen.process, should_live(status)) {
            (None, true) if seen.trouble.is_none() => Some(format!("it is recorded as {status}, but has no process")),
            (Some(process), false) if status != VmStatus::PoweringUp => Some(format!(
                "it is recorded as {status}, but process {} of it lives",
                process.pid
            )),
            _ => None,
        };
        found.extend(text.map(|text| difference("vm", &machine.row.id, text, at_work)));
    }
    let mut told: Vec<ImageId> = Vec::new();
    for chain in &world.chains {
        if let Some(text) = graph(chain) {
            found.push(difference("disk", &chain.disk, text, at_work));
        }
        for image in &chain.images {
            // Chains of one VM may share their lower images.
            if told.contains(&image.id) {
                continue;
            }
            told.push(image.id);
            let half = "a merge into it was given up half way: by itself it shows no moment that ever was; what stands on it reads right";
            let half = image.half_merged.then(|| half.to_owned());
            for text in file(image).into_iter().chain(half) {
                let is_being_made = image.state == "creating";
                found.push(difference("image", &image.id, text, at_work || is_being_made));
            }
        }
    }
    found
}

fn difference(kind: &'static str, id: &impl ToString, text: String, job_at_work: bool) -> Difference {
    Difference {
        kind,
        id: id.to_string(),
        text,
        job_at_work,
    }
}

fn graph(chain: &ChainSeen) -> Option<String> {
    let qemu = chain.qemu.as_ref()?;
    let recorded: Vec<ImageId> = chain.images.iter().map(|image| image.id).collect();
    let list = |ids: &[ImageId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (*qemu != recorded).then(|| {
        format!(
            "QEMU has the layers [{}], recorded are [{}]",
            list(qemu),
            list(&recorded)
        )
    })
}

fn file(image: &ImageSeen) -> Vec<String> {
    let facts = match &image.seen {
        Seen::Missing => return vec![format!("its file {} is not there", image.file)],
        Seen::Unreadable(why) => return vec![format!("its file {} cannot be read: {why}", image.file)],
        Seen::Facts(facts) => facts,
    };
    let mut texts = Vec::new();
    if facts.format != image.format {
        texts.push(format!("it is {}, recorded as {}", facts.format, image.format));
    }
    // What is no whole number of sectors is shown to the guest rounded up.
    if facts.size_bytes != image.size_bytes.next_multiple_of(512) && facts.size_bytes != image.size_bytes {
        texts.push(format!(
            "its virtual size is {} bytes, recorded are {}",
            facts.size_bytes, image.size_bytes
        ));
    }
    if facts.backing_name != image.backing {
        let shown = |name: &Option<String>| name.clone().unwrap_or_else(|| "nothing".to_owned());
        texts.push(format!(
            "its header names {} as what it stands on, recorded is {}",
            shown(&facts.backing_name),
            shown(&image.backing)
        ));
    }
    texts
}
