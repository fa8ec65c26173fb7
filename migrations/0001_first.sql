CREATE TABLE guards (ok INTEGER NOT NULL CONSTRAINT guard CHECK (ok = 1)) STRICT;
--> statement-breakpoint
CREATE TABLE control (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch INTEGER NOT NULL CHECK (epoch >= 1),
  key_check TEXT NOT NULL DEFAULT ''
) STRICT;
--> statement-breakpoint
INSERT INTO control (id, epoch) VALUES (1, 1);
--> statement-breakpoint
CREATE TABLE fleets (
  name TEXT PRIMARY KEY,
  created_at TEXT NOT NULL,
  version INTEGER NOT NULL DEFAULT 0,
  manifest_hash TEXT NOT NULL DEFAULT '',
  poll_interval_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE versions (
  fleet TEXT NOT NULL REFERENCES fleets (name),
  version INTEGER NOT NULL CHECK (version >= 1),
  created_at TEXT NOT NULL,
  message TEXT,
  rollback_of INTEGER,
  content_hash TEXT NOT NULL,
  document TEXT NOT NULL,
  manifest TEXT NOT NULL,
  manifest_hash TEXT NOT NULL,
  pools INTEGER NOT NULL,
  PRIMARY KEY (fleet, version)
) STRICT;
--> statement-breakpoint
-- INSERT OR REPLACE would take the old row away without asking the other two triggers.
CREATE TRIGGER versions_only_once BEFORE INSERT ON versions
WHEN EXISTS (SELECT 1 FROM versions WHERE fleet = NEW.fleet AND version = NEW.version)
BEGIN SELECT RAISE(ABORT, 'already there'); END;
--> statement-breakpoint
CREATE TRIGGER versions_never_change BEFORE UPDATE ON versions
BEGIN SELECT RAISE(ABORT, 'a version never changes'); END;
--> statement-breakpoint
CREATE TRIGGER versions_never_go BEFORE DELETE ON versions
BEGIN SELECT RAISE(ABORT, 'a version is never deleted'); END;
--> statement-breakpoint
CREATE TABLE pool_bodies (
  fleet TEXT NOT NULL REFERENCES fleets (name),
  hash TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (fleet, hash)
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
CREATE TRIGGER pool_bodies_only_once BEFORE INSERT ON pool_bodies
WHEN EXISTS (SELECT 1 FROM pool_bodies WHERE fleet = NEW.fleet AND hash = NEW.hash AND body <> NEW.body)
BEGIN SELECT RAISE(ABORT, 'already there'); END;
--> statement-breakpoint
CREATE TRIGGER pool_bodies_never_change BEFORE UPDATE ON pool_bodies
BEGIN SELECT RAISE(ABORT, 'a pool body never changes'); END;
--> statement-breakpoint
CREATE TRIGGER pool_bodies_never_go BEFORE DELETE ON pool_bodies
BEGIN SELECT RAISE(ABORT, 'a pool body is never deleted'); END;
--> statement-breakpoint
CREATE TABLE secrets (
  fleet TEXT NOT NULL REFERENCES fleets (name),
  name TEXT NOT NULL,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_at TEXT NOT NULL,
  kind TEXT NOT NULL,
  sealed TEXT NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (fleet, name, version)
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
CREATE TRIGGER secrets_only_once BEFORE INSERT ON secrets
WHEN EXISTS (SELECT 1 FROM secrets WHERE fleet = NEW.fleet AND name = NEW.name AND version = NEW.version)
BEGIN SELECT RAISE(ABORT, 'already there'); END;
--> statement-breakpoint
CREATE TRIGGER secrets_never_change BEFORE UPDATE ON secrets
BEGIN SELECT RAISE(ABORT, 'a version of a secret never changes'); END;
--> statement-breakpoint
CREATE TRIGGER secrets_never_go BEFORE DELETE ON secrets
BEGIN SELECT RAISE(ABORT, 'a version of a secret is never deleted'); END;
--> statement-breakpoint
CREATE TABLE tokens (
  sha256 TEXT PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  fleet TEXT NOT NULL REFERENCES fleets (name),
  name TEXT NOT NULL,
  created_at TEXT NOT NULL,
  revoked_at TEXT
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX tokens_by_fleet ON tokens (fleet);
--> statement-breakpoint
CREATE TABLE proxies (
  fleet TEXT NOT NULL REFERENCES fleets (name),
  id TEXT NOT NULL,
  boot TEXT NOT NULL,
  hello_at TEXT,
  agent_version TEXT,
  hint_url TEXT,
  listen TEXT,
  region TEXT,
  last_seen_at TEXT,
  seq INTEGER NOT NULL DEFAULT 0,
  reported_at TEXT,
  report TEXT,
  PRIMARY KEY (fleet, id)
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE disconnects (
  n INTEGER PRIMARY KEY AUTOINCREMENT,
  fleet TEXT NOT NULL REFERENCES fleets (name),
  id TEXT NOT NULL,
  proxy TEXT NOT NULL,
  received_at TEXT NOT NULL,
  at TEXT NOT NULL,
  pool TEXT NOT NULL,
  user TEXT NOT NULL,
  host TEXT NOT NULL,
  port INTEGER NOT NULL,
  role TEXT NOT NULL,
  backend_pid INTEGER,
  cause TEXT NOT NULL,
  errno TEXT,
  sqlstate TEXT,
  message TEXT,
  state TEXT NOT NULL,
  connection_age_ms REAL NOT NULL,
  idle_ms REAL NOT NULL,
  client_hurt INTEGER NOT NULL,
  pool_hash TEXT NOT NULL,
  UNIQUE (fleet, proxy, id)
) STRICT;
--> statement-breakpoint
CREATE INDEX disconnects_by_time ON disconnects (fleet, at, n);
--> statement-breakpoint
CREATE INDEX disconnects_by_arrival ON disconnects (fleet, n);
