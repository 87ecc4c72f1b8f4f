//! Whatever is killed: nothing is lost, and nothing stays locked.
//!
//! Each test kills the daemon at named moments of one operation (the moments and their promises are listed in
//! `src/crash/operation.rs`), restarts it, and looks at everything: see `src/crash/look.rs`. The whole matrix, with the
//! machine as victim too, takes long and is run by `scripts/crash-all`.

use stillpoint_system_tests::crash::{Case, Hits, Operation, Outcome, Victim, World, cases, moments, timed};

fn survives(operation: Operation, victim: Victim, world: &mut World) {
    for case in cases(operation, victim) {
        let outcome = timed(&case.to_string(), || world.crash(&case)).unwrap();
        println!("-> {outcome:?}");
    }
}

/// All cases of one operation in a world of their own; at its end the disks are read once more, at rest.
fn alone(operation: Operation) {
    let mut world = World::new().unwrap();
    survives(operation, Victim::Daemon, &mut world);
    world.down().unwrap();
    println!("longest time until the guest wrote again: {:?}", world.slowest);
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
    alone(LIVE);
}

#[test]
fn a_snapshot_with_memory_is_complete_or_gone_and_the_guest_goes_on_wherever_the_daemon_dies() {
    alone(MEMORY);
}

#[test]
fn a_snapshot_of_a_vm_at_rest_is_completed_wherever_the_daemon_dies() {
    alone(REST);
}

#[test]
fn deleting_the_newest_snapshot_of_a_running_vm_is_completed_wherever_the_daemon_dies() {
    alone(Operation::DeleteActive { live: true });
}

#[test]
fn deleting_a_snapshot_below_another_of_a_running_vm_is_completed_wherever_the_daemon_dies() {
    alone(Operation::DeleteMiddle);
}

#[test]
fn deleting_a_snapshot_at_rest_is_completed_wherever_the_daemon_dies() {
    alone(Operation::DeleteActive { live: false });
}

#[test]
fn a_restore_is_completed_with_the_snapshots_content_wherever_the_daemon_dies() {
    alone(Operation::Restore);
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
        timed("taken back", || world.crash_again(&case, &undo)).unwrap();
    }
    world.down().unwrap();
}

#[test]
fn nothing_is_lost_or_locked_whatever_dies_at_random_moments() {
    let mut world = World::new().unwrap();
    let mut hits = Hits::default();
    for random in moments(20, 1).unwrap() {
        println!("{random:?}");
        hits += timed("random moment", || world.crash_randomly(random)).unwrap();
    }
    println!("{hits:?}");
    world.down().unwrap();
    // A series, not a single one that is looked at again.
    assert!(
        hits.all < 20 || hits.busy > 0,
        "no kill met an unfinished job: {hits:?}"
    );
}

#[test]
#[ignore = "takes an hour: run by scripts/crash-all"]
fn every_named_moment_with_every_victim() {
    let operations = [
        LIVE,
        MEMORY,
        REST,
        Operation::DeleteActive { live: true },
        Operation::DeleteMiddle,
        Operation::DeleteActive { live: false },
        Operation::Restore,
    ];
    let mut world = World::new().unwrap();
    for operation in operations {
        for victim in [Victim::Daemon, Victim::Machine, Victim::Both] {
            survives(operation, victim, &mut world);
        }
    }
    world.down().unwrap();
}
