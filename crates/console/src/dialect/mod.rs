//! The same thing in each API, side by side, with the command that asks for it.
//!
//! The documents are what the daemon's own APIs answer to the visitor: they are asked with tokens of his that are issued for it
//! and revoked after it. Where an API has no word for a thing, that is said.

mod pretty;

use crate::{disk::disk_id, layout, trouble::Trouble, visit::Visit, vm::vm_id};
use axum::{body::Body, extract::Path};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use maud::{Markup, html};
use std::time::Duration;
use stillpoint_auth::{SCOPE_API, TokenKind};
use stillpoint_engine::view::volume::{Match, Scope, VolumeQuery};
use stillpoint_types::{DiskId, ProjectId, SnapshotId, SnapshotType};
use tower::ServiceExt as _;

/// The longest document that is shown.
const DOCUMENT_MAX: usize = 1 << 20;
/// How long the tokens for it live, at most.
const LIFE: Duration = Duration::from_mins(1);
/// Snapshots of volumes that are shown of one snapshot of a VM.
const MEMBERS_MAX: u64 = 20;

/// Which API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    /// oVirt 4 and RHEV 3: a token of the API's own.
    Ovirt,
    /// Cinder and EVS: a token of a project.
    Volume,
}

/// A document that is to be asked for.
#[derive(Debug)]
struct Asked {
    title: String,
    api: Api,
    path: String,
}

/// What came.
#[derive(Debug)]
struct Answered {
    asked: Asked,
    status: u16,
    text: String,
}

/// Whatever was issued for this page, so that it is revoked whether or not the page succeeds.
struct Tokens {
    ovirt: String,
    /// `None`: the visitor has no role in the project of the thing.
    volume: Option<String>,
}

fn ovirt(path: &str) -> Vec<Asked> {
    let of = |title: &str, root: &str| Asked {
        title: title.to_owned(),
        api: Api::Ovirt,
        path: format!("{root}/{path}"),
    };
    vec![of("oVirt 4", "/ovirt-engine/api"), of("RHEV 3", "/ovirt-engine/api/v3")]
}

fn volume(title: String, path: String) -> Asked {
    Asked {
        title,
        api: Api::Volume,
        path,
    }
}

/// A VM.
pub(crate) async fn vm(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let vm = visit.engine().vm(&visit.who, vm_id(&id)?).await?;
    let back = format!("/console/vms/{}", vm.id);
    let none = html! {
        section.card {
            h2 { "Cinder and EVS" }
            p { "The volume APIs have no word for a virtual machine. They name it as the server that a volume is attached to: look at its disks." }
            ul {
                @for one in visit.engine().attachments(&visit.who, vm.id).await? {
                    li { a href={ "/console/dialects/disk/" (one.disk.id) } { (one.disk.alias) } }
                }
            }
        }
    };
    let asked = ovirt(&format!("vms/{}", vm.id));
    page(&visit, &vm.config.name, &back, vm.project, asked, &none).await
}

/// A disk, which is a volume.
pub(crate) async fn disk(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let disk = visit.engine().disk(&visit.who, disk_id(&id)?).await?;
    let project = hex(disk.project);
    let mut asked = ovirt(&format!("disks/{}", disk.id));
    asked.push(volume(
        "Cinder".into(),
        format!("/volume/v3/{project}/volumes/{}", disk.id),
    ));
    asked.push(volume("EVS".into(), format!("/v2/{project}/cloudvolumes/{}", disk.id)));
    let back = crate::disk::place(disk.id);
    page(&visit, &disk.alias, &back, disk.project, asked, &html! {}).await
}

/// A snapshot of a VM, which is one snapshot of each volume.
pub(crate) async fn snapshot(visit: Visit, Path((vm, id)): Path<(String, String)>) -> Result<Response<Body>, Trouble> {
    let (engine, who) = (visit.engine(), &visit.who);
    let id: SnapshotId = id.parse().map_err(|_bad| Trouble::Nowhere)?;
    let vm = engine.vm(who, vm_id(&vm)?).await?;
    let snapshot = engine.snapshot(who, vm.id, id).await?;
    let disks: Vec<DiskId> = engine
        .snapshot_disks(who, vm.id, id)
        .await?
        .iter()
        .map(|one| one.attachment.disk)
        .collect();
    let mut asked = ovirt(&format!("vms/{}/snapshots/{id}", vm.id));
    let mut members = Vec::new();
    if snapshot.kind != SnapshotType::Active && !disks.is_empty() {
        let query = VolumeQuery {
            scope: Scope::Project(vm.project),
            matches: vec![Match::In("volume_id", disks.iter().map(ToString::to_string).collect())],
            sort: Vec::new(),
            marker: None,
            offset: 0,
            limit: u64::MAX >> 1,
            count: false,
        };
        members = engine.volume_snapshots(who, query).await?.items;
        members.retain(|one| one.vm_snapshot == Some(id));
    }
    let project = hex(vm.project);
    for member in members.iter().take(usize::try_from(MEMBERS_MAX).unwrap_or(usize::MAX)) {
        let disk = member.volume;
        asked.push(volume(
            format!("Cinder: of disk {disk}"),
            format!("/volume/v3/{project}/snapshots/{}", member.id),
        ));
        asked.push(volume(
            format!("EVS: of disk {disk}"),
            format!("/v2/{project}/cloudsnapshots/{}", member.id),
        ));
    }
    let none = html! {
        @if members.is_empty() {
            section.card {
                h2 { "Cinder and EVS" }
                p { "There it is one snapshot of each of its volumes. This one has none." }
            }
        }
    };
    let back = format!("/console/vms/{}/snapshots/{id}", vm.id);
    let title = if snapshot.description.is_empty() {
        "a snapshot"
    } else {
        &snapshot.description
    };
    page(&visit, title, &back, vm.project, asked, &none).await
}

