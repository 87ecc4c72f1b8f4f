//! Pieces of tables, and unpacked clusters, that were read before: bounded in bytes, for all files of a chain together.
//!
//! Two generations: what was not asked for while a whole generation filled goes with it. An answer costs one look or two,
//! and nothing is sorted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Bytes that the cache holds at most. Maps 64 GiB of a disk with clusters of 64 KiB.
pub(crate) const CACHE_BYTES_MAX: usize = 8 << 20;
const GENERATION_BYTES: usize = CACHE_BYTES_MAX / 2;
/// What an entry costs beside its bytes, roughly.
const ENTRY_COST: usize = 96;

/// What is kept: of which layer, and where in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Table(usize, u64),
    Cluster(usize, u64),
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Arc<[u8]>>,
    young_bytes: usize,
    old: HashMap<Key, Arc<[u8]>>,
}

impl Generations {
    fn insert(&mut self, key: Key, bytes: Arc<[u8]>) {
        let cost = bytes.len() + ENTRY_COST;
        if self.young_bytes + cost > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(key, bytes).is_none() {
            self.young_bytes += cost;
        }
    }
}

/// The cache of a chain.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<Generations>);

impl Tables {
    /// What is kept under `key`, or what `read` gives, which is kept then.
    pub(crate) fn get<E>(&self, key: Key, read: impl FnOnce() -> Result<Arc<[u8]>, E>) -> Result<Arc<[u8]>, E> {
        if let Some(found) = self.peek(key) {
            return Ok(found);
        }
        // Without the lock: two may read the same at once, which does no harm.
        let bytes = read()?;
        // Every change leaves a whole cache: a panic elsewhere does not matter.
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.insert(key, Arc::clone(&bytes));
        Ok(bytes)
    }

    fn peek(&self, key: Key) -> Option<Arc<[u8]>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = generations.young.get(&key) {
            return Some(Arc::clone(found));
        }
        let found = generations.old.remove(&key)?;
        generations.insert(key, Arc::clone(&found));
        Some(found)
    }

    /// Bytes that are kept.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let generations = self.0.lock().unwrap();
        let sum = |map: &HashMap<Key, Arc<[u8]>>| map.values().map(|bytes| bytes.len() + ENTRY_COST).sum::<usize>();
        sum(&generations.young) + sum(&generations.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_asked_for() {
        let (tables, mut read) = (Tables::default(), 0);
        for n in 0..1000_u64 {
            let piece = || Ok::<_, ()>(vec![0; 64 << 10].into());
            tables.get(Key::Table(0, n), piece).unwrap();
            tables
                .get(Key::Table(1, 0), || {
                    read += 1;
                    piece()
                })
                .unwrap();
            assert!(tables.bytes() <= CACHE_BYTES_MAX);
        }
        assert_eq!(read, 1);
    }
}
