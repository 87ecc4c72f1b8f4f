//! What edges and operators can rely on, on a real catalogue; instants are given where idleness is judged.

use crate::*;
use secrecy::ExposeSecret;
use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};
use stillpoint_types::{Micros, ProjectId, Role};

const SECOND: Micros = 1_000_000;
const FILE: &str = "bootstrap.toml";
/// The example of the product's documentation.
const EXAMPLE: &str = r#"
[[project]]
name = "demo"
id = "0123456789abcdef0123456789abcdef"     # optional

[[user]]
name = "admin"            # admin@internal for oVirt, admin in domain Default for Keystone
password = "change-me"    # or password_file = "PATH"
admin = true

[[user]]
name = "alice"
password = "change-me-too"
  [[user.role]]
  project = "demo"
  role = "member"         # admin | member | reader
  [[user.access_key]]
  access = "EXAMPLEAK"
  secret = "examplesecret"
"#;

pub(crate) struct Room {
    folder: tempfile::TempDir,
    store: Store,
    pub(crate) auth: Auth,
}

impl Room {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("catalogue.db")).unwrap();
        let auth = Auth::open(store.clone(), &folder.path().join("keys/secret.key"))
            .await
            .unwrap();
        Self { folder, store, auth }
    }

    async fn example() -> Self {
        let room = Self::new().await;
        room.apply(EXAMPLE).await.unwrap();
        room
    }

    pub(crate) async fn apply(&self, text: &str) -> Result<(), AuthError> {
        self.auth
            .apply_bootstrap(&Bootstrap::parse(text, &self.path(FILE))?)
            .await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Every row of every table but the tokens, as text.
    fn rows(&self) -> Vec<String> {
        let sql = rusqlite::Connection::open(self.path("catalogue.db")).unwrap();
        let mut rows = Vec::new();
        for table in ["meta", "project", "app_user", "role_assignment", "access_key"] {
            let mut statement = sql.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).unwrap();
            let columns = statement.column_count();
            let mut found = statement.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                let values: Vec<_> = (0..columns)
                    .map(|column| format!("{:?}", row.get_ref(column).unwrap()))
                    .collect();
                rows.push(format!("{table}: {}", values.join(", ")));
            }
        }
        rows
    }

    async fn bearer(&self, who: &Caller, idle_s: u64, now: Micros) -> String {
        let idle = Duration::from_secs(idle_s);
        self.auth
            .issue_token_at(who, SCOPE_API, TokenKind::Bearer, idle, now)
            .await
            .unwrap()
    }
}

/// The line and message of a refused bootstrap.
async fn refusal(room: &Room, text: &str) -> (usize, String) {
    match room.apply(text).await {
        Err(AuthError::Bootstrap { line, what, .. }) => (line, what),
        other => panic!("{text}: {other:?}"),
    }
}

#[tokio::test]
async fn the_documented_bootstrap_gives_exactly_what_it_says() {
    let room = Room::example().await;
    let demo: ProjectId = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();

    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    assert_eq!(
        (admin.name.as_str(), admin.is_admin, admin.home_project),
        ("admin@internal", true, demo)
    );
    let alice = room.auth.login("alice@internal", "change-me-too").await.unwrap();
    assert_eq!(alice.roles, [(demo, Role::Member)]);
    assert_eq!((alice.is_admin, alice.home_project), (false, demo));
    assert_eq!(alice.may(demo, Need::Operate), Access::Allowed);
    assert_eq!(alice.may(ProjectId::fresh(), Need::Read), Access::Invisible);

    let (owner, secret) = room.auth.access_key("EXAMPLEAK").await.unwrap().unwrap();
    assert_eq!((owner.user, secret.expose_secret()), (alice.user, "examplesecret"));
    assert!(room.auth.access_key("exampleak").await.unwrap().is_none());
    let file = std::fs::read(room.path("catalogue.db-wal")).unwrap();
    for secret in ["examplesecret", "change-me"] {
        assert!(
            !file.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "{secret} is in the database"
        );
    }
}

