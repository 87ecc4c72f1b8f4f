//! Users, as far as a client may see them.

use crate::{answer::Answer, call::Call, fault::Refused, house, identity::UserView, login};
use stillpoint_types::UserId;
use stillpoint_wire::model::{self, Header};

/// `GET /users`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let shown = all(&call)
        .await?
        .iter()
        .map(|view| represent(call.base(), view))
        .collect();
    house::few(&call, shown)
}

/// `GET /users/{user}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let user: UserId = call.id(0)?;
    let users = all(&call).await?;
    let view = users.iter().find(|view| view.id == user);
    let view = view.ok_or_else(|| Refused::not_found(&user.to_string()))?;
    Ok(call.ok(&represent(call.base(), view)))
}

/// The users that the caller may see.
pub(crate) async fn all(call: &Call) -> Result<Vec<UserView>, Refused> {
    let identity = &call.visit.api.0.gate.identity;
    identity.users(&call.who).await.map_err(login::refused)
}

fn represent(base: &str, view: &UserView) -> model::User {
    let (name, profile) = view.name.rsplit_once('@').unwrap_or((&view.name, "internal"));
    let mut head = Header::new(view.id.to_string(), format!("{base}/users/{}", view.id));
    head.name = Some(name.to_owned());
    model::User {
        head,
        namespace: Some("*".into()),
        principal: Some(name.to_owned()),
        user_name: Some(format!("{name}@{profile}-authz")),
        ..model::User::default()
    }
}
