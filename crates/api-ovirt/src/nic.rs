//! Network interfaces of a VM, now or as a snapshot keeps them.

use crate::{
    answer::Answer,
    call::{Call, body_id},
    fault::Refused,
};
use stillpoint_engine::{
    command::{AddNic, NicFields, RemoveNic, UpdateNic},
    config::{NicConfig, VmConfig},
    view::House,
};
use stillpoint_types::NicId;
use stillpoint_wire::model::{self, Header, Identified};

/// `GET /vms/{vm}/nics`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    Ok(call.items(&of_vm(&call).await?))
}

/// `GET /vms/{vm}/nics/{nic}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let nic: NicId = call.id(1)?;
    let nics = of_vm(&call).await?;
    one(&call, &nics, nic)
}

/// `POST /vms/{vm}/nics`
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    let body: model::Nic = call.read()?;
    if body.head.name.as_deref().unwrap_or_default().is_empty() {
        return Err(Refused::incomplete("Nic", &["name"], "add"));
    }
    let command = AddNic { vm, nic: fields(&body) };
    let accepted = call.engine().add_nic(&call.who, call.origin(), command).await?;
    let job = call.settle(&accepted).await?;
    let id = accepted.id.to_string();
    let nics = of_vm(&call).await?;
    let nic = nics.into_iter().find(|nic| nic.head.id.as_deref() == Some(id.as_str()));
    Ok(call.added(nic.ok_or_else(|| Refused::not_found(&id))?, job))
}

/// `PUT /vms/{vm}/nics/{nic}`
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let nic: NicId = call.id(1)?;
    let body: model::Nic = call.read()?;
    if let Some(id) = &body.head.id
        && body_id::<NicId>(id, "nic")? != nic
    {
        return Err(Refused::immutable("id"));
    }
    let command = UpdateNic {
        vm: call.id(0)?,
        nic,
        fields: fields(&body),
    };
    call.engine().update_nic(&call.who, call.origin(), command).await?;
    one(&call, &of_vm(&call).await?, nic)
}

/// `DELETE /vms/{vm}/nics/{nic}`
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = RemoveNic {
        vm: call.id(0)?,
        nic: call.id(1)?,
    };
    let accepted = call.engine().remove_nic(&call.who, call.origin(), command).await?;
    Ok(call.removed(accepted.job))
}

async fn of_vm(call: &Call) -> Result<Vec<model::Nic>, Refused> {
    let view = call.engine().vm(&call.who, call.id(0)?).await?;
    let place = format!("{}/vms/{}", call.base(), view.id);
    Ok(represent_all(call.base(), &place, &call.house().await?, &view.config))
}

/// Answers with the one of that id.
pub(crate) fn one(call: &Call, nics: &[model::Nic], nic: NicId) -> Result<Answer, Refused> {
    let id = nic.to_string();
    let found = nics.iter().find(|nic| nic.head.id.as_deref() == Some(id.as_str()));
    found.map(|nic| call.ok(nic)).ok_or_else(|| Refused::not_found(&id))
}

/// What a client says about an interface.
pub(crate) fn fields(body: &model::Nic) -> NicFields {
    NicFields {
        name: body.head.name.clone(),
        mac: body.mac.as_ref().and_then(|mac| mac.address.clone()),
        interface: body.interface.clone(),
        linked: body.linked,
        pci_slot: None,
    }
}

/// What a configuration's interfaces look like; `place` is the path of the VM or snapshot that has them.
pub(crate) fn represent_all(base: &str, place: &str, house: &House, config: &VmConfig) -> Vec<model::Nic> {
    config
        .nics
        .iter()
        .map(|nic| represent(base, place, house, nic))
        .collect()
}

fn represent(base: &str, place: &str, house: &House, nic: &NicConfig) -> model::Nic {
    let profile = &house.vnic_profile.0;
    let mut head = Header::new(nic.id.to_string(), format!("{place}/nics/{}", nic.id));
    head.name = Some(nic.name.clone());
    model::Nic {
        head,
        active: Some(true),
        interface: Some(nic.interface.clone()),
        linked: Some(nic.linked),
        mac: Some(model::Mac {
            address: Some(nic.mac.clone()),
        }),
        plugged: Some(true),
        synced: Some(true),
        vnic_profile: model::VnicProfile::reference(profile.as_str(), format!("{base}/vnicprofiles/{profile}")),
        ..model::Nic::default()
    }
}
