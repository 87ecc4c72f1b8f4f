//! One file of a chain: what it says of a place of the disk.

use crate::{
    Damage, Header, Patience, ReadError,
    chain::{OpenError, Place},
    deflate,
    entry::{COPIED, Kind, OFFSET_MASK, Packed, SUBCLUSTERS, kind},
    input::Input,
    lock,
    source::u64_at,
    tables::{Key, Tables},
};
use std::{io, sync::Arc};

/// A piece of a table that is read at once, at most.
const PIECE_BYTES: u64 = 64 << 10;

/// An open file of a chain.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Its number in the chain, for the cache.
    number: usize,
    pub(crate) input: Input,
    /// None: a raw file.
    header: Option<Header>,
    pub(crate) size_bytes: u64,
}

impl Layer {
    pub(crate) fn open(number: usize, place: &Place) -> Result<Self, OpenError> {
        let input = Input::open(&place.path)?;
        if !lock::take(input.file())? {
            return Err(OpenError::Busy);
        }
        if place.is_raw {
            // QEMU shows whole sectors.
            let size_bytes = input.length().checked_next_multiple_of(512);
            return Ok(Self {
                number,
                size_bytes: size_bytes.ok_or(OpenError::Unsupported("a length beyond all bounds"))?,
                input,
                header: None,
            });
        }
        let header = Header::read(&input).map_err(|error| match error {
            ReadError::Io(error) => OpenError::Io(error),
            ReadError::Damage(damage) => OpenError::Damage(damage),
        })?;
        if header.is_corrupt {
            return Err(OpenError::Unsupported("it is marked corrupt"));
        }
        if header.is_zstd {
            return Err(OpenError::Unsupported("its compression is zstd"));
        }
        let l1_end = (u64::from(header.l1_entries) * 8).checked_add(header.l1_offset);
        let is_outside = l1_end.is_none_or(|end| end > input.length());
        if header.l1_entries > 0 && (header.l1_offset == 0 || is_outside) {
            return Err(OpenError::Damage(Damage::L1Table(header.l1_offset)));
        }
        Ok(Self {
            number,
            size_bytes: header.size_bytes,
            input,
            header: Some(header),
        })
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.header.is_none()
    }

    /// What stands at `at`, and for how many bytes the same does (`Data`: one after the other in the file). `at` is before
    /// `end`, `end` not behind this layer's end. At least one byte; perhaps not all that is alike.
    pub(crate) fn run(&self, at: u64, end: u64, tables: &Tables, patience: Patience) -> Result<(Kind, u64), ReadError> {
        match &self.header {
            None => Ok((Kind::Data(at), end - at)),
            Some(header) => Walk {
                layer: self,
                header,
                tables,
                patience,
            }
            .run(at, end),
        }
    }

    /// The content of a compressed cluster.
    pub(crate) fn unpacked(&self, packed: Packed, tables: &Tables, patience: Patience) -> Result<Arc<[u8]>, ReadError> {
        let Some(header) = &self.header else {
            return Err(io::Error::other("a raw file with a compressed cluster").into());
        };
        tables.get(Key::Cluster(self.number, packed.at), || {
            if patience == Patience::Now {
                // It takes as long as a storage does.
                return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
            }
            let there = self.input.length().saturating_sub(packed.at).min(packed.bytes);
            let mut bytes = vec![0; usize::try_from(there).map_err(io::Error::other)?];
            self.input.read(&mut bytes, packed.at, patience)?;
            let mut cluster = vec![0; 1 << header.cluster_bits];
            deflate::unpack(&bytes, &mut cluster, packed)?;
            Ok(cluster.into())
        })
    }

    /// Bytes of one compressed cluster.
    pub(crate) fn cluster_bytes(&self) -> u64 {
        self.header.as_ref().map_or(1, |header| 1 << header.cluster_bits)
    }
}

/// A walk through the tables of a qcow2 file.
#[derive(Clone, Copy)]
struct Walk<'a> {
    layer: &'a Layer,
    header: &'a Header,
    tables: &'a Tables,
    patience: Patience,
}

