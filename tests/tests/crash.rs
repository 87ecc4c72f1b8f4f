//! Whatever is killed: nothing is lost, and nothing stays locked.
//!
//! Each test kills the daemon at named moments of one operation (the moments and their promises are listed in
//! `src/crash/operation.rs`), restarts it, and looks at everything: see `src/crash/look.rs`. The whole matrix, with the
//! machine as victim too, takes long and is run by `scripts/crash-all`. Kills in backups are another room:
//! `src/crash/backups.rs`.

use anyhow::Result;
use std::fmt::Debug;
use std::time::Instant;
use stillpoint_system_tests::crash::{
    BackupHits, BackupKill, Case, Hits, Operation, Outcome, Random, Told, Vault, Victim, World, cases, seeds,
};

/// Prints what a case came to, in a form that `scripts/crash-all` reads: tabs between, one line.
fn tell<T: Debug>(start: Instant, case: &[&dyn Debug], result: &Result<T>) {
    let fields: String = case.iter().map(|field| format!("{field:?}\t")).collect();
    let outcome = match result {
        Ok(outcome) => format!("{outcome:?}"),
        Err(error) => format!("FAILED {error:#}").replace(['\n', '\t'], " "),
    };
    eprintln!("RESULT\t{fields}{outcome}\t{:.1}", start.elapsed().as_secs_f64());
}

fn crash(world: &mut World, case: &Case) -> Result<Outcome> {
    let start = Instant::now();
    let result = world.crash(case);
    tell(start, &[&case.operation, &case.point, &case.victim], &result);
    result
}

fn crash_randomly(world: &mut World, random: Random) -> Result<Hits> {
    let start = Instant::now();
    let result = world.crash_randomly(random);
    tell(
        start,
        &[&random.operation, &random.seed, &random.victim, &random.delay],
        &result,
    );
    result
}

/// The vault for a kill: the one that there is, or a new one if there is none, or its disks are others.
fn vault_for(vault: Option<Vault>, kill: BackupKill) -> Result<Vault> {
    if let Some(mut vault) = vault {
        if vault.layout == kill.layout {
            return Ok(vault);
        }
        vault.world.down()?;
    }
    Vault::new(kill.layout)
}

fn crash_backup(vault: &mut Vault, kill: BackupKill) -> Result<Told> {
    let start = Instant::now();
    let result = vault.crash(kill);
    let case: [&dyn Debug; 8] = [
        &kill.kind,
        &kill.layout,
        &kill.large,
        &kill.beside,
        &kill.seed,
        &kill.victim,
        &kill.stage,
        &kill.delay,
    ];
    tell(start, &case, &result);
    result
}

/// All cases of one operation in a world of their own; at its end the disks are read once more, at rest.
fn alone(operation: Operation) -> Result<()> {
    let mut world = World::new()?;
    for case in cases(operation, Victim::Daemon) {
        crash(&mut world, &case)?;
    }
    world.down()?;
    eprintln!("longest time until the guest wrote again: {:?}", world.slowest);
    Ok(())
}

const LIVE: Operation = Operation::Create {
    memory: false,
    live: true,
};
const MEMORY: Operation = Operation::Create {
    memory: true,
    live: true,
};
const REST: Operation = Operation::Create {
    memory: false,
    live: false,
};

#[test]
fn a_snapshot_of_a_running_vm_is_complete_or_gone_and_the_guest_goes_on_wherever_the_daemon_dies() {
    alone(LIVE).unwrap();
}

#[test]
fn a_snapshot_with_memory_is_complete_or_gone_and_the_guest_goes_on_wherever_the_daemon_dies() {
    alone(MEMORY).unwrap();
}

#[test]
fn a_snapshot_of_a_vm_at_rest_is_completed_wherever_the_daemon_dies() {
    alone(REST).unwrap();
}

#[test]
fn deleting_the_newest_snapshot_of_a_running_vm_is_completed_wherever_the_daemon_dies() {
    alone(Operation::DeleteActive { live: true }).unwrap();
}

#[test]
fn deleting_a_snapshot_below_another_of_a_running_vm_is_completed_wherever_the_daemon_dies() {
    alone(Operation::DeleteMiddle).unwrap();
}

#[test]
fn deleting_a_snapshot_at_rest_is_completed_wherever_the_daemon_dies() {
    alone(Operation::DeleteActive { live: false }).unwrap();
}

#[test]
fn a_restore_is_completed_with_the_snapshots_content_wherever_the_daemon_dies() {
    alone(Operation::Restore).unwrap();
}

