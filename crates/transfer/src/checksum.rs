//! GET `/images/{ticket}/checksum`: the block checksum of imageio, so that a client can compare with its own copy.
//!
//! The disk is cut into blocks of one size, the last may be shorter; the checksum is the hash of the blocks' hashes. A
//! block of zeroes is not read if the extents tell, and its hash is computed once. (imageio: `_internal/blkhash.py`.)

use crate::{
    http::{Visit, json},
    refusal::Refusal,
    registry::{Need, Operation, Registry, Stopped},
    source::{Context, Extent, Source},
};
use axum::body::Body;
use blake2::{Blake2b256, Blake2s256};
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use http::{Response, StatusCode};
use serde_json::json as value;
use sha2::{Sha224, Sha256, Sha384, Sha512, digest::DynDigest};
use std::{collections::VecDeque, fmt::Write as _};
use stillpoint_engine::ports::{DriverError, DriverErrorKind};

const BLOCK_BYTES: u64 = 4 * 1024 * 1024;
const BLOCK_MIN_BYTES: u64 = BLOCK_BYTES / 4;
const BLOCK_MAX_BYTES: u64 = BLOCK_BYTES * 4;

/// Blocks that are read and hashed side by side.
const BLOCKS_AHEAD: usize = 3;

type Hasher = Box<dyn DynDigest + Send>;

/// A hash that can be computed: its name as Python's `hashlib` has it.
type Algorithm = (&'static str, fn() -> Hasher);

fn hasher<D: DynDigest + Default + Send + 'static>() -> Hasher {
    Box::<D>::default()
}

/// BLAKE2 with 32 bytes, as imageio has it.
const ALGORITHMS: [Algorithm; 6] = [
    ("blake2b", hasher::<Blake2b256>),
    ("blake2s", hasher::<Blake2s256>),
    ("sha224", hasher::<Sha224>),
    ("sha256", hasher::<Sha256>),
    ("sha384", hasher::<Sha384>),
    ("sha512", hasher::<Sha512>),
];

/// What can be asked for; needs no ticket.
pub(crate) fn algorithms() -> Response<Body> {
    json(&value!({ "algorithms": ALGORITHMS.map(|(name, _)| name) }))
}

pub(crate) async fn get(registry: &Registry, id: &str, visit: &Visit) -> Result<Response<Body>, Refusal> {
    let name = visit.choice("algorithm", &ALGORITHMS.map(|(name, _)| name), "blake2b")?;
    let algorithm = ALGORITHMS
        .into_iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| Refusal::bad("Unsupported algorithm"))?;
    let block_bytes = match visit.query.get("block_size") {
        None => BLOCK_BYTES,
        Some(text) => text.parse().map_err(|_no_number| Refusal::bad("Invalid block size"))?,
    };
    if !(BLOCK_MIN_BYTES..=BLOCK_MAX_BYTES).contains(&block_bytes) {
        let text = format!("Block size out of allowed range: {BLOCK_MIN_BYTES}-{BLOCK_MAX_BYTES}");
        return Err(Refusal::bad(text));
    }
    if !block_bytes.is_multiple_of(4096) {
        return Err(Refusal::bad("Block size is not aligned to 4096"));
    }
    let op = registry.begin(id, Need::Read)?;
    let gone = op.token().drop_guard();
    let computing = tokio::spawn(async move {
        match compute(&op, algorithm, block_bytes).await {
            Ok(checksum) => {
                op.end_well();
                Ok(checksum)
            }
            Err(stopped) => {
                let refusal = Refusal::from(&stopped);
                op.end_badly(&stopped);
                Err(refusal)
            }
        }
    });
    let lost = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The operation was ended");
    let checksum = computing.await.map_err(lost)?;
    drop(gone.disarm());
    let checksum = checksum?;
    Ok(json(
        &value!({ "algorithm": name, "block_size": block_bytes, "checksum": checksum }),
    ))
}

/// A block of the disk.
#[derive(Debug, Clone, Copy)]
struct Block {
    start: u64,
    bytes: u64,
    is_zero: bool,
}

