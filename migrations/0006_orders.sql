-- Number of the newest order of a fleet, here so that a poll reads one row.
ALTER TABLE fleets ADD COLUMN order_number INTEGER NOT NULL DEFAULT 0;
--> statement-breakpoint
-- What operators have ordered for pools of a fleet: the newest for each effect, also when it was ended.
CREATE TABLE pool_orders (
  fleet TEXT NOT NULL REFERENCES fleets (name),
  pool TEXT NOT NULL,
  effect TEXT NOT NULL CHECK (effect IN ('paused', 'disabled')),
  operation TEXT NOT NULL,
  number INTEGER NOT NULL,
  version INTEGER NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT,
  created_at TEXT NOT NULL,
  expires_at TEXT,
  PRIMARY KEY (fleet, pool, effect)
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
-- All operations of operators on pools.
CREATE TABLE operation_log (
  n INTEGER PRIMARY KEY AUTOINCREMENT,
  fleet TEXT NOT NULL REFERENCES fleets (name),
  pool TEXT NOT NULL,
  operation TEXT NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT,
  at TEXT NOT NULL,
  expires_at TEXT
) STRICT;
--> statement-breakpoint
CREATE INDEX operation_log_by_fleet ON operation_log (fleet, n);
--> statement-breakpoint
-- With which token a proxy said hello last: it is reached no more when that was revoked. Unknown until its next hello.
ALTER TABLE proxies ADD COLUMN token_id TEXT;