#[tokio::test]
async fn applying_twice_changes_no_row_and_never_deletes() {
    let room = Room::example().await;
    let before = room.rows();
    assert!(before.len() >= 7, "{before:?}");
    room.apply(EXAMPLE).await.unwrap();
    assert_eq!(room.rows(), before);
    room.apply("").await.unwrap();
    let after = room.rows();
    assert!(before.iter().all(|row| after.contains(row)), "{after:?}");
    assert_eq!(after.len(), before.len() + 1, "only the project `default` is new");
}

#[tokio::test]
async fn the_files_password_wins_ends_the_users_tokens_and_spares_others() {
    let room = Room::example().await;
    let alice = room.auth.login("alice@internal", "change-me-too").await.unwrap();
    room.auth.set_password(alice.user, "my own").await.unwrap();
    assert!(matches!(
        room.auth.login("alice@internal", "change-me-too").await,
        Err(AuthError::BadCredentials)
    ));
    let alice = room.auth.login("alice@internal", "my own").await.unwrap();
    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    let now = stillpoint_types::now_micros();
    let (of_alice, of_admin) = (room.bearer(&alice, 60, now).await, room.bearer(&admin, 60, now).await);

    room.apply(EXAMPLE).await.unwrap();
    assert!(matches!(
        room.auth.login("alice@internal", "my own").await,
        Err(AuthError::BadCredentials)
    ));
    room.auth.login("alice@internal", "change-me-too").await.unwrap();
    assert!(matches!(
        room.auth.caller_of_token(&of_alice).await,
        Err(AuthError::BadToken)
    ));
    room.auth.caller_of_token(&of_admin).await.unwrap();
}

#[tokio::test]
async fn a_changed_file_changes_roles_admin_names_and_secrets_in_place() {
    let room = Room::example().await;
    let before = room.auth.login("alice@internal", "change-me-too").await.unwrap();
    let changed = EXAMPLE
        .replace("\"demo\"", "\"renamed\"")
        .replace("\"member\"", "\"reader\"")
        .replace("admin = true", "admin = false")
        .replace("examplesecret", "another");
    room.apply(&changed).await.unwrap();
    let alice = room.auth.login("alice@internal", "change-me-too").await.unwrap();
    assert_eq!(alice.user, before.user);
    assert_eq!(alice.roles, [(before.home_project, Role::Reader)]);
    assert_eq!(alice.may(before.home_project, Need::Operate), Access::Forbidden);
    let own = room.auth.projects(&alice, "", 10).await.unwrap();
    assert_eq!(
        own.iter().map(|project| project.name.as_str()).collect::<Vec<_>>(),
        ["renamed"]
    );
    assert!(!room.auth.login("admin@internal", "change-me").await.unwrap().is_admin);
    let (_, secret) = room.auth.access_key("EXAMPLEAK").await.unwrap().unwrap();
    assert_eq!(secret.expose_secret(), "another");
}

