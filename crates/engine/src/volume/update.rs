//! Changes a volume's names. The other dialects see them: they are the disk's alias and description.

use crate::{
    command::{Origin, volume::UpdateVolume},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::Actor,
    limits,
};
use std::sync::Arc;
use stillpoint_store::{Tx, disk, volume};
use stillpoint_types::{Caller, Need};

/// Checks a name and a description.
pub(crate) fn expect_texts(name: Option<&str>, description: Option<&str>) -> Result<(), Fault> {
    limits::text("name", name.unwrap_or_default(), limits::NAME_MAX)?;
    limits::text("description", description.unwrap_or_default(), limits::NAME_MAX)
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: UpdateVolume,
) -> Result<(), Fault> {
    let of = |text: &'_ Option<Option<String>>| text.clone().flatten();
    expect_texts(of(&command.name).as_deref(), of(&command.description).as_deref())?;
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    engine.store.write(move |tx| change(tx, &who, &actor, command)).await
}

fn change(tx: &Tx, who: &Caller, actor: &Actor, command: UpdateVolume) -> Result<(), Fault> {
    let row = super::find(tx, who, command.volume, Need::Operate)?;
    let given = |text: &Option<Option<String>>, now: bool| {
        text.as_ref()
            .map_or(now, |text| text.as_ref().is_some_and(String::is_empty))
    };
    let empty = (
        given(&command.name, row.empty_name),
        given(&command.description, row.empty_description),
    );
    if empty != (row.empty_name, row.empty_description) {
        volume::set_empty(tx, row.disk.id, empty.0, empty.1)?;
    }
    let alias = command
        .name
        .map_or_else(|| row.disk.alias.clone(), Option::unwrap_or_default);
    let description = command
        .description
        .map_or_else(|| row.disk.description.clone(), Option::unwrap_or_default);
    disk::set_texts(tx, row.disk.id, &alias, &description)?;
    let text = format!("Disk {} was updated by {}.", super::called(&row.disk), actor.name);
    Event::new(What::DiskUpdated, text)
        .by(actor)
        .disk(row.disk.project, row.disk.id, &alias)
        .write(tx)
}
