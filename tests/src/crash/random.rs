//! Kills at moments that nobody chose. A seed is one kill and can be run again.

use super::{Operation, Outcome, Victim, World};
use anyhow::{Context, Result, bail};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

/// Longest time from the request to the kill, in milliseconds.
const DELAY_MAX_MS: u64 = 400;

/// One random kill.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    /// What it was made from.
    pub seed: u64,
    /// What is under way.
    pub operation: Operation,
    /// Who dies.
    pub victim: Victim,
    /// How long after the request was sent.
    pub delay: Duration,
}

/// What a run of random kills hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hits {
    /// Kills.
    pub all: usize,
    /// Of these: while a job was unfinished.
    pub busy: usize,
    /// Operations that were carried out.
    pub complete: usize,
    /// Kills after which something was not as promised.
    pub failed: usize,
}

impl AddAssign for Hits {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.busy += other.busy;
        self.complete += other.complete;
        self.failed += other.failed;
    }
}

/// Splitmix64: the next number of a sequence that depends on the seed only.
pub(super) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Random {
    /// The kill that a seed stands for.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut state = seed;
        let operation = match next(&mut state) % 8 {
            0 | 1 => Operation::Create {
                memory: false,
                live: true,
            },
            2 => Operation::Create {
                memory: true,
                live: true,
            },
            3 => Operation::Create {
                memory: false,
                live: false,
            },
            4 => Operation::DeleteActive { live: true },
            5 => Operation::DeleteMiddle,
            6 => Operation::Restore,
            _ => Operation::Start,
        };
        let victim = match next(&mut state) % 3 {
            0 => Victim::Daemon,
            1 => Victim::Machine,
            _ => Victim::Both,
        };
        Self {
            seed,
            operation,
            victim,
            delay: Duration::from_millis(next(&mut state) % (DELAY_MAX_MS + 1)),
        }
    }
}

/// The seeds to run: one that is asked for, else `count` from `first` on.
///
/// `STILLPOINT_CRASH_SEED` runs one again; `STILLPOINT_CRASH_COUNT` and `STILLPOINT_CRASH_FIRST` change the series.
///
/// # Errors
/// When a variable is no number.
pub fn seeds(count: u64, first: u64) -> Result<Vec<u64>> {
    let read = |name: &str| -> Result<Option<u64>> {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().with_context(|| format!("{name}={text}")))
            .transpose()
    };
    if let Some(seed) = read("STILLPOINT_CRASH_SEED")? {
        return Ok(vec![seed]);
    }
    let count = read("STILLPOINT_CRASH_COUNT")?.unwrap_or(count);
    let first = read("STILLPOINT_CRASH_FIRST")?.unwrap_or(first);
    Ok((first..first.saturating_add(count)).collect())
}

impl World {
    /// Runs one random kill.
    ///
    /// # Errors
    /// When anything is not as promised afterwards; the error names the seed.
    pub fn crash_randomly(&mut self, random: Random) -> Result<Hits> {
        self.crash_randomly_inner(random)
            .inspect_err(|_| self.daemon.keep())
            .with_context(|| format!("{random:?}; again: STILLPOINT_CRASH_SEED={}", random.seed))
    }

    fn crash_randomly_inner(&mut self, random: Random) -> Result<Hits> {
        self.prepare(random.operation)?;
        self.seen = self.last_event()?;
        let (attempt, api) = (self.attempt(random.operation), Arc::clone(&self.api));
        let begun = std::thread::scope(|scope| {
            let request = scope.spawn(|| attempt.begin(&api));
            std::thread::sleep(random.delay); // the random moment itself
            let died = self.kill(random.victim);
            (request.join(), died)
        });
        let (Ok(answer), died) = begun else {
            bail!("the request panicked")
        };
        died?;
        self.come_back(random.victim)?;
        let outcome = self.recovered(&attempt, random.victim, None)?;
        if random.victim == Victim::Machine {
            attempt.is_answered(answer, outcome)?;
        }
        let recovered = self.api.events(self.seen)?;
        let is_recovery = |code: &str| code == "20001";
        let busy = recovered
            .iter()
            .filter_map(|event| event.text_at("code"))
            .any(is_recovery);
        Ok(Hits {
            all: 1,
            busy: usize::from(busy || self.was_busy),
            complete: usize::from(outcome == Outcome::Complete),
            failed: 0,
        })
    }

    pub(super) fn kill(&mut self, victim: Victim) -> Result<()> {
        self.was_busy = false;
        match victim {
            Victim::Daemon => self.daemon.kill9(),
            Victim::Machine => {
                self.daemon.kill_machines()?;
                self.was_busy = self.has_job()?;
                Ok(())
            }
            Victim::Both => {
                self.daemon.kill9()?;
                self.daemon.kill_machines().map(drop)
            }
        }
    }
}
