//! Tokens of the volume API: 256 random bits as the others, but of one scope, and with an absolute end (ADR 0016).
//!
//! They lie in a table of their own: a token of the oVirt API is none here, nor one of these there.

use crate::{Auth, AuthError, Scoped, caller, prove::Proven, random, token::hash_of};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{sync::Arc, time::Duration};
use stillpoint_store::{
    Conn, application_credential,
    application_credential::ApplicationCredential,
    project,
    project::Project,
    scoped_token::{self, Scope, ScopedToken},
    token::TokenHash,
    user,
    user::User,
};
use stillpoint_types::{Caller, Micros, ProjectId, Role, now_micros};
use subtle::ConstantTimeEq;

/// How long a token of the volume API lives.
pub const SCOPED_LIFE: Duration = Duration::from_hours(12);

/// Tokens are 43 characters; what is longer than this is not even hashed.
const TOKEN_MAX_BYTES: usize = 128;

/// What a login asks to be scoped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeAsked {
    /// The user's default project, if he has one and a role on it; else nothing.
    Default,
    /// Nothing.
    Unscoped,
    /// The project of that id.
    Project(ProjectId),
    /// The project of that name.
    ProjectNamed(String),
    /// The one domain.
    Domain,
    /// The installation.
    System,
    /// What cannot be (a domain that is not there, an id that is none): refused as all wrong logins are.
    Nothing,
}

/// A token with all that may be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// Its owner within its scope.
    pub scoped: Scoped,
    /// The owner.
    pub user: User,
    /// The project that it is scoped to.
    pub project: Option<Project>,
    /// The application credential that it was given for.
    pub credential: Option<ApplicationCredential>,
    /// How its owner proved who he is.
    pub methods: Vec<String>,
    /// Its name in audit trails, then that of the first one it came from.
    pub audit_ids: Vec<String>,
    /// When it was issued.
    pub issued_at: Micros,
    /// When it ends.
    pub expires_at: Micros,
}

impl TokenView {
    /// The roles within the scope, those that are implied too.
    #[must_use]
    pub fn roles(&self) -> &'static [Role] {
        self.scoped.role().map_or(&[], Role::with_implied)
    }
}

/// What a token stands for at the moment; `None`: nothing (any more).
fn view(conn: &Conn, token: &ScopedToken) -> Result<Option<TokenView>, AuthError> {
    let Some(user) = user::by_id(conn, token.user)?.filter(|user| user.enabled) else {
        return Ok(None);
    };
    let project = match token.scope.project() {
        Some(id) => match project::by_id(conn, id)?.filter(|project| project.enabled) {
            Some(project) => Some(project),
            None => return Ok(None),
        },
        None => None,
    };
    let Some(mut scoped) = Scoped::narrow(&caller::of_user(conn, &user)?, token.scope) else {
        return Ok(None);
    };
    let credential = match token.credential {
        Some(id) => match application_credential::by_id(conn, id)? {
            Some(credential) => Some(credential),
            None => return Ok(None),
        },
        None => None,
    };
    if let Some(credential) = &credential {
        let Some(most) = highest(&credential.roles) else {
            return Ok(None);
        };
        scoped = scoped.at_most(most);
        scoped.is_restricted = !credential.unrestricted;
    }
    let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect();
    Ok(Some(TokenView {
        scoped,
        user,
        project,
        credential,
        methods: words(&token.methods),
        audit_ids: words(&token.audit_ids),
        issued_at: token.issued_at,
        expires_at: token.expires_at,
    }))
}

/// The highest of the roles that a text lists.
fn highest(labels: &str) -> Option<Role> {
    labels
        .split_ascii_whitespace()
        .filter_map(|label| label.parse().ok())
        .reduce(|one: Role, other: Role| if one.includes(other) { one } else { other })
}

fn read(conn: &Conn, hash: &TokenHash, now: Micros) -> Result<Option<TokenView>, AuthError> {
    match scoped_token::by_hash(conn, hash)? {
        Some(token) if now < token.expires_at && bool::from(token.hash.ct_eq(hash)) => view(conn, &token),
        _ => Ok(None),
    }
}

/// What was asked for, as far as it is there. Whether the user has a role on it is judged afterwards.
fn resolve(conn: &Conn, proven: &Proven, asked: ScopeAsked) -> Result<Option<Scope>, AuthError> {
    if let Some(credential) = &proven.credential {
        // It has its project; a login with one that asks for another scope was refused before.
        return Ok(Some(Scope::Project(credential.project)));
    }
    Ok(match asked {
        ScopeAsked::Unscoped => Some(Scope::Unscoped),
        ScopeAsked::Project(id) => Some(Scope::Project(id)),
        ScopeAsked::ProjectNamed(name) => project::by_name(conn, &name)?.map(|project| Scope::Project(project.id)),
        ScopeAsked::Domain => Some(Scope::Domain),
        ScopeAsked::System => Some(Scope::System),
        ScopeAsked::Nothing => None,
        ScopeAsked::Default => {
            let user = user::by_id(conn, proven.user)?;
            let Some(id) = user.as_ref().and_then(|user| user.profile.default_project) else {
                return Ok(Some(Scope::Unscoped));
            };
            let is_there = project::by_id(conn, id)?.is_some_and(|project| project.enabled);
            let caller = user.map(|user| caller::of_user(conn, &user)).transpose()?;
            let may = caller.is_some_and(|caller| Scoped::narrow(&caller, Scope::Project(id)).is_some());
            Some(if is_there && may {
                Scope::Project(id)
            } else {
                Scope::Unscoped
            })
        }
    })
}