#[tokio::test]
async fn a_bad_bootstrap_is_refused_with_its_line_and_changes_nothing() {
    let room = Room::example().await;
    let before = room.rows();
    let user = |more: &str| format!("[[user]]\nname = \"u\"\npassword = \"p\"\n{more}");
    let cases = [
        ("[[project]]\nname = \"p\"\ncolour = \"red\"\n".to_owned(), 3, "colour"),
        ("\n[server]\nport = 1\n".to_owned(), 2, "server"),
        ("[[project]]\nname = \"p\"\n\nbroken = = 1\n".to_owned(), 4, ""),
        (
            "[[project]]\nname = \"p\"\n[[project]]\nname = \"p\"\n".to_owned(),
            4,
            "line 2",
        ),
        (
            "[[project]]\nname = \"p\"\nid = \"../../x\"\n".to_owned(),
            3,
            "32 hexadecimal",
        ),
        ("[[project]]\nname = \"p\\u0000q\"\n".to_owned(), 2, "control"),
        (format!("[[project]]\nname = \"{}\"\n", "x".repeat(256)), 2, "255"),
        (
            "[[project]]\nname = \"demo\"\nid = \"ffffffffffffffffffffffffffffffff\"\n".to_owned(),
            2,
            "cannot change",
        ),
        (user(&user("")), 5, "line 2"),
        (
            user("[[user.role]]\nproject = \"demo\"\nrole = \"owner\"\n"),
            6,
            "owner",
        ),
        (
            user("[[user.role]]\nproject = \"nowhere\"\nrole = \"member\"\n"),
            5,
            "nowhere",
        ),
        (
            user("[[user.access_key]]\naccess = \"EXAMPLEAK\"\nsecret = \"s\"\n"),
            5,
            "another user",
        ),
        (
            user("[[user.access_key]]\naccess = \"a b\"\nsecret = \"s\"\n"),
            5,
            "ASCII",
        ),
        (user("password_file = \"x\"\n"), 4, "not both"),
        (
            "[[user]]\nname = \"u\"\npassword_file = \"no-such-file\"\n".to_owned(),
            3,
            "no-such-file",
        ),
        ("[[user]]\nname = \"u\"\n".to_owned(), 2, "no password"),
        ("[[user]]\nname = \"u\"\npassword = \"\"\n".to_owned(), 3, "1 to 1024"),
        (
            "[[user]]\nname = \"u@internal\"\npassword = \"p\"\n".to_owned(),
            2,
            "without @internal",
        ),
    ];
    for (text, line, word) in cases {
        let (at, what) = refusal(&room, &text).await;
        assert_eq!(at, line, "{text}: {what}");
        assert!(what.contains(word), "{text}: {what}");
    }
    // A user that comes before the bad line is not made either.
    let half = format!(
        "{}[[user]]\nname = \"v\"\npassword = \"p\"\n[[user.role]]\nproject = \"x\"\nrole = \"reader\"\n",
        user("")
    );
    refusal(&room, &half).await;
    assert_eq!(room.rows(), before);
}

