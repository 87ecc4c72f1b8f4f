//! Tests of scoped tokens: when they end, and that what is remembered of them never outlives them.

use crate::{
    AuthError, NewCredential, ProjectChange, RoleGrant, ScopeAsked, UserChange, UserRef, prove::CredentialRef,
    scoped_token::SCOPED_LIFE, tests::Room,
};
use secrecy::SecretString;
use std::sync::Arc;
use stillpoint_store::token::TokenKind;
use stillpoint_types::{Role, now_micros};

const USERS: &str = r#"
[[project]]
name = "first"
[[project]]
name = "second"
[[user]]
name = "root"
password = "root-password"
admin = true
[[user]]
name = "ann"
password = "ann-password"
  [[user.role]]
  project = "first"
  role = "member"
"#;

async fn room() -> Room {
    let room = Room::new().await;
    room.apply(USERS).await.unwrap();
    room
}

async fn token(room: &Room, user: &str, scope: ScopeAsked) -> Result<String, AuthError> {
    let proven = room
        .auth
        .prove_password(&UserRef::Name(user.into()), &format!("{user}-password"))
        .await?;
    Ok(room.auth.issue_scoped(proven, scope).await?.0)
}

fn named(name: &str) -> ScopeAsked {
    ScopeAsked::ProjectNamed(name.into())
}

#[tokio::test]
async fn a_scoped_token_ends_at_its_time_however_often_it_is_used() {
    let room = room().await;
    let text = token(&room, "ann", named("first")).await.unwrap();
    let view = room.auth.scoped_token(&text).await.unwrap();
    assert_eq!(
        view.expires_at - view.issued_at,
        i64::try_from(SCOPED_LIFE.as_micros()).unwrap()
    );
    for at in [view.issued_at, view.expires_at - 1] {
        assert!(room.auth.scoped_of_token_at(&text, at).await.is_ok());
    }
    let late = room.auth.scoped_of_token_at(&text, view.expires_at).await;
    assert!(matches!(late, Err(AuthError::BadToken)), "{late:?}");
    // Rows that are void go when others come.
    let proven = room.auth.prove_token(&text).await.unwrap();
    let much_later = view.expires_at + 1;
    let refused = room.auth.issue_scoped_at(proven, named("first"), much_later).await;
    assert!(refused.is_err(), "an ended token was exchanged");
}

#[tokio::test]
async fn what_is_remembered_of_a_token_is_void_after_each_change_that_matters() {
    let room = room().await;
    let auth = &room.auth;
    let lives = async |text: &str| auth.scoped_of_token(text).await.is_ok();
    let first = auth.project_by_name("first").await.unwrap().unwrap().id;
    let text = token(&room, "ann", named("first")).await.unwrap();
    let (one, two) = (
        auth.scoped_of_token(&text).await.unwrap(),
        auth.scoped_of_token(&text).await.unwrap(),
    );
    assert!(Arc::ptr_eq(&one, &two), "it is looked up each time");
    let ann = one.caller.user;

    let grant = |role| RoleGrant {
        user: ann,
        project: first,
        role,
    };
    auth.grant_role(grant(Role::Admin)).await.unwrap();
    assert!(auth.scoped_of_token(&text).await.unwrap().caller.is_admin);
    assert!(auth.revoke_role(grant(Role::Admin)).await.unwrap());
    assert!(!auth.scoped_of_token(&text).await.unwrap().caller.is_admin);

    let disabled = |enabled| ProjectChange {
        enabled: Some(enabled),
        ..ProjectChange::default()
    };
    auth.update_project(first, disabled(false)).await.unwrap();
    assert!(!lives(&text).await);
    auth.update_project(first, disabled(true)).await.unwrap();
    assert!(!lives(&text).await, "it came back");

    let text = token(&room, "ann", named("first")).await.unwrap();
    assert!(lives(&text).await && auth.revoke_scoped(&text).await.unwrap());
    assert!(!lives(&text).await && !auth.revoke_scoped(&text).await.unwrap());

    let text = token(&room, "ann", named("first")).await.unwrap();
    assert!(lives(&text).await);
    assert!(auth.revoke_role(grant(Role::Member)).await.unwrap());
    assert!(!lives(&text).await);
    auth.grant_role(grant(Role::Member)).await.unwrap();

    let text = token(&room, "ann", named("first")).await.unwrap();
    assert!(lives(&text).await);
    auth.set_password(ann, "another").await.unwrap();
    assert!(!lives(&text).await);
    auth.set_password(ann, "ann-password").await.unwrap();

    let text = token(&room, "ann", named("first")).await.unwrap();
    assert!(lives(&text).await);
    let disable = UserChange {
        enabled: Some(false),
        ..UserChange::default()
    };
    auth.update_user(ann, disable).await.unwrap();
    assert!(!lives(&text).await);
    let refused = token(&room, "ann", named("first")).await;
    assert!(matches!(refused, Err(AuthError::BadCredentials)), "{refused:?}");
}

