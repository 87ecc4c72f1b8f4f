//! Events: the log that users read.

use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    follow::{Follow, Known, known},
    list::{self, Listing},
    search, user, vm,
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use stillpoint_engine::{
    Fault,
    view::{EventView, Filter, Find, Op, Page, Paged, Value, VmView},
};
use stillpoint_types::{FaultCode, VmId};
use stillpoint_wire::{
    Date,
    model::{self, Header},
};

/// VMs that are remembered while a list of events is written.
const SEEN_MAX: usize = 256;

static FOLLOW: &[Known] = &[known("vm", &[]), known("user", &[])];

struct Events {
    filter: Filter,
    follow: Follow,
    seen: Seen,
}

/// The VMs of events already shown, as they are now; `None`: gone. Events outlive the things that they tell of, and a
/// reference to what is gone must lead nowhere.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashMap<VmId, Option<VmView>>>);

impl Seen {
    async fn vm(&self, call: &Call, id: VmId) -> Result<Option<VmView>, Refused> {
        let known = self.lock().get(&id).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let view = match call.engine().vm(&call.who, id).await {
            Ok(view) => Some(view),
            Err(fault) if fault.code == FaultCode::NotFound => None,
            Err(fault) => return Err(fault.into()),
        };
        let mut seen = self.lock();
        if seen.len() < SEEN_MAX {
            seen.insert(id, view.clone());
        }
        Ok(view)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VmId, Option<VmView>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listing for Events {
    type View = EventView;
    type Item = model::Event;

    async fn page(&self, call: &Call, page: Page) -> Result<Paged<EventView>, Fault> {
        call.engine().events(&call.who, &self.filter, &page).await
    }

    async fn show(&self, call: &Call, view: EventView) -> Result<model::Event, Refused> {
        show(call, &view, &self.follow, &self.seen).await
    }
}

/// `GET /events`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let search = call.search(search::EVENTS)?;
    let mut filter = search.filter(&call.house().await?);
    if let Some(from) = call.params().number("from").filter(|from| *from > 0) {
        let later = Find::Is {
            field: "id",
            op: Op::Greater,
            value: Value::Number(from),
            case_sensitive: true,
        };
        filter.find = Find::All(vec![later, filter.find]);
    }
    let events = Events {
        filter,
        follow: call.follow(FOLLOW)?,
        seen: Seen::default(),
    };
    list::answer(call, events, &search).await
}

/// `GET /events/{event}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = call.engine().event(&call.who, call.id(0)?).await?;
    Ok(call.ok(&show(&call, &view, &follow, &Seen::default()).await?))
}

/// An event, with what shall be inlined.
pub(crate) async fn show(call: &Call, view: &EventView, follow: &Follow, seen: &Seen) -> Result<model::Event, Refused> {
    let base = call.base();
    let mut head = Header::new(view.index.to_string(), format!("{base}/events/{}", view.index));
    head.description = Some(view.text.clone());
    let vm = match &view.vm {
        Some((id, name)) => Some(Box::new(shown_vm(call, *id, name, follow, seen).await?)),
        None => None,
    };
    let user = match &view.user {
        Some((id, _)) if follow.below("user").is_some() => Some(Box::new(user::whole(call, *id).await?)),
        Some((id, name)) => {
            let mut user = user::reference(call, *id);
            user.head.name = Some(name.clone());
            Some(Box::new(user))
        }
        None => None,
    };
    Ok(model::Event {
        head,
        code: i32::try_from(view.code).ok(),
        correlation_id: view.correlation_id.clone(),
        custom_id: Some(view.client.as_ref().map_or(-1, |(_, number)| *number)),
        flood_rate: Some(0),
        index: Some(view.index),
        origin: Some(view.client.as_ref().map_or("oVirt", |(origin, _)| origin).to_owned()),
        severity: Some(view.severity.to_string()),
        time: Some(Date(view.at)),
        user,
        vm,
        ..model::Event::default()
    })
}

async fn shown_vm(call: &Call, id: VmId, name: &str, follow: &Follow, seen: &Seen) -> Result<model::Vm, Refused> {
    let mut reference = model::Vm::default();
    reference.head.id = Some(id.to_string());
    reference.head.name = Some(name.to_owned());
    let Some(now) = seen.vm(call, id).await? else {
        return Ok(reference);
    };
    if follow.below("vm").is_some() {
        return Ok(vm::represent(call.base(), &call.house().await?, &now));
    }
    reference.head.href = Some(format!("{}/vms/{id}", call.base()));
    Ok(reference)
}
