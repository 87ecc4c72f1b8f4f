//! Cookie sessions (`Prefer: persistent-auth`): a second name for a token, with an idle limit of its own.
//!
//! Held in memory only. What is lost when the daemon ends is a client's convenience: it gets 401 and logs in again. The
//! token behind a session is in the identity store, so a revoked user's sessions end with his tokens.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Most sessions; beyond, the one that was idle longest ends.
const SESSIONS_MAX: usize = 4096;
/// Idle limit when the client names none.
pub(crate) const IDLE_DEFAULT: Duration = Duration::from_secs(180 * 60);
/// Longest idle limit that a client can ask for.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A session.
#[derive(Debug, Clone)]
struct Session {
    token: String,
    idle_limit: Duration,
    csrf: bool,
    used: Instant,
}

/// What a session stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continued {
    /// The token behind it.
    pub(crate) token: String,
    /// Whether each request must repeat the id in a header.
    pub(crate) csrf: bool,
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// Begins a session for a token and returns its id and, if there were too many, the token of the one that ended.
    pub(crate) fn begin(&self, token: String, idle_limit: Duration, csrf: bool, now: Instant) -> (String, Vec<String>) {
        let id = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        if sessions.len() >= SESSIONS_MAX {
            ended = take_expired(&mut sessions, now);
        }
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, s)| s.used).map(|(id, _)| id.clone())
        {
            ended.extend(sessions.remove(&oldest).map(|session| session.token));
        }
        sessions.insert(
            id.clone(),
            Session {
                token,
                idle_limit,
                csrf,
                used: now,
            },
        );
        (id, ended)
    }

    /// The session of an id, which is thereby used; `None`: unknown or idle for too long.
    pub(crate) fn proceed(&self, id: &str, now: Instant) -> Option<Continued> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id)?;
        if now.saturating_duration_since(session.used) > session.idle_limit {
            sessions.remove(id);
            return None;
        }
        session.used = now;
        Some(Continued {
            token: session.token.clone(),
            csrf: session.csrf,
        })
    }

    /// Ends a session and returns the token that has to be revoked with it.
    pub(crate) fn end(&self, id: &str) -> Option<String> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(id).map(|session| session.token)
    }
}

fn take_expired(sessions: &mut HashMap<String, Session>, now: Instant) -> Vec<String> {
    let expired: Vec<String> = sessions
        .iter()
        .filter(|(_, s)| now.saturating_duration_since(s.used) > s.idle_limit)
        .map(|(id, _)| id.clone())
        .collect();
    expired
        .iter()
        .filter_map(|id| sessions.remove(id))
        .map(|session| session.token)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_idleness_and_not_by_age() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let (id, _) = sessions.begin("t".into(), minute, false, start);
        assert!(sessions.proceed(&id, start + minute).is_some());
        assert!(sessions.proceed(&id, start + 2 * minute).is_some());
        assert!(
            sessions
                .proceed(&id, start + 3 * minute + Duration::from_secs(1))
                .is_none()
        );
        assert!(sessions.proceed(&id, start + 3 * minute).is_none(), "gone, not asleep");
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let (first, _) = sessions.begin("first".into(), IDLE_DEFAULT, false, start);
        let mut ended = Vec::new();
        for i in 0..SESSIONS_MAX {
            let later = start + Duration::from_secs(1 + i as u64);
            ended.extend(sessions.begin("t".into(), IDLE_DEFAULT, false, later).1);
        }
        assert!(sessions.proceed(&first, start).is_none());
        assert_eq!(ended, ["first"]);
    }
}
