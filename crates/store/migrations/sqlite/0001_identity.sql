-- Who may do what: projects, users, roles, keys, tokens; and the key-value table of the installation itself.
-- Ids are hyphenated lower-case UUIDs, instants are microseconds since the Unix epoch (UTC), truth values are 0 and 1.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE project (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE app_user (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    domain        TEXT    NOT NULL DEFAULT 'internal',
    password_hash TEXT,              -- a PHC string; NULL: no login by password
    is_admin      INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    created_at    INTEGER NOT NULL,
    UNIQUE (name, domain)
) STRICT;

-- seq keeps the order of granting: what a user makes belongs to the first project he has a role in.
CREATE TABLE role_assignment (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id    TEXT    NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
    project_id TEXT    NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    role       TEXT    NOT NULL CHECK (role IN ('admin', 'member', 'reader')),
    UNIQUE (user_id, project_id)
) STRICT;
CREATE INDEX role_assignment_by_project ON role_assignment (project_id);

-- The secret is sealed by the auth room; this room never sees it in clear.
CREATE TABLE access_key (
    access     TEXT    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
    secret_enc BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX access_key_by_user ON access_key (user_id);

-- hash is the SHA-256 of the token: who reads the database cannot use it.
CREATE TABLE token (
    hash         BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    user_id      TEXT    NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL CHECK (kind IN ('bearer', 'session')),
    scope        TEXT    NOT NULL,
    csrf         INTEGER NOT NULL DEFAULT 0 CHECK (csrf IN (0, 1)),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    idle_limit_s INTEGER NOT NULL CHECK (idle_limit_s > 0)
) STRICT;
CREATE INDEX token_by_user ON token (user_id);