/// Cuts extents into blocks. A block with any data is a block of data.
#[derive(Debug, Default)]
struct Cutter {
    /// End of the extents that were asked for.
    asked: u64,
    /// Those that are not used up.
    extents: VecDeque<Extent>,
    /// Start of the next block.
    at: u64,
}

impl Cutter {
    async fn next(&mut self, source: &Source, end: u64, block_bytes: u64) -> Result<Option<Block>, Stopped> {
        let start = self.at;
        let mut missing = block_bytes.min(end - start);
        if missing == 0 {
            return Ok(None);
        }
        let (bytes, mut is_zero) = (missing, true);
        while missing > 0 {
            let Some(extent) = self.extents.front_mut() else {
                let found = source.extents(self.asked, end, Context::Zero).await?;
                self.asked += found.iter().map(|extent| extent.length).sum::<u64>();
                self.extents.extend(found);
                continue;
            };
            let taken = extent.length.min(missing);
            is_zero &= extent.zero;
            (extent.length, missing) = (extent.length - taken, missing - taken);
            if extent.length == 0 {
                self.extents.pop_front();
            }
        }
        self.at += bytes;
        Ok(Some(Block { start, bytes, is_zero }))
    }
}

async fn compute(op: &Operation, (_, hasher): Algorithm, block_bytes: u64) -> Result<String, Stopped> {
    let source = op.source();
    let end = source.size_bytes().await?.min(op.ticket().size_bytes);
    let zeroes = zero_hash(hasher, block_bytes).await?;
    let (mut cutter, mut sum) = (Cutter::default(), hasher());
    let (mut ahead, mut is_cut) = (FuturesOrdered::new(), false);
    loop {
        while !is_cut && ahead.len() < BLOCKS_AHEAD {
            op.watch().check()?;
            match cutter.next(source, end, block_bytes).await? {
                None => is_cut = true,
                Some(block) => ahead.push_back(block_hash(source, hasher, block, block_bytes, &zeroes)),
            }
        }
        match ahead.next().await {
            None => break,
            Some(hash) => sum.update(&hash?),
        }
    }
    let mut text = String::new();
    for byte in sum.finalize() {
        write!(text, "{byte:02x}").expect("writing to a text in memory does not fail");
    }
    Ok(text)
}

async fn block_hash(
    source: &Source,
    hasher: fn() -> Hasher,
    block: Block,
    block_bytes: u64,
    zeroes: &[u8],
) -> Result<Vec<u8>, Stopped> {
    if block.is_zero {
        if block.bytes == block_bytes {
            return Ok(zeroes.to_vec());
        }
        return zero_hash(hasher, block.bytes).await;
    }
    let chunk = u64::from(source.chunk_bytes());
    let (mut asked, end) = (block.start, block.start + block.bytes);
    let (mut reads, mut parts) = (FuturesOrdered::new(), Vec::new());
    loop {
        while asked < end && reads.len() < source.depth() {
            let step = chunk.min(end - asked);
            let length = u32::try_from(step).expect("a chunk is far less than 4 GiB");
            reads.push_back(source.read(asked, length));
            asked += step;
        }
        match reads.next().await {
            None => break,
            Some(part) => parts.push(part?),
        }
    }
    on_thread(move || {
        let mut hash = hasher();
        for part in parts {
            hash.update(&part);
        }
        hash.finalize().to_vec()
    })
    .await
}

async fn zero_hash(hasher: fn() -> Hasher, bytes: u64) -> Result<Vec<u8>, Stopped> {
    on_thread(move || {
        let (mut hash, mut missing) = (hasher(), bytes);
        let zeroes = vec![0; 64 * 1024];
        while missing > 0 {
            let step = usize::try_from(missing).unwrap_or(zeroes.len()).min(zeroes.len());
            hash.update(zeroes.split_at(step).0);
            missing -= step as u64;
        }
        hash.finalize().to_vec()
    })
    .await
}

/// Hashing takes long: not on a thread that serves requests.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stopped> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let error = DriverError::new(DriverErrorKind::Io, "compute checksum", "the thread ended").caused_by(error);
        Stopped::Source(error)
    })
}
