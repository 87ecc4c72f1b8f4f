//! The bitmap directory: which persistent dirty bitmaps a file stores, without their content.

use super::{Damage, Header, ReadError, Source};
use stillpoint_engine::ports::StoredBitmap;
use stillpoint_qcow2::{
    header::text,
    source::{u16_at, u32_at, u64_at},
};

/// Longest directory that is read, bytes. QEMU allows 64 MiB; 4 MiB hold over 4,000 bitmaps with the longest names.
pub const DIRECTORY_BYTES_MAX: u64 = 4 << 20;

const ENTRY_BYTES: usize = 24;
const IN_USE: u32 = 1;
const AUTO: u32 = 1 << 1;
const KNOWN_FLAGS: u32 = 7;
const NAME_MAX: usize = 1_023;

/// Reads the directory that `header` points to; empty when there is none.
///
/// # Errors
/// [`Damage::BitmapDirectory`], or the storage's.
pub fn read(source: &impl Source, header: &Header) -> Result<Vec<StoredBitmap>, ReadError> {
    let Some(place) = header.bitmaps else {
        return Ok(Vec::new());
    };
    let bad = Damage::BitmapDirectory;
    if place.bytes > DIRECTORY_BYTES_MAX {
        return Err(bad("longer than 4 MiB").into());
    }
    let end = place.offset.checked_add(place.bytes).ok_or(bad("outside the file"))?;
    if place.offset == 0 || !place.offset.is_multiple_of(1 << header.cluster_bits) || end > source.length()? {
        return Err(bad("outside the file or unaligned").into());
    }
    let length = usize::try_from(place.bytes).map_err(|_too_big| bad("longer than 4 MiB"))?;
    let mut bytes = vec![0; length];
    source.read_padded(&mut bytes, place.offset)?;
    let mut found = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (bitmap, length) = entry(rest).map_err(bad)?;
        found.push(bitmap);
        rest = rest.get(length..).ok_or(bad("an entry runs over the end"))?;
    }
    if u64::try_from(found.len()).ok() != Some(u64::from(place.count)) {
        return Err(bad("not as many entries as the header says").into());
    }
    Ok(found)
}

/// The entry at the beginning of `bytes`, and its padded length.
fn entry(bytes: &[u8]) -> Result<(StoredBitmap, usize), &'static str> {
    const CUT: &str = "an entry runs over the end";
    let flags = u32_at(bytes, 12).ok_or(CUT)?;
    let kind = *bytes.get(16).ok_or(CUT)?;
    let granularity_bits = *bytes.get(17).ok_or(CUT)?;
    let name_length = usize::from(u16_at(bytes, 18).ok_or(CUT)?);
    let extra = u32_at(bytes, 20).ok_or(CUT)?;
    let table_at = u64_at(bytes, 0).ok_or(CUT)?;
    if kind != 1 || flags & !KNOWN_FLAGS != 0 || extra != 0 || !table_at.is_multiple_of(512) {
        return Err("an entry has an unknown type, flag or extra data");
    }
    if !(9..=31).contains(&granularity_bits) {
        return Err("an entry has an impossible granularity");
    }
    let name = bytes.get(ENTRY_BYTES..ENTRY_BYTES + name_length).ok_or(CUT)?;
    let name = text(name, NAME_MAX).ok_or("a name is too long or no text")?;
    if name.is_empty() {
        return Err("a name is empty");
    }
    let bitmap = StoredBitmap {
        name,
        granularity_bytes: 1 << granularity_bits,
        in_use: flags & IN_USE != 0,
        recording: flags & AUTO != 0,
    };
    Ok((bitmap, (ENTRY_BYTES + name_length).next_multiple_of(8)))
}