/// The chosen moments are those in which the disk alone can say which layer is the truth.
#[test]
fn disks_are_whole_when_the_machine_dies_around_a_switch_or_a_pivot() {
    let chosen = [
        (LIVE, "switch:frozen", Victim::Machine),
        (LIVE, "switch:switched", Victim::Both),
        (MEMORY, "save:saving", Victim::Machine),
        (Operation::DeleteActive { live: true }, "merge:pending", Victim::Machine),
        (Operation::DeleteActive { live: true }, "merge:marked", Victim::Both),
        (Operation::DeleteMiddle, "merge:finalizing", Victim::Both),
    ];
    let mut world = World::new().unwrap();
    for (operation, point, victim) in chosen {
        let found = cases(operation, victim).into_iter().find(|case| case.point == point);
        crash(&mut world, &found.unwrap()).unwrap();
    }
}

#[test]
fn a_memory_that_finds_no_room_costs_neither_the_guest_nor_the_snapshot_of_its_disks() {
    World::new().unwrap().memory_without_room().unwrap();
}

#[test]
fn a_snapshot_that_is_being_taken_back_is_taken_back_however_often_the_daemon_dies() {
    let mut world = World::new().unwrap();
    let undo = ["snapshot_create:switch:undo", "snapshot_create:prepare:undo"];
    for operation in [LIVE, MEMORY] {
        let case = Case {
            operation,
            point: "snapshot_create:switch:started".to_owned(),
            victim: Victim::Daemon,
            expect: Some(Outcome::Gone),
        };
        world.crash_again(&case, &undo).unwrap();
    }
    world.down().unwrap();
}

#[test]
fn nothing_is_lost_or_locked_whatever_dies_at_random_moments() {
    let mut world = World::new().unwrap();
    let mut hits = Hits::default();
    for random in seeds(20, 1).unwrap().into_iter().map(Random::of) {
        hits += crash_randomly(&mut world, random).unwrap();
    }
    eprintln!("{hits:?}");
    world.down().unwrap();
    // Of a series, that is; not of one kill that is looked at again.
    assert!(
        hits.all < 20 || hits.busy > 0,
        "no kill met an unfinished job: {hits:?}"
    );
}

#[test]
fn backups_and_what_goes_on_beside_them_survive_random_kills_and_the_next_one_is_right() {
    let (mut vault, mut hits) = (None, BackupHits::default());
    for kill in BackupKill::series(seeds(20, 1).unwrap()) {
        let mut one = vault_for(vault.take(), kill).unwrap();
        hits += (&kill, &crash_backup(&mut one, kill).unwrap());
        vault = Some(one);
    }
    eprintln!("{hits}");
    vault.unwrap().world.down().unwrap();
    // Of a series, that is; not of one kill that is looked at again.
    let is_wide = hits.met > 0 && hits.uploads > 0 && hits.aside > 0;
    assert!(
        hits.all < 20 || is_wide,
        "no kill met a backup, an upload, or a merge beside its chain: {hits}"
    );
}

#[test]
#[ignore = "takes long: run by scripts/crash-all, which does not stop at the first failure"]
fn every_named_moment_with_every_victim() {
    let operations = [
        LIVE,
        MEMORY,
        REST,
        Operation::DeleteActive { live: true },
        Operation::DeleteMiddle,
        Operation::DeleteActive { live: false },
        Operation::Restore,
        Operation::Start,
    ];
    let chosen = std::env::var("STILLPOINT_CRASH_MATCH").unwrap_or_default();
    let (mut world, mut failed) = (World::new().unwrap(), 0);
    for operation in operations {
        for case in [Victim::Daemon, Victim::Machine, Victim::Both]
            .iter()
            .flat_map(|victim| cases(operation, *victim))
            .filter(|case| case.to_string().contains(&chosen))
        {
            if crash(&mut world, &case).is_err() {
                failed += 1;
                world = World::new().unwrap();
            }
        }
    }
    world.down().unwrap();
    assert_eq!(failed, 0, "cases that were not as promised");
}

#[test]
#[ignore = "takes long: run by scripts/crash-all, which does not stop at the first failure"]
fn many_random_moments() {
    let (mut world, mut hits) = (World::new().unwrap(), Hits::default());
    for random in seeds(100, 1000).unwrap().into_iter().map(Random::of) {
        if let Ok(hit) = crash_randomly(&mut world, random) {
            hits += hit;
        } else {
            hits.failed += 1;
            world = World::new().unwrap();
        }
    }
    eprintln!("{hits:?}");
    world.down().unwrap();
    assert_eq!(hits.failed, 0, "kills after which something was not as promised");
}

#[test]
#[ignore = "takes long: run by scripts/crash-all, which does not stop at the first failure"]
fn many_random_moments_of_backups() {
    let (mut vault, mut hits, mut failed) = (None, BackupHits::default(), 0);
    for kill in BackupKill::series(seeds(100, 2000).unwrap()) {
        let mut one = vault_for(vault.take(), kill).unwrap();
        if let Ok(told) = crash_backup(&mut one, kill) {
            hits += (&kill, &told);
            vault = Some(one);
        } else {
            failed += 1;
        }
    }
    eprintln!("{hits}; {failed} failed");
    if let Some(mut vault) = vault {
        vault.world.down().unwrap();
    }
    assert_eq!(failed, 0, "kills after which something was not as promised");
}