#[tokio::test]
async fn no_error_of_a_bootstrap_shows_a_secret() {
    let room = Room::new().await;
    for text in [
        "[[user]]\nname = \"u\"\npassword = \"hunter2\nadmin = true\n",
        "[[user]]\nname = \"u\"\npassword = [\"hunter2\"]\n",
        "[[user]]\nname = \"u\"\npasswort = \"hunter2\"\n",
        "[[user]]\nname = \"u\"\npassword = \"p\"\n[[user.access_key]]\naccess = \"A\"\nsecret = { hunter2 = 1 }\n",
    ] {
        let error = room.apply(text).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let read = Bootstrap::parse(EXAMPLE, "x".as_ref()).unwrap();
    assert!(!format!("{read:?}").contains("change-me"));
}

#[tokio::test]
async fn a_password_file_is_read_beside_the_bootstrap_without_its_line_end() {
    let room = Room::new().await;
    std::fs::write(room.path("pw"), " spaces stay \r\n").unwrap();
    let text = "[[user]]\nname = \"u\"\npassword_file = \"pw\"\n";
    std::fs::write(room.path(FILE), text).unwrap();
    room.auth
        .apply_bootstrap(&Bootstrap::load(&room.path(FILE)).unwrap())
        .await
        .unwrap();
    room.auth.login("u@internal", " spaces stay ").await.unwrap();

    std::fs::write(room.path("pw"), "x".repeat(5000)).unwrap();
    assert_eq!(refusal(&room, text).await.0, 3);
    std::fs::write(room.path(FILE), b"[[project]]\nname = \"\xff\"\n").unwrap();
    assert!(matches!(
        Bootstrap::load(&room.path(FILE)),
        Err(AuthError::Bootstrap { line: 2, .. })
    ));
    assert!(matches!(
        Bootstrap::load(&room.path("none")),
        Err(AuthError::File { .. })
    ));
}

#[tokio::test]
async fn a_first_start_makes_one_admin_whose_password_only_its_owner_can_read() {
    let room = Room::new().await;
    let path = room.auth.first_start(room.folder.path()).await.unwrap().unwrap();
    let password = std::fs::read_to_string(&path).unwrap();
    assert_eq!(path, room.path(ADMIN_PASSWORD_FILE));
    let admin = room.auth.login("admin@internal", password.trim_end()).await.unwrap();
    assert!(admin.is_admin);
    assert_eq!(
        room.auth
            .project(&admin, admin.home_project)
            .await
            .unwrap()
            .unwrap()
            .name,
        DEFAULT_PROJECT
    );
    for file in [
        path.clone(),
        room.path("keys/secret.key"),
        room.path("keys"),
        room.path("catalogue.db"),
    ] {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
    assert!(password.trim_end().len() >= 24);

    let rows = room.rows();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(room.auth.first_start(room.folder.path()).await.unwrap(), None);
    assert!(!path.exists());
    assert_eq!(room.rows(), rows);
}

#[tokio::test]
async fn only_the_exact_name_and_password_let_in() {
    let room = Room::new().await;
    room.apply("[[user]]\nname = \"john@corp\"\npassword = \"pä ss\"\nadmin = true\n[[user]]\nname = \"x' OR '1'='1\"\npassword = \"q\"\n")
        .await
        .unwrap();
    let john = room.auth.login("john@corp@internal", "pä ss").await.unwrap();
    assert_eq!(john.name, "john@corp@internal");
    room.auth.login("x' OR '1'='1@internal", "q").await.unwrap();
    for (user, password) in [
        ("john@corp@internal", "pä ss "),
        ("john@corp@internal", ""),
        ("john@corp@ldap", "pä ss"),
        ("john@corp", "pä ss"),
        ("John@corp@internal", "pä ss"),
        ("' OR 1=1 --@internal", "x"),
        ("%@internal", "pä ss"),
        ("@internal", "pä ss"),
        ("@", ""),
        ("", ""),
        ("a\0b@internal", "x"),
    ] {
        let refused = room.auth.login(user, password).await.unwrap_err();
        assert!(matches!(refused, AuthError::BadCredentials), "{user}: {refused:?}");
    }
}

#[tokio::test]
async fn a_huge_password_name_or_token_is_refused_before_any_work() {
    let room = Room::example().await;
    let huge = "x".repeat(1024 * 1024);
    let start = Instant::now();
    for _ in 0..200 {
        assert!(matches!(
            room.auth.login("admin@internal", &huge).await,
            Err(AuthError::TooLong { .. })
        ));
        assert!(matches!(
            room.auth.login(&huge, "x").await,
            Err(AuthError::TooLong { .. })
        ));
        assert!(matches!(
            room.auth.caller_of_token(&huge).await,
            Err(AuthError::BadToken)
        ));
        assert!(!room.auth.revoke(&huge).await.unwrap());
    }
    // 200 hashes would take seconds.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    assert!(matches!(
        room.auth.set_password(admin.user, &huge).await,
        Err(AuthError::TooLong { .. })
    ));
    assert!(matches!(
        room.auth.set_password(admin.user, "").await,
        Err(AuthError::Invalid(_))
    ));
    let issued = room
        .auth
        .issue_token(&admin, &huge, TokenKind::Bearer, BEARER_IDLE)
        .await;
    assert!(matches!(issued, Err(AuthError::TooLong { .. })));
    assert!(
        room.auth
            .issue_token(&admin, "", TokenKind::Bearer, Duration::ZERO)
            .await
            .is_err()
    );
    room.auth
        .issue_token(&admin, "", TokenKind::Bearer, Duration::MAX)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_wrong_password_and_a_proved_one_no_time() {
    const ROUNDS: u32 = 8;
    let room = Room::example().await;
    let pairs = [
        ("admin@internal", "wrong"),
        ("nobody@internal", "wrong"),
        ("admin@internal", "change-me"),
    ];
    let mut fastest = [Duration::MAX; 3];
    // In turn, so that what else the machine does slows all three.
    for _ in 0..ROUNDS {
        for ((user, password), fastest) in pairs.iter().zip(&mut fastest) {
            let start = Instant::now();
            drop(room.auth.login(user, password).await);
            *fastest = start.elapsed().min(*fastest);
        }
    }
    let [wrong, unknown, proved] = fastest;
    println!("wrong {wrong:?}, unknown {unknown:?}, proved {proved:?}");
    // The fastest of some rounds each; generous, as the machine is shared. Without the dummy hash it is some 100 times.
    assert!(
        unknown * 3 > wrong && wrong * 3 > unknown,
        "wrong {wrong:?}, unknown {unknown:?}"
    );
    assert!(proved * 3 < wrong, "wrong {wrong:?}, proved {proved:?}");
}

#[tokio::test]
async fn a_changed_password_ends_a_remembered_proof_at_once() {
    let room = Room::example().await;
    let alice = room.auth.login("alice@internal", "change-me-too").await.unwrap();
    room.auth.login("alice@internal", "change-me-too").await.unwrap();
    room.auth.set_password(alice.user, "next").await.unwrap();
    assert!(matches!(
        room.auth.login("alice@internal", "change-me-too").await,
        Err(AuthError::BadCredentials)
    ));
    room.auth.login("alice@internal", "next").await.unwrap();
}

#[tokio::test]
async fn a_token_lives_by_use_and_ends_by_idleness_or_logout() {
    let room = Room::example().await;
    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    let start = 1_000_000 * SECOND;
    let token = room.bearer(&admin, 60, start).await;
    assert_eq!(token.len(), 43);
    assert!(
        token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
        "{token}"
    );
    assert_ne!(token, room.bearer(&admin, 60, start).await);

    // Used each 59 s it lives on, though not each use is written.
    let mut now = start;
    for _ in 0..10 {
        now += 29 * SECOND;
        let grant = room.auth.caller_of_token_at(&token, now).await.unwrap();
        assert_eq!(grant.caller, admin);
        assert_eq!(grant.expires_at, now + 60 * SECOND);
        now += 30 * SECOND;
        room.auth.caller_of_token_at(&token, now).await.unwrap();
    }
    room.auth.caller_of_token_at(&token, now + 59 * SECOND).await.unwrap();
    let idle = room.auth.caller_of_token_at(&token, now + 119 * SECOND).await;
    assert!(matches!(idle, Err(AuthError::BadToken)));
    assert!(
        matches!(
            room.auth.caller_of_token_at(&token, start).await,
            Err(AuthError::BadToken)
        ),
        "it is gone for good"
    );

    let token = room.bearer(&admin, 60, start).await;
    assert!(room.auth.revoke(&token).await.unwrap());
    assert!(!room.auth.revoke(&token).await.unwrap());
    for bad in [token.as_str(), "", "x", &"A".repeat(43), "' OR 1=1 --"] {
        assert!(
            matches!(room.auth.caller_of_token_at(bad, start).await, Err(AuthError::BadToken)),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn uses_of_a_token_are_written_at_most_once_in_half_a_minute() {
    let room = Room::example().await;
    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    let start = 1_000_000 * SECOND;
    let token = room.bearer(&admin, 3600, start).await;
    let before = room.store.commits();
    for n in 0..100 {
        room.auth.caller_of_token_at(&token, start + n * SECOND).await.unwrap();
    }
    assert_eq!(room.store.commits() - before, 3, "at 30, 60 and 90 s");

    // What was written survives a restart.
    let again = Auth::open(room.store.clone(), &room.path("keys/secret.key"))
        .await
        .unwrap();
    again
        .caller_of_token_at(&token, start + (90 + 3599) * SECOND)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_session_says_how_it_must_be_carried_and_scopes_are_whole_words() {
    let room = Room::example().await;
    let alice = room.auth.login("alice@internal", "change-me-too").await.unwrap();
    for kind in [
        TokenKind::Bearer,
        TokenKind::Session { csrf: false },
        TokenKind::Session { csrf: true },
    ] {
        let scope = "ovirt-app-api-x ovirt-ext=token:login-on-behalf";
        let token = room.auth.issue_token(&alice, scope, kind, SESSION_IDLE).await.unwrap();
        let grant = room.auth.caller_of_token(&token).await.unwrap();
        assert_eq!(grant.kind, kind);
        assert!(!grant.has_scope(SCOPE_API));
        assert!(grant.has_scope("ovirt-app-api-x"));
    }
}

#[tokio::test]
async fn a_caller_of_a_token_has_the_rights_of_now_not_of_login() {
    let room = Room::example().await;
    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    let token = room
        .auth
        .issue_token(&admin, SCOPE_API, TokenKind::Bearer, BEARER_IDLE)
        .await
        .unwrap();
    room.apply(&EXAMPLE.replace("admin = true", "admin = false"))
        .await
        .unwrap();
    assert!(!room.auth.caller_of_token(&token).await.unwrap().caller.is_admin);
}

#[tokio::test]
async fn tokens_that_ended_are_swept_and_live_ones_are_not() {
    let room = Room::example().await;
    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    let start = 1_000_000 * SECOND;
    for _ in 0..5 {
        room.bearer(&admin, 60, start).await;
    }
    let live = room.bearer(&admin, 3600, start).await;
    room.bearer(&admin, 60, start + 600 * SECOND).await;
    let sql = rusqlite::Connection::open(room.path("catalogue.db")).unwrap();
    let left: i64 = sql
        .query_row("SELECT count(*) FROM token", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 2);
    room.auth.caller_of_token_at(&live, start + 600 * SECOND).await.unwrap();
}

#[tokio::test]
async fn an_admin_sees_all_users_and_projects_others_themselves_and_their_own() {
    let room = Room::example().await;
    room.apply("[[project]]\nname = \"other\"\n[[user]]\nname = \"bob\"\npassword = \"p\"\n")
        .await
        .unwrap();
    let admin = room.auth.login("admin@internal", "change-me").await.unwrap();
    let alice = room.auth.login("alice@internal", "change-me-too").await.unwrap();
    let bob = room.auth.login("bob@internal", "p").await.unwrap();
    let names = |users: &[UserView]| users.iter().map(|user| user.full_name.clone()).collect::<Vec<_>>();

    let first = room.auth.users(&admin, None, 2).await.unwrap();
    assert_eq!(names(&first), ["admin@internal", "alice@internal"]);
    let rest = room.auth.users(&admin, first.last(), 2).await.unwrap();
    assert_eq!(names(&rest), ["bob@internal"]);
    let own = room.auth.users(&alice, None, 10).await.unwrap();
    assert_eq!(names(&own), ["alice@internal"]);
    assert!(room.auth.users(&alice, own.last(), 10).await.unwrap().is_empty());
    assert!(room.auth.user(&alice, admin.user).await.unwrap().is_none());
    assert_eq!(room.auth.user(&admin, alice.user).await.unwrap().unwrap().name, "alice");

    let seen = async |who: &Caller| {
        let projects = room.auth.projects(who, "", 10).await.unwrap();
        projects.into_iter().map(|project| project.name).collect::<Vec<_>>()
    };
    assert_eq!(seen(&admin).await, ["demo", "other"]);
    assert_eq!(seen(&alice).await, ["demo"]);
    assert!(seen(&bob).await.is_empty());
    assert_eq!(bob.may(bob.home_project, Need::Read), Access::Invisible);
    assert!(
        room.auth.project(&alice, admin.home_project).await.unwrap().is_none(),
        "the home is now `other`"
    );
}

#[tokio::test]
async fn a_lost_or_foreign_key_file_is_refused_while_secrets_depend_on_it() {
    let room = Room::example().await;
    let path = room.path("keys/secret.key");
    let key = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        Auth::open(room.store.clone(), &path).await,
        Err(AuthError::Key { .. })
    ));
    assert!(!path.exists(), "no new key hides the loss");
    drop(Auth::open(Room::new().await.store, &path).await.unwrap());
    assert!(matches!(
        Auth::open(room.store.clone(), &path).await,
        Err(AuthError::Key { .. })
    ));
    std::fs::write(&path, key).unwrap();
    let auth = Auth::open(room.store.clone(), &path).await.unwrap();
    assert!(auth.access_key("EXAMPLEAK").await.unwrap().is_some());
}
