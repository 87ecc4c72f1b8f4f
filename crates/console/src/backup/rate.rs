//! How fast a backup goes: from what the pages that watch it have seen in the last seconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use stillpoint_types::{BackupId, DiskId};

/// How far back a rate looks.
const WINDOW: Duration = Duration::from_secs(8);
/// Looks that are closer together say nothing new.
const APART: Duration = Duration::from_millis(400);
/// Disks that are remembered; of those beyond, the one seen last longest ago is forgotten.
const DISKS_MAX: usize = 256;

/// Looks at a disk: when, and how many bytes had moved.
type Seen = VecDeque<(Instant, u64)>;

/// What was seen, by backup and disk.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<(BackupId, DiskId), Seen>>);

impl Rates {
    /// Notes a look. Bytes a second over the last seconds; `None`: it was not watched long enough.
    pub(crate) fn note(&self, of: (BackupId, DiskId), bytes: u64, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= DISKS_MAX
            && !all.contains_key(&of)
            && let Some(oldest) = all
                .iter()
                .min_by_key(|(_, seen)| seen.back().map(|(at, _)| *at))
                .map(|(of, _)| *of)
        {
            all.remove(&oldest);
        }
        let seen = all.entry(of).or_default();
        if seen.back().is_some_and(|(_, last)| *last > bytes) {
            // The daemon began to count anew.
            seen.clear();
        }
        if seen
            .back()
            .is_none_or(|(at, _)| now.saturating_duration_since(*at) >= APART)
        {
            seen.push_back((now, bytes));
        }
        while seen
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW)
        {
            seen.pop_front();
        }
        let (begin, first) = *seen.front()?;
        let millis = u64::try_from(now.saturating_duration_since(begin).as_millis()).unwrap_or(u64::MAX);
        (millis >= 500).then(|| (bytes - first).saturating_mul(1000) / millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_seconds_and_never_of_one_look() {
        let (rates, of, begin) = (Rates::default(), (BackupId::fresh(), DiskId::fresh()), Instant::now());
        assert_eq!(rates.note(of, 0, begin), None);
        assert_eq!(rates.note(of, 1000, begin + Duration::from_secs(1)), Some(1000));
        for second in 2..30 {
            rates.note(of, 1000, begin + Duration::from_secs(second));
        }
        assert_eq!(
            rates.note(of, 1000, begin + Duration::from_secs(30)),
            Some(0),
            "it stands still"
        );
        assert_eq!(
            rates.note(of, 10, begin + Duration::from_secs(31)),
            None,
            "counted anew"
        );
        assert!(rates.0.lock().unwrap()[&of].len() < 30);
    }
}