/// A project's id as the volume APIs write it: without hyphens.
fn hex(project: ProjectId) -> String {
    project.0.simple().to_string()
}

async fn page(
    visit: &Visit,
    name: &str,
    back: &str,
    project: ProjectId,
    asked: Vec<Asked>,
    more: &Markup,
) -> Result<Response<Body>, Trouble> {
    let auth = visit.console.auth();
    let tokens = Tokens {
        ovirt: auth.issue_token(&visit.who, SCOPE_API, TokenKind::Bearer, LIFE).await?,
        volume: match auth.issue_scoped_to(&visit.who, project, LIFE).await {
            Ok(token) => Some(token),
            Err(stillpoint_auth::AuthError::BadCredentials) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let mut answered = Vec::new();
    for one in asked {
        answered.push(ask(visit, &tokens, one).await);
    }
    auth.revoke(&tokens.ovirt).await?;
    if let Some(token) = &tokens.volume {
        auth.revoke_scoped(token).await?;
    }
    let content = html! {
        p.crumbs { a href=(back) { "Back to " (name) } }
        p { "The same thing as each API answers it to you, with the command that asks for it." }
        div.dialects {
            @for one in &answered {
                section.card {
                    h2 { (one.asked.title) }
                    pre.command tabindex="0" aria-label={ "The command for " (one.asked.title) } { (command(visit, project, &one.asked)) }
                    @if one.status != 200 { p.error { "It answered " (one.status) "." } }
                    pre tabindex="0" aria-label={ "The document of " (one.asked.title) } { (one.text) }
                }
            }
            (more)
        }
    };
    Ok(layout::page(visit, &format!("{name} in every API"), "", &content))
}

/// Asks one of the APIs. What it answers is shown, also a refusal.
async fn ask(visit: &Visit, tokens: &Tokens, asked: Asked) -> Answered {
    let request = Request::builder().uri(&asked.path);
    let request = match asked.api {
        Api::Ovirt => request
            .header("accept", "application/xml")
            .header("authorization", format!("Bearer {}", tokens.ovirt)),
        Api::Volume => request
            .header("accept", "application/json")
            .header("x-auth-token", tokens.volume.as_deref().unwrap_or_default()),
    };
    let (status, text) = match request.body(Body::empty()) {
        Ok(request) => match visit.console.settings().apis.clone().oneshot(request).await {
            Ok(response) => read(response).await,
            Err(never) => match never {},
        },
        Err(error) => (500, error.to_string()),
    };
    let text = match asked.api {
        Api::Ovirt => pretty::xml(&text),
        Api::Volume => pretty::json(&text),
    };
    Answered { asked, status, text }
}

async fn read(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    match Limited::new(response.into_body(), DOCUMENT_MAX).collect().await {
        Ok(body) => (status, String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        Err(_longer) => (
            status,
            "The document is longer than 1 MiB: ask for it with the command.".to_owned(),
        ),
    }
}

/// A text as a shell reads it back.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The command that asks for the document. The password is the visitor's to put in.
fn command(visit: &Visit, project: ProjectId, asked: &Asked) -> String {
    let root = &visit.console.settings().public_url;
    let trust = if visit.console.is_secure() {
        " --cacert ca.crt"
    } else {
        ""
    };
    let user = &visit.who.name;
    let address = quoted(&format!("{root}{}", asked.path));
    match asked.api {
        Api::Ovirt => format!(
            "curl -sS{trust} -u {} -H 'Accept: application/xml' {address}",
            quoted(&format!("{user}:PASSWORD"))
        ),
        Api::Volume => {
            let name = user.rsplit_once('@').map_or(user.as_str(), |(name, _)| name);
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            let login = format!(
                "{{\"auth\": {{\"identity\": {{\"methods\": [\"password\"], \"password\": {{\"user\": {{\"name\": \"{name}\", \
                 \"domain\": {{\"id\": \"default\"}}, \"password\": \"PASSWORD\"}}}}}}, \"scope\": {{\"project\": {{\"id\": \"{}\"}}}}}}}}",
                hex(project)
            );
            format!(
                "TOKEN=$(curl -sS{trust} -o /dev/null -D - -H 'Content-Type: application/json' \\\n  -d {} \\\n  {} \\\n  | tr -d '\\r' | sed -n 's/^x-subject-token: //Ip')\n\
                 curl -sS{trust} -H \"X-Auth-Token: $TOKEN\" {address}",
                quoted(&login),
                quoted(&format!("{root}/identity/v3/auth/tokens"))
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(quoted("o'neil; rm -rf"), r"'o'\''neil; rm -rf'");
    }
}