impl Auth {
    /// Makes a token for somebody who has proved who he is. It is durable when it is returned.
    ///
    /// # Errors
    /// `BadCredentials` if he has no role in what he asks for, or it is not there or disabled: not said which. `Random`, `Store`.
    pub async fn issue_scoped(&self, proven: Proven, asked: ScopeAsked) -> Result<(String, TokenView), AuthError> {
        self.issue_scoped_at(proven, asked, now_micros()).await
    }

    /// Makes a token of the volume API for somebody whom another of our doors has let in already, in a project in which he has a
    /// role: with that role, never more, and for no longer than `life`.
    ///
    /// # Errors
    /// `BadCredentials` if he has no role there, or is disabled; `Random`, `Store`.
    pub async fn issue_scoped_to(
        &self,
        caller: &Caller,
        project: ProjectId,
        life: Duration,
    ) -> Result<String, AuthError> {
        let life = i64::try_from(life.as_micros()).unwrap_or(i64::MAX);
        let proven = Proven::known(caller.user, now_micros().saturating_add(life));
        let (token, _) = self.issue_scoped(proven, ScopeAsked::Project(project)).await?;
        Ok(token)
    }

    pub(crate) async fn issue_scoped_at(
        &self,
        proven: Proven,
        asked: ScopeAsked,
        now: Micros,
    ) -> Result<(String, TokenView), AuthError> {
        let text = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let audit_id = URL_SAFE_NO_PAD.encode(random::<16>()?);
        let hash = hash_of(&text);
        let life = i64::try_from(SCOPED_LIFE.as_micros()).unwrap_or(i64::MAX);
        let sweep = self.known.sweep_is_due(now);
        let view = self
            .store
            .write(move |tx| -> Result<_, AuthError> {
                if sweep {
                    scoped_token::delete_void(tx, now)?;
                }
                // The proof was of a moment ago: what it rests on must still be so in this transaction.
                if !proven.holds(tx)? {
                    return Err(AuthError::BadCredentials);
                }
                let scope = resolve(tx, &proven, asked)?.ok_or(AuthError::BadCredentials)?;
                let token = ScopedToken {
                    hash,
                    user: proven.user,
                    scope,
                    credential: proven.credential.as_ref().map(|credential| credential.id),
                    methods: proven.methods.join(" "),
                    audit_ids: std::iter::once(audit_id.as_str())
                        .chain(proven.first_audit_id.as_deref())
                        .collect::<Vec<_>>()
                        .join(" "),
                    issued_at: now,
                    expires_at: now.saturating_add(life).min(proven.ends_by.unwrap_or(Micros::MAX)),
                };
                if let Some(id) = scope.project()
                    && project::by_id(tx, id)?.is_none()
                {
                    return Err(AuthError::BadCredentials);
                }
                let view = view(tx, &token)?.ok_or(AuthError::BadCredentials)?;
                scoped_token::insert(tx, &token)?;
                Ok(view)
            })
            .await?;
        Ok((text, view))
    }

    /// Who a token of the volume API stands for. Cheap: what was found is remembered until anything changes ([`crate::known`]).
    ///
    /// # Errors
    /// `BadToken`, `Store`.
    pub async fn scoped_of_token(&self, text: &str) -> Result<Arc<Scoped>, AuthError> {
        self.scoped_of_token_at(text, now_micros()).await
    }

    pub(crate) async fn scoped_of_token_at(&self, text: &str, now: Micros) -> Result<Arc<Scoped>, AuthError> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(AuthError::BadToken);
        }
        let hash = hash_of(text);
        if let Some(scoped) = self.known.get(&hash, now) {
            return Ok(scoped);
        }
        let mark = self.known.mark();
        let found = self.store.read(move |conn| read(conn, &hash, now)).await?;
        let view = found.ok_or(AuthError::BadToken)?;
        let scoped = Arc::new(view.scoped);
        self.known.put(hash, mark, view.expires_at, Arc::clone(&scoped));
        Ok(scoped)
    }

    /// All that may be told of a token.
    ///
    /// # Errors
    /// `BadToken`, `Store`.
    pub async fn scoped_token(&self, text: &str) -> Result<TokenView, AuthError> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(AuthError::BadToken);
        }
        let (hash, now) = (hash_of(text), now_micros());
        let found = self.store.read(move |conn| read(conn, &hash, now)).await?;
        found.ok_or(AuthError::BadToken)
    }

    /// Ends a token, at once. False if there was none.
    ///
    /// # Errors
    /// `Store`.
    pub async fn revoke_scoped(&self, text: &str) -> Result<bool, AuthError> {
        if text.len() > TOKEN_MAX_BYTES {
            return Ok(false);
        }
        let hash = hash_of(text);
        self.change(move |tx| scoped_token::delete(tx, &hash)).await
    }
}
