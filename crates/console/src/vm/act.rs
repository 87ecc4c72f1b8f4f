//! Starting, shutting down, stopping and rebooting a VM.

use super::Scene;
use crate::{
    snapshot::plan::{Again, Plan, blocked_unless, tick},
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_engine::command::{RebootVm, ShutdownVm, StartVm, StopVm};
use stillpoint_types::VmStatus;

/// What is done to the VM as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Start,
    Shutdown,
    Stop,
    Reboot,
}

fn plan(scene: &Scene, act: Act, form: Option<&Fields>) -> Plan {
    let name = scene.name();
    let mut plan = Plan {
        back: scene.place(),
        ..Plan::default()
    };
    let unwritten = "What the guest has not yet written to its disks, and its memory.";
    match act {
        Act::Start => {
            plan.title = format!("Start {name}");
            plan.button = "Start";
            plan.happens.push(match scene.vm.status {
                VmStatus::Suspended => format!("{name} goes on with its saved memory, in the middle of what it did."),
                VmStatus::Paused => format!("{name} is paused: its processors run again."),
                _ => format!("{name} boots."),
            });
            let allowed = &[VmStatus::Down, VmStatus::Suspended, VmStatus::Paused];
            blocked_unless(&mut plan, scene, allowed, "down, suspended or paused");
        }
        Act::Shutdown => {
            plan.title = format!("Shut down {name}");
            plan.button = "Shut down";
            plan.happens.push(format!(
                "The guest of {name} is asked to end by itself. One that does not listen goes on."
            ));
            plan.happens.push("Disks and snapshots stay.".into());
            blocked_unless(&mut plan, scene, &[VmStatus::Up, VmStatus::PoweringDown], "up");
        }
        Act::Stop => {
            plan.title = format!("Stop {name} at once");
            plan.button = "Stop";
            if scene.vm.status == VmStatus::Suspended {
                plan.happens
                    .push("The VM is down then, and boots at its next start.".into());
                plan.lose("The saved memory with which it would go on.", "memory");
            } else {
                plan.happens
                    .push(format!("{name} ends as by pulling the plug. Disks and snapshots stay."));
                plan.lose(unwritten, "memory");
            }
            plan.blocked(
                matches!(scene.vm.status, VmStatus::Down | VmStatus::PoweringUp),
                format!("VM {name} is {}.", scene.vm.status.label().replace('_', " ")),
            );
        }
        Act::Reboot => {
            plan.title = format!("Reboot {name}");
            plan.button = "Reboot";
            plan.happens
                .push("The guest is asked, through its agent, to restart; without an agent it is reset.".into());
            plan.happens.push("Disks and snapshots stay.".into());
            plan.lose(
                "The guest's memory; what it has not yet written, too, if it is reset.",
                "memory",
            );
            let hint = html! { "Whatever the guest does at that moment." };
            let is_forced = form.is_some_and(|form| form.is_set("force"));
            plan.fields = Some(tick("force", is_forced, "Reset it without asking", &hint));
            blocked_unless(&mut plan, scene, &[VmStatus::Up], "up");
        }
    }
    plan.blocked_by_holder(scene);
    plan
}

async fn ask(id: &str, visit: &Visit, act: Act) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(visit, id).await?;
    plan(&scene, act, None).page(visit, None)
}

async fn post(id: &str, posted: Posted, act: Act) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, id).await?;
    match submit(&visit, &scene, &form, act).await {
        Ok(()) => {
            let name = scene.name();
            let said = match act {
                Act::Start => format!("{name} is being started."),
                Act::Shutdown => format!("The guest of {name} was asked to shut down."),
                Act::Stop => format!("{name} is stopped."),
                Act::Reboot => format!("{name} restarts."),
            };
            Ok(ui::done(&visit, &scene.place(), &said))
        }
        Err(again) => {
            let scene = Scene::change(&visit, id).await?;
            plan(&scene, act, Some(&form)).page(&visit, Some(&again))
        }
    }
}

async fn submit(visit: &Visit, scene: &Scene, form: &Fields, act: Act) -> Result<(), Again> {
    plan(scene, act, Some(form)).expect_seen(form)?;
    let (engine, who, origin, vm) = (visit.engine(), &visit.who, &visit.origin, scene.vm.id);
    match act {
        Act::Start => engine.start_vm(who, origin, StartVm { vm, paused: false }).await?,
        Act::Shutdown => engine.shutdown_vm(who, origin, ShutdownVm { vm }).await?,
        Act::Stop => engine.stop_vm(who, origin, StopVm { vm }).await?,
        Act::Reboot => {
            let force = form.is_set("force");
            engine.reboot_vm(who, origin, RebootVm { vm, force }).await?
        }
    };
    Ok(())
}

macro_rules! pages {
    ($($(#[$doc:meta])* $ask:ident, $post:ident: $act:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) async fn $ask(Path(id): Path<String>, visit: Visit) -> Result<Response<Body>, Trouble> {
            ask(&id, &visit, Act::$act).await
        }

        /// Does it.
        pub(crate) async fn $post(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
            post(&id, posted, Act::$act).await
        }
    )*};
}

pages! {
    /// The page that asks whether to start it.
    ask_start, start: Start;
    /// The page that asks whether to shut it down.
    ask_shutdown, shutdown: Shutdown;
    /// The page that asks whether to stop it.
    ask_stop, stop: Stop;
    /// The page that asks whether to reboot it.
    ask_reboot, reboot: Reboot;
}