impl Walk<'_> {
    fn piece(&self, at: u64, bytes: u64) -> Result<Arc<[u8]>, ReadError> {
        self.tables.get(Key::Table(self.layer.number, at), || {
            let mut piece = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
            self.layer.input.read(&mut piece, at, self.patience)?;
            Ok(piece.into())
        })
    }

    fn run(&self, at: u64, end: u64) -> Result<(Kind, u64), ReadError> {
        let per_table = self.header.bytes_per_l2();
        let index = at / per_table;
        let table = self.l1_entry(index)?;
        if table != 0 {
            return self.in_table(table, at, end.min((index + 1).saturating_mul(per_table)));
        }
        // As far as the same piece of L1 goes.
        let last = (index | (PIECE_BYTES / 8 - 1)).min((end - 1) / per_table);
        let mut stop = index + 1;
        while stop <= last && self.l1_entry(stop)? == 0 {
            stop += 1;
        }
        Ok((Kind::Unallocated, stop.saturating_mul(per_table).min(end) - at))
    }

    /// Where a table lies; 0: there is none.
    fn l1_entry(&self, index: u64) -> Result<u64, ReadError> {
        let l1 = self.header.l1_offset;
        // The header was accepted only with a table that maps all of the disk, and lies within the file.
        let l1_bytes = u64::from(self.header.l1_entries) * 8;
        let begin = index * 8 / PIECE_BYTES * PIECE_BYTES;
        let piece = self.piece(l1 + begin, PIECE_BYTES.min(l1_bytes.saturating_sub(begin)))?;
        let word = usize::try_from(index * 8 - begin)
            .ok()
            .and_then(|at| u64_at(&piece, at));
        let word = word.ok_or(Damage::L1Table(l1))?;
        let (table, cluster) = (word & OFFSET_MASK, 1_u64 << self.header.cluster_bits);
        let is_outside = || {
            table
                .checked_add(cluster)
                .is_none_or(|end| end > self.layer.input.length())
        };
        if word & !(OFFSET_MASK | COPIED) != 0 || !table.is_multiple_of(cluster) || table != 0 && is_outside() {
            return Err(Damage::L1Entry(word).into());
        }
        Ok(table)
    }

    /// `end` is within the table.
    fn in_table(&self, table: u64, at: u64, end: u64) -> Result<(Kind, u64), ReadError> {
        let header = self.header;
        let cluster = 1_u64 << header.cluster_bits;
        let entry_bytes = if header.extended_l2 { 16 } else { 8 };
        let per_entry = if header.extended_l2 { SUBCLUSTERS } else { 1 };
        let grain = cluster / per_entry;
        let first = at % header.bytes_per_l2() / cluster * entry_bytes;
        let piece_bytes = PIECE_BYTES.min(cluster);
        let begin = first / piece_bytes * piece_bytes;
        let piece = self.piece(table + begin, piece_bytes)?;
        let mut entry_at = usize::try_from(first - begin).map_err(io::Error::other)?;
        let mut sub = at % cluster / grain;
        // Where the grain that is looked at begins.
        let mut place = at - at % grain;
        let mut found: Option<Kind> = None;
        while place < end {
            let Some(word) = u64_at(&piece, entry_at) else { break };
            let extended = match header.extended_l2 {
                true => u64_at(&piece, entry_at + 8).map(|bits| (bits, sub)),
                false => None,
            };
            let next = kind(header, self.layer.input.length(), word, extended)?;
            match (found, next) {
                (None, Kind::Compressed(_)) => {
                    let stop = (place - place % cluster).saturating_add(cluster);
                    return Ok((next, stop.min(end) - at));
                }
                (None, _) => found = Some(next),
                (Some(Kind::Unallocated), Kind::Unallocated) | (Some(Kind::Zero), Kind::Zero) => {}
                (Some(Kind::Data(from)), Kind::Data(here))
                    if Some(here) == from.checked_add(place - (at - at % grain)) => {}
                _ => break,
            }
            place = place.saturating_add(grain);
            sub += 1;
            if sub == per_entry {
                sub = 0;
                entry_at += if header.extended_l2 { 16 } else { 8 };
            }
        }
        let length = place.min(end) - at;
        match found {
            Some(Kind::Data(from)) => Ok((Kind::Data(from + at % grain), length)),
            Some(other) => Ok((other, length)),
            None => Err(Damage::L2Tables.into()),
        }
    }
}