#[tokio::test]
async fn a_change_is_finished_even_if_nobody_waits_for_it() {
    let room = room().await;
    let text = token(&room, "ann", named("first")).await.unwrap();
    room.auth.scoped_of_token(&text).await.unwrap();
    {
        let revoke = room.auth.revoke_scoped(&text);
        let mut revoke = std::pin::pin!(revoke);
        // Polled once, then dropped, as when a client hangs up.
        std::future::poll_fn(|context| {
            drop(revoke.as_mut().poll(context));
            std::task::Poll::Ready(())
        })
        .await;
    }
    let mut is_gone = false;
    for _ in 0..500 {
        is_gone = room.auth.scoped_of_token(&text).await.is_err();
        if is_gone {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(is_gone, "a revoked token is remembered");
}

#[tokio::test]
async fn logins_are_refused_alike_and_tokens_of_one_api_are_none_of_the_other() {
    let room = room().await;
    for (user, scope) in [
        ("ann", named("second")),
        ("ann", named("nowhere")),
        ("ann", ScopeAsked::System),
        ("ann", ScopeAsked::Domain),
        ("ann", ScopeAsked::Nothing),
        ("nobody", named("first")),
    ] {
        let refused = token(&room, user, scope.clone()).await;
        assert!(
            matches!(refused, Err(AuthError::BadCredentials)),
            "{user} {scope:?} {refused:?}"
        );
    }
    for scope in [named("second"), ScopeAsked::System, ScopeAsked::Domain] {
        let text = token(&room, "root", scope).await.unwrap();
        assert!(room.auth.scoped_of_token(&text).await.unwrap().caller.is_admin);
        assert!(matches!(
            room.auth.caller_of_token(&text).await,
            Err(AuthError::BadToken)
        ));
    }
    let caller = room.auth.login("ann@internal", "ann-password").await.unwrap();
    let bearer = room
        .auth
        .issue_token(&caller, crate::SCOPE_API, TokenKind::Bearer, crate::BEARER_IDLE)
        .await
        .unwrap();
    assert!(room.auth.scoped_of_token(&bearer).await.is_err());
}

#[tokio::test]
async fn an_application_credential_has_no_more_than_its_owner_has_at_the_time() {
    let room = room().await;
    let auth = &room.auth;
    let text = token(&room, "ann", named("first")).await.unwrap();
    let maker = auth.scoped_of_token(&text).await.unwrap();
    let new = |name: &str, roles: Vec<Role>, expires_at| NewCredential {
        name: name.into(),
        description: None,
        secret: Some(SecretString::from("chosen")),
        roles,
        unrestricted: false,
        expires_at,
    };
    for bad in [
        new("a", vec![Role::Admin], None),
        new("a", Vec::new(), Some(now_micros() - 1)),
        new(" ", Vec::new(), None),
    ] {
        let refused = auth.create_credential(&maker, bad).await;
        assert!(matches!(refused, Err(AuthError::Invalid(_))), "{refused:?}");
    }
    let (made, secret) = auth
        .create_credential(&maker, new("a", vec![Role::Member], None))
        .await
        .unwrap();
    let which = CredentialRef::Name("a".into(), UserRef::Id(maker.caller.user));
    let proven = auth.prove_credential(&which, crate::shown_once(&secret)).await.unwrap();
    let (text, view) = auth.issue_scoped(proven, ScopeAsked::Default).await.unwrap();
    assert_eq!(
        (view.scoped.role(), view.scoped.is_restricted),
        (Some(Role::Member), true)
    );
    assert!(auth.prove_token(&text).await.is_err(), "it was exchanged");
    // The owner becomes a reader: so do her credentials.
    let roles = USERS.replace("role = \"member\"", "role = \"reader\"");
    room.apply(&roles).await.unwrap();
    let proven = auth
        .prove_credential(&CredentialRef::Id(made.id), "chosen")
        .await
        .unwrap();
    let (_, view) = auth.issue_scoped(proven, ScopeAsked::Default).await.unwrap();
    assert_eq!(view.scoped.role(), Some(Role::Reader));
    assert!(auth.delete_credential(maker.caller.user, made.id).await.unwrap());
    assert!(auth.scoped_of_token(&text).await.is_err());
    let refused = auth.prove_credential(&CredentialRef::Id(made.id), "chosen").await;
    assert!(matches!(refused, Err(AuthError::BadCredentials)), "{refused:?}");
}

#[tokio::test]
async fn who_is_known_gets_a_token_of_his_own_projects_only_and_not_for_long() {
    let room = room().await;
    let auth = &room.auth;
    let minute = std::time::Duration::from_mins(1);
    let id = async |name: &str| auth.project_by_name(name).await.unwrap().unwrap().id;
    let (first, second) = (id("first").await, id("second").await);
    let ann = auth.login("ann@internal", "ann-password").await.unwrap();
    let text = auth.issue_scoped_to(&ann, first, minute).await.unwrap();
    let view = auth.scoped_token(&text).await.unwrap();
    assert_eq!(
        (view.scoped.role(), view.scoped.caller.is_admin),
        (Some(Role::Member), false)
    );
    assert!(view.expires_at - view.issued_at <= 60_000_000);
    // Whatever he says of himself: what counts is what is granted.
    let mut boaster = ann.clone();
    boaster.is_admin = true;
    boaster.roles.push((second, Role::Admin));
    let refused = auth.issue_scoped_to(&boaster, second, minute).await;
    assert!(matches!(refused, Err(AuthError::BadCredentials)), "{refused:?}");
    let change = UserChange {
        enabled: Some(false),
        ..UserChange::default()
    };
    auth.update_user(ann.user, change).await.unwrap();
    assert!(auth.issue_scoped_to(&ann, first, minute).await.is_err(), "disabled");
}
