-- What the identity service of the volume API adds: projects and users that are administered while the daemon runs, several roles of a
-- user on a project, application credentials, and tokens with one scope and an absolute end.

ALTER TABLE project ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE project ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1));

ALTER TABLE app_user ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1));
ALTER TABLE app_user ADD COLUMN description TEXT;
ALTER TABLE app_user ADD COLUMN email TEXT;
-- Where a login without scope goes. No reference: a project that is deleted is taken out in the same transaction.
ALTER TABLE app_user ADD COLUMN default_project_id TEXT;

-- Keystone grants and revokes roles one by one, so each is a row now; the highest counts. seq as before: the lowest of a user's rows on
-- a project is its rank.
CREATE TABLE role_grant (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id    TEXT    NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
    project_id TEXT    NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    role       TEXT    NOT NULL CHECK (role IN ('admin', 'member', 'reader')),
    UNIQUE (user_id, project_id, role)
) STRICT;
INSERT INTO role_grant (seq, user_id, project_id, role) SELECT seq, user_id, project_id, role FROM role_assignment ORDER BY seq;
DROP TABLE role_assignment;
ALTER TABLE role_grant RENAME TO role_assignment;
CREATE INDEX role_assignment_by_project ON role_assignment (project_id);

-- secret_hash: a PHC string. roles: labels with blanks between, as asked for; none of them may be more than its owner has when it is used.
CREATE TABLE application_credential (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
    project_id   TEXT    NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    description  TEXT,
    secret_hash  TEXT    NOT NULL,
    roles        TEXT    NOT NULL,
    unrestricted INTEGER NOT NULL CHECK (unrestricted IN (0, 1)),
    expires_at   INTEGER,
    created_at   INTEGER NOT NULL,
    UNIQUE (user_id, name)
) STRICT;
CREATE INDEX application_credential_by_project ON application_credential (project_id);

-- hash as in token. methods: labels with blanks between.
CREATE TABLE scoped_token (
    hash          BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    user_id       TEXT    NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
    scope         TEXT    NOT NULL CHECK (scope IN ('unscoped', 'project', 'domain', 'system')),
    project_id    TEXT    REFERENCES project (id) ON DELETE CASCADE,
    credential_id TEXT    REFERENCES application_credential (id) ON DELETE CASCADE,
    methods       TEXT    NOT NULL,
    audit_ids     TEXT    NOT NULL,
    issued_at     INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    CHECK ((scope = 'project') = (project_id IS NOT NULL))
) STRICT;
CREATE INDEX scoped_token_by_user ON scoped_token (user_id);
CREATE INDEX scoped_token_by_project ON scoped_token (project_id);
CREATE INDEX scoped_token_by_credential ON scoped_token (credential_id);
CREATE INDEX scoped_token_by_end ON scoped_token (expires_at);
