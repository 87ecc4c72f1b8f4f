//! Types of volumes. All volumes lie on the one storage there is; a type says what its users ask of storage, and what ours
//! does not have makes a volume `error`, with a message that says why.

use crate::command::{
    Origin,
    volume::{Metadata, MetadataChange, TypeFields, TypeRef},
};
use crate::view::volume::VolumeTypeView;
use crate::{engine::Inner, fault::Fault, limits};
use std::{collections::HashMap, sync::Arc};
use stillpoint_store::{
    Conn, Tx,
    volume_type::{self as store, DEFAULT, TypeRow},
};
use stillpoint_types::{Access, Caller, FaultCode, Need, ProjectId, VolumeTypeId, now_micros};

/// What our storage says of itself, in the words that extra specs use. What is not here it does not have.
const CAPABILITIES: &[(&str, &str)] = &[
    ("volume_backend_name", "qcow2"),
    ("vendor_name", "Stillpoint"),
    ("storage_protocol", "qcow2"),
    ("thin_provisioning_support", "True"),
    ("thick_provisioning_support", "False"),
    ("multiattach", "False"),
    ("QoS_support", "False"),
    ("replication_enabled", "False"),
];

/// The first thing that a type asks of storage and ours does not have. Keys with a scope other than `capabilities` are for
/// others to read, as in Cinder's own filter.
pub(crate) fn unsatisfied(specs: &Metadata) -> Option<String> {
    let fails = |(key, wanted): (&String, &String)| {
        let name = match key.split_once(':') {
            None => key.as_str(),
            Some(("capabilities", name)) => name,
            Some(_) => return None,
        };
        let has = CAPABILITIES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, has)| *has);
        let fits = has.is_some_and(|has| fits(has, wanted));
        (!fits).then(|| format!("{key} = {wanted}"))
    };
    specs.iter().find_map(fails)
}

/// Whether a capability is what is wanted: the same text, or by an operator `<is>`, `<in>`, `<or>`, `s==` or `s!=`.
fn fits(has: &str, wanted: &str) -> bool {
    let mut words = wanted.split_whitespace();
    match (words.next(), words.next()) {
        (Some("<is>"), Some(value)) => has.eq_ignore_ascii_case(value),
        (Some("<in>"), Some(value)) => has.contains(value),
        (Some("<or>"), Some(_)) => wanted.split("<or>").any(|value| value.trim() == has),
        (Some("s=="), Some(value)) => has == value,
        (Some("s!="), Some(value)) => has != value,
        _ => has == wanted.trim(),
    }
}

/// Whether a caller who works in these projects (`None`: an administrator) sees a type.
fn is_seen(view: &VolumeTypeView, who: &Caller) -> bool {
    view.is_public
        || who.is_admin
        || view
            .projects
            .iter()
            .any(|id| who.may(*id, Need::Read) == Access::Allowed)
}

fn views(conn: &Conn, rows: Vec<TypeRow>) -> Result<Vec<VolumeTypeView>, Fault> {
    let mut specs: HashMap<VolumeTypeId, Metadata> = HashMap::new();
    for (id, key, value) in store::specs(conn)? {
        specs.entry(id).or_default().insert(key, value);
    }
    let mut projects: HashMap<VolumeTypeId, Vec<ProjectId>> = HashMap::new();
    for (id, project) in store::access(conn)? {
        projects.entry(id).or_default().push(project);
    }
    let one = |row: TypeRow| VolumeTypeView {
        id: row.id,
        name: row.name,
        description: row.description,
        is_public: row.is_public,
        extra_specs: specs.remove(&row.id).unwrap_or_default(),
        projects: projects.remove(&row.id).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(one).collect())
}

fn find(conn: &Conn, who: &Caller, id: VolumeTypeId) -> Result<VolumeTypeView, Fault> {
    let absent = || Fault::not_found("volume type", id);
    let row = store::get(conn, id)?.ok_or_else(absent)?;
    let view = crate::disk::view::one(views(conn, vec![row])?)?;
    if is_seen(&view, who) { Ok(view) } else { Err(absent()) }
}

/// The type that a request names; `None`: the default one.
pub(crate) fn named(conn: &Conn, who: &Caller, of_type: Option<&TypeRef>) -> Result<VolumeTypeView, Fault> {
    let (id, shown) = match of_type {
        None => (Some(DEFAULT), String::new()),
        Some(TypeRef::Id(id)) => (Some(*id), id.to_string()),
        Some(TypeRef::Name(name)) => (
            store::by_name(conn, name)?.map(|row| row.id),
            name.chars().take(64).collect(),
        ),
    };
    let absent = || {
        let text = format!("Volume type {shown} could not be found.");
        Fault::new(FaultCode::RelatedNotFound, text)
    };
    let found = id.map(|id| find(conn, who, id)).transpose();
    found
        .map_err(|fault| match fault.code {
            FaultCode::NotFound => absent(),
            _ => fault,
        })?
        .ok_or_else(absent)
}

/// Checks what a client wants to call a type.
fn expect_fields(fields: &TypeFields) -> Result<(), Fault> {
    if let Some(name) = &fields.name {
        limits::text("name", name, limits::NAME_MAX)?;
        if name.trim().is_empty() {
            return Err(Fault::new(
                FaultCode::InvalidValue,
                "The name of a type must not be empty.",
            ));
        }
    }
    let description = fields.description.clone().flatten().unwrap_or_default();
    limits::text("description", &description, limits::NAME_MAX)
}

fn put(tx: &Tx, row: &TypeRow) -> Result<(), Fault> {
    store::put(tx, row).map_err(|error| match error {
        taken if taken.is_duplicate() => {
            let text = format!("Volume type with name {} already exists.", row.name);
            Fault::new(FaultCode::NameInUse, text)
        }
        other => other.into(),
    })
}

