//! From a ticket into a file: the extents first, then the data of one area of the disk after the other, several at once.
//!
//! A connection that breaks is made again, and goes on at the byte where it broke. What came is checked as it came, so
//! that it can be compared with what the file holds afterwards. An area's bytes are put together in aligned memory, as
//! much as there are connections, and go from there to the disk in one piece.

use super::{
    Trouble, blocking,
    progress::Bar,
    qcow2::{self, AREA_BYTES, Buffer, CLUSTER_BYTES, Checks, Kind, Map, MapBuilder, Mode, Run, Writer},
    retry::Patience,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::sync::{Arc, Mutex, PoisonError};
use stillpoint_sdk::{Error, ExtentContext, ImageClient};

/// Why there is no map.
#[derive(Debug)]
pub(crate) enum NoMap {
    /// The server does not know what changed on this disk.
    NotTracked,
    Trouble(Trouble),
}

impl<E: Into<Trouble>> From<E> for NoMap {
    fn from(error: E) -> Self {
        Self::Trouble(error.into())
    }
}

/// Asks the server what is to be taken of a disk.
pub(crate) async fn map_of(image: &ImageClient, size_bytes: u64, mode: Mode) -> Result<Map, NoMap> {
    let context = match mode {
        Mode::Full => ExtentContext::Zero,
        Mode::Incremental => ExtentContext::Dirty,
    };
    let mut patience = Patience::default();
    loop {
        // From the begin: a list that broke off cannot be asked for in part.
        let mut builder = MapBuilder::new(size_bytes, mode)?;
        let broken = async {
            let mut extents = image.extents(context).await?;
            while let Some(extent) = extents.next().await? {
                builder.push(&extent).map_err(Stop::File)?;
            }
            Ok(())
        };
        match broken.await {
            Ok(()) => return Ok(builder.finish()?),
            Err(Stop::File(error)) => return Err(error.into()),
            Err(Stop::Server(Error::NotFound(_))) if mode == Mode::Incremental => return Err(NoMap::NotTracked),
            Err(Stop::Server(error)) => patience.after(error).await?,
        }
    }
}

enum Stop {
    Server(Error),
    File(qcow2::Qcow2Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// Of areas that are read together, so much data: as much as one area can have.
const TOGETHER_CLUSTERS: u64 = qcow2::AREA_CLUSTERS;
/// And so many ranges, if the server takes them.
const TOGETHER_RANGES: usize = 1024;

/// An area of the disk, and its parts.
type Area = (u64, Vec<Run>);

fn data_parts(parts: &[Run]) -> impl Iterator<Item = &Run> {
    parts.iter().filter(|part| part.kind == Kind::Data)
}

/// Puts areas together that have little data each, for a server that reads many ranges at once.
fn together(areas: impl Iterator<Item = Area>, many_ranges: usize) -> impl Iterator<Item = Vec<Area>> {
    let mut areas = areas.peekable();
    std::iter::from_fn(move || {
        let (mut clusters, mut ranges) = (0, 0);
        let mut fits = |(_, parts): &Area| {
            clusters += data_parts(parts).map(|part| part.count).sum::<u64>();
            ranges += data_parts(parts).count();
            clusters <= TOGETHER_CLUSTERS && ranges <= many_ranges.min(TOGETHER_RANGES)
        };
        let first = areas.next()?;
        // It is read in any case.
        fits(&first);
        let mut found = vec![first];
        while let Some(area) = areas.next_if(&mut fits) {
            found.push(area);
        }
        Some(found)
    })
}

/// Memory for what is read together, used again.
#[derive(Debug, Default)]
struct Buffers(Mutex<Vec<Buffer>>);

impl Buffers {
    fn take(&self) -> Buffer {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Buffer::new(AREA_BYTES))
    }

    fn give_back(&self, mut buffer: Buffer) {
        buffer.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Reads all data of the writer's map, over several connections; returns the checks of what came.
/// `many_ranges`: so many at once, if the server can; else 0.
pub(crate) async fn download(
    image: &ImageClient,
    writer: &Arc<Writer>,
    connections: usize,
    many_ranges: usize,
    bar: &Bar<'_>,
) -> Result<Checks, Trouble> {
    let (whole, buffers) = (usize::try_from(CLUSTER_BYTES).expect("64 KiB"), &Buffers::default());
    let fetched = stream::iter(together(qcow2::areas(writer.map()), many_ranges))
        .map(|areas| async move {
            let of_part = |part: &Run| {
                let offset = part.first * CLUSTER_BYTES;
                (offset, writer.map().byte_end(part.end()) - offset)
            };
            let parts = areas.iter().flat_map(|(_, parts)| data_parts(parts));
            let ranges: Vec<_> = parts.map(of_part).collect();
            let mut data = buffers.take();
            for ranges in ranges.chunks(many_ranges.max(1)) {
                read(image, ranges, &mut data, bar).await?;
            }
            // The disk's last cluster may be a part of one.
            data.pad(whole);
            let writer = Arc::clone(writer);
            let (checks, data) = blocking(move || {
                // Before it is written: what is damaged on the way shall differ.
                let checks = checks(&areas, data.bytes());
                // All data of a file lies in the order of the disk, so that of areas that follow each other is one piece.
                let mut parts = areas.iter().flat_map(|(_, parts)| data_parts(parts));
                if let Some(first) = parts.next() {
                    writer.write_data(first.data_index, data.bytes())?;
                }
                Ok((checks, data))
            })
            .await?;
            buffers.give_back(data);
            Ok::<_, Trouble>(checks)
        })
        .buffer_unordered(connections);
    let all = fetched.try_fold(Checks::default(), |mut all, checks| {
        for (area, check) in checks {
            all.insert(area, check);
        }
        std::future::ready(Ok(all))
    });
    all.await
}

/// The check of each area, from the data of all of them.
fn checks(areas: &[Area], mut data: &[u8]) -> Vec<(u64, u32)> {
    let mut checks = Vec::with_capacity(areas.len());
    for (area, parts) in areas {
        let clusters: u64 = data_parts(parts).map(|part| part.count).sum();
        let length = usize::try_from(clusters * CLUSTER_BYTES).expect("an area has 4 MiB");
        let (of_area, rest) = data.split_at(length);
        checks.push((*area, qcow2::check(parts, of_area)));
        data = rest;
    }
    checks
}

/// What is left of ranges (offset and length) after their first `done` bytes.
fn left_of(ranges: &[(u64, u64)], mut done: u64) -> Vec<(u64, u64)> {
    let mut left = Vec::with_capacity(ranges.len());
    for &(offset, length) in ranges {
        let skipped = done.min(length);
        done -= skipped;
        if skipped < length {
            left.push((offset + skipped, length - skipped));
        }
    }
    left
}

/// Appends the bytes of these ranges of the disk to `data`, going on after broken connections.
async fn read(image: &ImageClient, ranges: &[(u64, u64)], data: &mut Buffer, bar: &Bar<'_>) -> Result<(), Trouble> {
    let (begin, mut patience) = (data.len(), Patience::default());
    loop {
        let left = left_of(ranges, (data.len() - begin) as u64);
        let Some(&(offset, length)) = left.first() else {
            return Ok(());
        };
        let broken = async {
            let mut body = match left.len() {
                1 => image.read(offset, length).await?,
                _ => image.read_many(&left).await?,
            };
            while let Some(bytes) = body.next().await? {
                data.extend(&bytes);
                bar.add(bytes.len() as u64);
                patience.renew();
            }
            Ok(())
        };
        if let Err(error) = broken.await {
            let told = format!("a connection broke ({error}); going on");
            patience.after(error).await.map_err(|error| {
                let what = format!("reading {length} bytes at {offset} of the disk failed");
                Trouble::from(error).context(what)
            })?;
            bar.say(&told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(kinds: &[u8]) -> Map {
        let mut builder = MapBuilder::new(kinds.len() as u64 * CLUSTER_BYTES, Mode::Incremental).unwrap();
        for (start, kind) in (0..).zip(kinds) {
            let extent = stillpoint_sdk::Extent {
                start: start * CLUSTER_BYTES,
                length: CLUSTER_BYTES,
                is_zero: *kind == 1,
                is_dirty: *kind > 0,
            };
            builder.push(&extent).unwrap();
        }
        builder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn areas_that_are_read_together_are_all_areas_in_order_and_not_too_much(
            kinds in prop::collection::vec(0..4_u8, 1..1500), many in 0..200_usize
        ) {
            let map = map(&kinds);
            let groups: Vec<_> = together(qcow2::areas(&map), many).collect();
            for group in groups.iter().filter(|group| group.len() > 1) {
                let parts = || group.iter().flat_map(|(_, parts)| data_parts(parts));
                prop_assert!(parts().count() <= many);
                prop_assert!(parts().map(|part| part.count).sum::<u64>() <= qcow2::AREA_CLUSTERS);
            }
            for group in &groups {
                let parts: Vec<_> = group.iter().flat_map(|(_, parts)| data_parts(parts)).collect();
                for pair in parts.windows(2) {
                    prop_assert_eq!(pair[0].data_index + pair[0].count, pair[1].data_index);
                }
            }
            let all: Vec<_> = groups.into_iter().flatten().collect();
            let expected: Vec<_> = qcow2::areas(&map).collect();
            prop_assert_eq!(all.len(), expected.len());
            for ((area, parts), (expected, of)) in all.iter().zip(&expected) {
                prop_assert_eq!(area, expected);
                prop_assert_eq!(format!("{parts:?}"), format!("{of:?}"));
            }
        }

        #[test]
        fn after_a_break_exactly_what_is_missing_is_left(
            lengths in prop::collection::vec((1..9_u64, 0..9_u64), 1..20), done in 0..200_u64
        ) {
            let mut at = 0;
            let ranges: Vec<(u64, u64)> = lengths.iter().map(|(length, gap)| {
                let range = (at, *length);
                at += length + gap;
                range
            }).collect();
            let bytes = |ranges: &[(u64, u64)]| -> Vec<u64> {
                ranges.iter().flat_map(|(offset, length)| *offset..offset + length).collect()
            };
            let all = bytes(&ranges);
            let skipped = usize::try_from(done).unwrap().min(all.len());
            prop_assert_eq!(bytes(&left_of(&ranges, done)), &all[skipped..]);
        }
    }
}
