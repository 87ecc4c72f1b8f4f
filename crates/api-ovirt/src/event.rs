//! Events: the log that users read.

use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    list::{self, Key, Listing},
    search::Searchable,
};
use stillpoint_engine::{
    Fault,
    view::{EventView, Filter, Page},
};
use stillpoint_wire::{
    Date,
    model::{self, Header, Identified},
};

const FIELDS: &[&str] = &["correlation_id", "id", "message", "severity", "type"];

impl Searchable for EventView {
    fn field(&self, name: &str) -> Option<String> {
        Some(match name {
            "correlation_id" => return self.correlation_id.clone(),
            "id" => self.index.to_string(),
            "message" => self.text.clone(),
            "severity" => self.severity.to_string(),
            "type" => self.code.to_string(),
            _ => return None,
        })
    }

    const TEXTS: &'static [&'static str] = &["message"];
}

struct Events {
    filter: Filter,
}

impl Listing for Events {
    type View = EventView;
    type Item = model::Event;

    async fn page(&self, call: &Call, page: Page) -> Result<Vec<EventView>, Fault> {
        call.engine().events(&call.who, &self.filter, &page).await
    }

    fn key(view: &EventView) -> Option<Key> {
        Some((view.index.to_string(), view.index.to_string()))
    }

    async fn show(&self, call: &Call, view: EventView) -> Result<model::Event, Refused> {
        Ok(represent(call.base(), &view))
    }
}

/// `GET /events`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let search = call.search(FIELDS)?;
    let events = Events {
        filter: Filter {
            correlation_id: search
                .only("correlation_id")
                .filter(|id| !id.contains('*'))
                .map(str::to_owned),
            from_index: call.params().number("from").filter(|from| *from > 0),
            ..Filter::default()
        },
    };
    list::answer(call, events, search).await
}

/// `GET /events/{event}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().event(&call.who, call.id(0)?).await?;
    Ok(call.ok(&represent(call.base(), &view)))
}

fn represent(base: &str, view: &EventView) -> model::Event {
    let mut head = Header::new(view.index.to_string(), format!("{base}/events/{}", view.index));
    head.description = Some(view.text.clone());
    let user = view.user.as_ref().map(|(id, name)| {
        let mut user = model::User::of(id.to_string(), format!("{base}/users/{id}"));
        user.head.name = Some(name.clone());
        Box::new(user)
    });
    let vm = view.vm.as_ref().map(|(id, name)| {
        let mut vm = model::Vm::of(id.to_string(), format!("{base}/vms/{id}"));
        vm.head.name = Some(name.clone());
        Box::new(vm)
    });
    model::Event {
        head,
        code: i32::try_from(view.code).ok(),
        correlation_id: view.correlation_id.clone(),
        custom_id: Some(-1),
        flood_rate: Some(0),
        index: Some(view.index),
        origin: Some("Stillpoint".into()),
        severity: Some(view.severity.to_string()),
        time: Some(Date(view.at)),
        user,
        vm,
        ..model::Event::default()
    }
}