pub(crate) async fn create(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    fields: TypeFields,
) -> Result<VolumeTypeView, Fault> {
    super::expect_admin(who, None, "add volume types")?;
    expect_fields(&fields)?;
    let Some(name) = fields.name else {
        return Err(Fault::new(FaultCode::Incomplete, "A volume type needs a name."));
    };
    let row = TypeRow {
        id: VolumeTypeId::fresh(),
        name,
        description: fields.description.flatten(),
        is_public: fields.is_public.unwrap_or(true),
        created_at: now_micros(),
    };
    let write = move |tx: &Tx| -> Result<_, Fault> {
        put(tx, &row)?;
        crate::disk::view::one(views(tx, vec![row])?)
    };
    engine.store.write(write).await
}

pub(crate) async fn update(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    id: VolumeTypeId,
    fields: TypeFields,
) -> Result<VolumeTypeView, Fault> {
    super::expect_admin(who, None, "change volume types")?;
    expect_fields(&fields)?;
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let row = store::get(tx, id)?.ok_or_else(|| Fault::not_found("volume type", id))?;
        let row = TypeRow {
            name: fields.name.unwrap_or(row.name),
            description: fields.description.unwrap_or(row.description),
            is_public: fields.is_public.unwrap_or(row.is_public),
            ..row
        };
        put(tx, &row)?;
        crate::disk::view::one(views(tx, vec![row])?)
    };
    engine.store.write(write).await
}

pub(crate) async fn delete(engine: &Arc<Inner>, who: &Caller, _origin: &Origin, id: VolumeTypeId) -> Result<(), Fault> {
    super::expect_admin(who, None, "remove volume types")?;
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let row = store::get(tx, id)?.ok_or_else(|| Fault::not_found("volume type", id))?;
        if id == DEFAULT {
            let text = format!("Volume type {} is the default one: it stays.", row.name);
            return Err(Fault::new(FaultCode::HasDependants, text));
        }
        let users = store::users(tx, id)?;
        if users > 0 {
            let text = format!("Volume type {} is in use: {users} volumes have it.", row.name);
            return Err(Fault::new(FaultCode::HasDependants, text));
        }
        Ok(store::delete(tx, id)?)
    };
    engine.store.write(write).await
}

pub(crate) async fn specs(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    id: VolumeTypeId,
    change: MetadataChange,
) -> Result<Metadata, Fault> {
    super::expect_admin(who, None, "change volume types")?;
    let write = move |tx: &Tx| -> Result<Metadata, Fault> {
        store::get(tx, id)?.ok_or_else(|| Fault::not_found("volume type", id))?;
        let mut specs = store::specs_of(tx, id)?;
        match change {
            MetadataChange::Merge(pairs) => specs.extend(pairs),
            MetadataChange::Replace(pairs) => specs = pairs,
            MetadataChange::Remove(key) => {
                specs.remove(&key).ok_or_else(|| Fault::not_found("extra spec", key))?;
            }
        }
        super::metadata::expect_pairs(&specs)?;
        store::set_specs(tx, id, &specs)?;
        Ok(specs)
    };
    engine.store.write(write).await
}

pub(crate) async fn share(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    id: VolumeTypeId,
    project: ProjectId,
    seen: bool,
) -> Result<(), Fault> {
    super::expect_admin(who, None, "share volume types")?;
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let row = store::get(tx, id)?.ok_or_else(|| Fault::not_found("volume type", id))?;
        if row.is_public {
            let text = format!("Volume type {} is public: every project sees it.", row.name);
            return Err(Fault::new(FaultCode::InvalidValue, text));
        }
        match (store::set_access(tx, id, project, seen)?, seen) {
            (true, _) => Ok(()),
            (false, true) => {
                let text = format!("Project {project} sees volume type {} already.", row.name);
                Err(Fault::new(FaultCode::NameInUse, text))
            }
            (false, false) => Err(Fault::not_found("volume type access", project)),
        }
    };
    engine.store.write(write).await
}

pub(crate) async fn all(engine: &Arc<Inner>, who: &Caller) -> Result<Vec<VolumeTypeView>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let views = views(conn, store::all(conn)?)?;
        Ok(views.into_iter().filter(|view| is_seen(view, &who)).collect())
    };
    engine.store.read(read).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: VolumeTypeId) -> Result<VolumeTypeView, Fault> {
    let who = who.clone();
    engine.store.read(move |conn: &Conn| find(conn, &who, id)).await
}

pub(crate) async fn default(engine: &Arc<Inner>, who: &Caller) -> Result<VolumeTypeView, Fault> {
    get(engine, who, DEFAULT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_asked_only_for_what_it_says_of_itself() {
        let asked = |key: &str, value: &str| unsatisfied(&Metadata::from([(key.to_owned(), value.to_owned())]));
        for (key, value) in [
            ("vendor_name", "Stillpoint"),
            ("capabilities:storage_protocol", "<in> qcow2"),
            ("thin_provisioning_support", "<is> True"),
            ("storage_protocol", "<or> iSCSI <or> qcow2"),
            ("RESKEY:availability_zones", "nova"),
        ] {
            assert_eq!(asked(key, value), None, "{key}");
        }
        for (key, value) in [
            ("vendor_name", "Somebody"),
            ("storage_protocol", "iSCSI"),
            ("multiattach", "<is> True"),
            ("spec1", "x"),
            ("volume_backend_name", "lvm"),
        ] {
            assert!(asked(key, value).is_some(), "{key}");
        }
    }
}
