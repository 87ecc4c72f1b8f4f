//! What clients and administrators say of volumes: quotas, types, statuses, and who has one.

use super::*;
use stillpoint_engine::view::volume::{Match, Scope, VolumeQuery};

async fn act(rig: &Rig, volume: DiskId, action: VolumeAction) -> Result<VolumeStatus, Fault> {
    let command = ActOnVolume { volume, action };
    rig.engine.act_on_volume(&rig.who, &Origin::default(), command).await?;
    Ok(seen(rig, volume).await.status)
}

fn outside(read_only: bool) -> VolumeAction {
    VolumeAction::Attach {
        server: Some(VmId::fresh()),
        host: None,
        device: "/dev/vdc".into(),
        read_only,
    }
}

/// All volumes of the administrator's project.
pub(crate) fn all(rig: &Rig) -> VolumeQuery {
    VolumeQuery {
        scope: Scope::Project(rig.who.home_project),
        matches: vec![],
        sort: vec![],
        marker: None,
        offset: 0,
        limit: 100,
        count: true,
    }
}

async fn with_status(rig: &Rig, status: VolumeStatus) -> Vec<DiskId> {
    let query = VolumeQuery {
        matches: vec![Match::In("status", vec![status.label().into()])],
        ..all(rig)
    };
    let listed = rig.engine.volumes(&rig.who, query).await.unwrap();
    assert_eq!(listed.count, Some(u64::try_from(listed.items.len()).unwrap()));
    listed.items.into_iter().map(|view| view.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_a_client_has_is_kept_from_others_and_one_that_a_vm_has_from_clients() {
    use VolumeStatus::{Attaching, Available, Detaching, Error, InUse};
    let rig = Rig::new(&[]).await;
    let id = make(&rig, volume(&rig)).await;
    assert_eq!(
        act(&rig, id, VolumeAction::Unreserve).await.unwrap(),
        Available,
        "nothing happens"
    );
    assert_eq!(act(&rig, id, VolumeAction::Reserve).await.unwrap(), Attaching);
    assert_eq!(
        code(act(&rig, id, VolumeAction::Reserve).await),
        FaultCode::VolumeStatus
    );
    assert_eq!(
        code(attach(&rig, id).await),
        FaultCode::VolumeStatus,
        "oVirt is refused"
    );
    assert_eq!(code(remove(&rig, id, false).await), FaultCode::VolumeStatus);
    let delete = DeleteDisk { disk: id };
    let refused = rig
        .engine
        .delete_disk(&rig.who, &Origin::default(), delete.clone())
        .await;
    assert_eq!(code(refused), FaultCode::VolumeStatus);
    assert_eq!(act(&rig, id, outside(false)).await.unwrap(), InUse);
    assert_eq!(with_status(&rig, InUse).await, [id]);
    let view = seen(&rig, id).await;
    assert_eq!(
        (view.attachments.len(), view.attachments[0].device.as_str()),
        (1, "/dev/vdc")
    );
    assert_eq!(code(act(&rig, id, outside(false)).await), FaultCode::VolumeStatus);
    assert_eq!(act(&rig, id, VolumeAction::BeginDetaching).await.unwrap(), Detaching);
    assert_eq!(act(&rig, id, VolumeAction::RollDetaching).await.unwrap(), InUse);
    assert_eq!(code(attach(&rig, id).await), FaultCode::VolumeStatus);
    assert_eq!(act(&rig, id, VolumeAction::Detach).await.unwrap(), Available);
    assert!(seen(&rig, id).await.attachments.is_empty());
    assert_eq!(act(&rig, id, VolumeAction::SetReadOnly(true)).await.unwrap(), Available);
    assert_eq!(code(act(&rig, id, outside(false)).await), FaultCode::InvalidValue);
    assert_eq!(act(&rig, id, VolumeAction::SetBootable(true)).await.unwrap(), Available);
    assert!(seen(&rig, id).await.bootable);

    // A VM of ours has it, though it is down.
    attach(&rig, id).await.unwrap();
    let view = seen(&rig, id).await;
    assert_eq!((view.status, view.attachments[0].server), (InUse, Some(rig.vm)));
    assert_eq!(
        (view.attachments[0].id, view.attachments[0].device.as_str()),
        (id.0, "/dev/vda")
    );
    for action in [
        VolumeAction::Detach,
        VolumeAction::BeginDetaching,
        outside(true),
        VolumeAction::Reserve,
    ] {
        assert_eq!(code(act(&rig, id, action).await), FaultCode::VolumeStatus);
    }
    let larger = |in_use| ExtendVolume {
        volume: id,
        size_bytes: 2 * GIB,
        in_use,
    };
    let origin = Origin::default();
    assert_eq!(
        code(rig.engine.extend_volume(&rig.who, &origin, larger(false)).await),
        FaultCode::VolumeStatus
    );
    let done = rig.engine.extend_volume(&rig.who, &origin, larger(true)).await.unwrap();
    rig.wait_job(done.job).await;
    let view = seen(&rig, id).await;
    assert_eq!((view.status, view.size_bytes), (InUse, 2 * GIB));
    assert!(view.updated_at.is_some());
    assert_eq!(
        code(rig.engine.extend_volume(&rig.who, &origin, larger(true)).await),
        FaultCode::OutOfRange
    );
    assert_eq!(code(remove(&rig, id, false).await), FaultCode::VolumeStatus);
    detach(&rig, id).await;

    // What an administrator says.
    let said = |status, attached| VolumeAction::ResetStatus { status, attached };
    assert_eq!(
        code(act(&rig, id, said(Some(InUse), None)).await),
        FaultCode::VolumeStatus
    );
    assert_eq!(
        code(act(&rig, id, said(Some(VolumeStatus::Deleting), None)).await),
        FaultCode::InvalidValue
    );
    assert_eq!(act(&rig, id, said(Some(Error), None)).await.unwrap(), Error);
    assert_eq!(with_status(&rig, Error).await, [id]);
    assert_eq!(code(of_volume(&rig, id, None).await), FaultCode::VolumeStatus);
    assert_eq!(
        act(&rig, id, said(Some(VolumeStatus::Maintenance), None))
            .await
            .unwrap(),
        VolumeStatus::Maintenance
    );
    let force = DeleteVolume {
        volume: id,
        cascade: false,
        force: true,
    };
    rig.engine.delete_volume(&rig.who, &origin, force).await.unwrap();
    assert_eq!(code(rig.engine.volume(&rig.who, id).await), FaultCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_and_types_say_what_a_project_may_make() {
    let rig = Rig::new(&[]).await;
    let (origin, project) = (Origin::default(), rig.who.home_project);
    let member = Caller {
        is_admin: false,
        roles: vec![(project, Role::Member)],
        ..rig.who.clone()
    };
    let limits = vec![
        ("volumes", Some(2)),
        ("gigabytes", Some(3)),
        ("per_volume_gigabytes", Some(2)),
    ];
    assert_eq!(
        code(rig.engine.set_quota(&member, &origin, project, limits.clone()).await),
        FaultCode::Forbidden
    );
    rig.engine.set_quota(&rig.who, &origin, project, limits).await.unwrap();
    let of = |gib: u64| CreateVolume {
        size_bytes: Some(gib * GIB),
        name: Some(String::new()),
        ..volume(&rig)
    };
    assert_eq!(code(try_make(&rig, of(3)).await), FaultCode::Quota, "too large");
    let first = make(&rig, of(2)).await;
    assert_eq!(
        seen(&rig, first).await.name.as_deref(),
        Some(""),
        "an empty name is not none"
    );
    assert_eq!(code(try_make(&rig, of(2)).await), FaultCode::Quota, "too many GiB");
    // Two at once: one of them.
    let (a, b) = tokio::join!(try_make(&rig, of(1)), try_make(&rig, of(1)));
    assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|made| **made).count(), 1);
    let quota = rig.engine.quota(&member, project).await.unwrap();
    assert_eq!((quota.usage.volumes, quota.usage.gigabytes), (2, 3));
    // oVirt's disks count, and are not limited.
    let disk = CreateDisk {
        id: None,
        image: None,
        alias: Some("d".into()),
        description: String::new(),
        domain: DomainRef::Default,
        size_bytes: GIB + 1,
        format: ImageFormat::Cow,
        sparse: None,
        attach: None,
    };
    let made = rig.engine.create_disk(&rig.who, &origin, disk).await.unwrap();
    rig.wait_job(made.job).await;
    let view = seen(&rig, made.id).await;
    assert_eq!(
        (view.status, view.name.as_deref()),
        (VolumeStatus::Available, Some("d"))
    );
    assert_eq!(rig.engine.quota(&member, project).await.unwrap().usage.gigabytes, 5);
    assert_eq!(code(try_make(&rig, of(1)).await), FaultCode::Quota);
    rig.engine.reset_quota(&rig.who, &origin, project).await.unwrap();

    // A type that asks for another's storage.
    let fields = TypeFields {
        name: Some("fast".into()),
        is_public: Some(false),
        ..TypeFields::default()
    };
    let fast = rig
        .engine
        .create_volume_type(&rig.who, &origin, fields.clone())
        .await
        .unwrap();
    assert_eq!(
        code(rig.engine.create_volume_type(&rig.who, &origin, fields).await),
        FaultCode::NameInUse
    );
    assert_eq!(rig.engine.volume_types(&member).await.unwrap().len(), 1);
    let specs = Metadata::from([("vendor_name".into(), "Somebody".into())]);
    let change = MetadataChange::Merge(specs);
    rig.engine
        .change_type_specs(&rig.who, &origin, fast.id, change)
        .await
        .unwrap();
    let named = |name: &str| CreateVolume {
        of_type: Some(TypeRef::Name(name.into())),
        ..of(1)
    };
    let refused = rig.engine.create_volume(&member, &origin, named("fast")).await;
    assert_eq!(code(refused), FaultCode::RelatedNotFound, "it is not his");
    rig.engine
        .share_type(&rig.who, &origin, fast.id, project, true)
        .await
        .unwrap();
    let made = rig.engine.create_volume(&member, &origin, named("fast")).await.unwrap();
    rig.wait_job(made.job).await;
    let view = seen(&rig, made.id).await;
    assert_eq!((view.status, view.of_type.1.as_str()), (VolumeStatus::Error, "fast"));
    let messages = rig.engine.volume_messages(&member, project).await.unwrap();
    assert_eq!(
        (messages.len(), messages[0].about, messages[0].action),
        (1, ("VOLUME", made.id.0), "001")
    );
    assert_eq!(
        code(rig.engine.delete_volume_type(&rig.who, &origin, fast.id).await),
        FaultCode::HasDependants
    );
    remove(&rig, made.id, false).await.unwrap();
    rig.engine.delete_volume_type(&rig.who, &origin, fast.id).await.unwrap();
    rig.engine
        .delete_volume_message(&member, &origin, project, messages[0].id)
        .await
        .unwrap();

    // Words on it, and names that oVirt sees.
    let change = |change| rig.engine.change_volume_metadata(&rig.who, &origin, first, change);
    let pairs = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect::<Metadata>()
    };
    change(MetadataChange::Merge(pairs(&[("a/b", "1"), ("c", "")])))
        .await
        .unwrap();
    assert_eq!(
        change(MetadataChange::Remove("c".into())).await.unwrap(),
        pairs(&[("a/b", "1")])
    );
    assert_eq!(
        code(change(MetadataChange::Remove("c".into())).await),
        FaultCode::NotFound
    );
    assert_eq!(
        code(change(MetadataChange::Merge(pairs(&[("", "1")]))).await),
        FaultCode::InvalidValue
    );
    let update = UpdateVolume {
        volume: first,
        name: Some(Some("x".into())),
        description: None,
    };
    rig.engine.update_volume(&rig.who, &origin, update).await.unwrap();
    assert_eq!(rig.engine.disk(&rig.who, first).await.unwrap().alias, "x");
    let (theirs, stranger) = (ProjectId::fresh(), UserId::fresh());
    let stranger = Caller {
        user: stranger,
        roles: vec![(theirs, Role::Member)],
        ..member.clone()
    };
    assert_eq!(code(rig.engine.volume(&stranger, first).await), FaultCode::NotFound);
    assert_eq!(code(rig.engine.quota(&stranger, project).await), FaultCode::NotFound);

    // It is offered to them, with its snapshot; only the key takes it.
    let taken = snapshot(&rig, first).await;
    let offer = |no_snapshots| OfferVolume {
        volume: first,
        name: None,
        no_snapshots,
    };
    assert_eq!(
        code(rig.engine.offer_volume(&member, &origin, offer(true)).await),
        FaultCode::HasDependants
    );
    let offered = rig.engine.offer_volume(&member, &origin, offer(false)).await.unwrap();
    assert_eq!(seen(&rig, first).await.status, VolumeStatus::AwaitingTransfer);
    assert_eq!(code(attach(&rig, first).await), FaultCode::VolumeStatus);
    assert_eq!(
        code(rig.engine.volume_offer(&stranger, offered.offer.id).await),
        FaultCode::NotFound
    );
    rig.engine
        .withdraw_offer(&member, &origin, offered.offer.id)
        .await
        .unwrap();
    assert_eq!(seen(&rig, first).await.status, VolumeStatus::Available);
    let offered = rig.engine.offer_volume(&member, &origin, offer(false)).await.unwrap();
    let offers = rig.engine.volume_offers(&member, project).await.unwrap();
    assert_eq!(offers, std::slice::from_ref(&offered.offer));
    let accept = |key: &str| AcceptVolume {
        offer: offered.offer.id,
        key: key.into(),
        project: theirs,
    };
    assert_eq!(
        code(rig.engine.accept_volume(&stranger, &origin, accept("x")).await),
        FaultCode::InvalidValue
    );
    rig.engine
        .accept_volume(&stranger, &origin, accept(&offered.key))
        .await
        .unwrap();
    assert_eq!(code(rig.engine.volume(&member, first).await), FaultCode::NotFound);
    let view = rig.engine.volume(&stranger, first).await.unwrap();
    assert_eq!((view.status, view.user), (VolumeStatus::Available, Some(stranger.user)));
    assert!(rig.engine.volume_snapshot(&stranger, taken).await.is_ok());
    let used = rig.engine.quota(&stranger, theirs).await.unwrap().usage;
    assert_eq!((used.volumes, used.snapshots, used.gigabytes), (1, 1, 4));
}
