//! Users, as far as a client may see them.

use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    login,
    search::{self, Field, Searchable},
};
use stillpoint_auth::UserView;
use stillpoint_types::UserId;
use stillpoint_wire::model::{self, Header};

static FIELDS: &[Field] = &[
    search::own(&["name"]).free(),
    search::own(&["usrname"]).free(),
    search::own(&["id"]),
];
/// Users that are asked for at once.
const PAGE_ITEMS: u32 = 100;

impl Searchable for UserView {
    fn field(&self, name: &str) -> Vec<String> {
        match name {
            "name" => vec![self.name.clone()],
            "usrname" => vec![self.full_name.clone()],
            "id" => vec![self.id.to_string()],
            _ => Vec::new(),
        }
    }
}

/// `GET /users`. Users are the few people who operate the installation: the list is made whole.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    call.follow(&[])?;
    let search = call.search(FIELDS)?;
    let mut found = Vec::new();
    each_page(&call, |page| {
        found.extend(page.iter().filter(|view| search.finds(*view)).cloned());
    })
    .await?;
    search.arrange(&mut found, UserView::field);
    let (skip, take) = search.window(call.params().max(), found.len());
    let shown = found.iter().skip(skip).take(take);
    let shown: Vec<_> = shown.map(|view| represent(call.base(), view)).collect();
    Ok(call.items(&shown))
}

/// `GET /users/{user}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let id: UserId = call.id(0)?;
    let view = call.auth().user(&call.who, id).await.map_err(login::refused)?;
    let view = view.ok_or_else(|| Refused::not_found(&id.to_string()))?;
    Ok(call.ok(&represent(call.base(), &view)))
}

/// A user as a member that refers to him; with a place only for those who may look there.
pub(crate) fn reference(call: &Call, id: UserId) -> model::User {
    let mut user = model::User::default();
    user.head.id = Some(id.to_string());
    if call.who.is_admin || call.who.user == id {
        user.head.href = Some(format!("{}/users/{id}", call.base()));
    }
    user
}

/// A user as he looks, or a reference to one whom the caller may not see.
pub(crate) async fn whole(call: &Call, id: UserId) -> Result<model::User, Refused> {
    let view = call.auth().user(&call.who, id).await.map_err(login::refused)?;
    Ok(view.map_or_else(|| reference(call, id), |view| represent(call.base(), &view)))
}

/// How many users the caller can see.
pub(crate) async fn count(call: &Call) -> Result<u64, Refused> {
    let mut count = 0;
    each_page(call, |page| count += u64::try_from(page.len()).unwrap_or(u64::MAX)).await?;
    Ok(count)
}

async fn each_page(call: &Call, mut f: impl FnMut(&[UserView])) -> Result<(), Refused> {
    let mut last: Option<UserView> = None;
    loop {
        let page = call.auth().users(&call.who, last.as_ref(), PAGE_ITEMS).await;
        let page = page.map_err(login::refused)?;
        f(&page);
        match page.last() {
            Some(end) if last.as_ref() != Some(end) => last = Some(end.clone()),
            _ => return Ok(()),
        }
    }
}

fn represent(base: &str, view: &UserView) -> model::User {
    let mut head = Header::new(view.id.to_string(), format!("{base}/users/{}", view.id));
    head.name = Some(view.name.clone());
    model::User {
        head,
        namespace: Some("*".into()),
        principal: Some(view.name.clone()),
        user_name: Some(view.full_name.clone()),
        ..model::User::default()
    }
}
