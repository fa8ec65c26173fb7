-- What a proxy says at hello: the format it is given, and the keys that it knows, as JSON. Null for release 0.1.0.
ALTER TABLE proxies ADD COLUMN body_format INTEGER;
--> statement-breakpoint
ALTER TABLE proxies ADD COLUMN known_keys TEXT;
--> statement-breakpoint
-- Fields of events that this release does not know, as JSON.
ALTER TABLE disconnects ADD COLUMN other TEXT;
--> statement-breakpoint
-- Manifests of versions in formats above 1, whose manifests are in the versions themselves.
CREATE TABLE manifests (
  fleet TEXT NOT NULL REFERENCES fleets (name),
  version INTEGER NOT NULL,
  format INTEGER NOT NULL CHECK (format > 1),
  manifest TEXT NOT NULL,
  PRIMARY KEY (fleet, version, format)
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
CREATE TRIGGER manifests_only_once BEFORE INSERT ON manifests
WHEN EXISTS (
  SELECT 1 FROM manifests
  WHERE fleet = NEW.fleet AND version = NEW.version AND format = NEW.format AND manifest <> NEW.manifest
)
BEGIN SELECT RAISE(ABORT, 'already there'); END;
--> statement-breakpoint
CREATE TRIGGER manifests_never_change BEFORE UPDATE ON manifests
BEGIN SELECT RAISE(ABORT, 'a manifest never changes'); END;
--> statement-breakpoint
CREATE TRIGGER manifests_never_go BEFORE DELETE ON manifests
BEGIN SELECT RAISE(ABORT, 'a manifest is never deleted'); END;
