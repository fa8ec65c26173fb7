-- A row for each process: two that have the same name are both seen.
CREATE TABLE proxy_processes (
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
  number INTEGER CHECK (number BETWEEN 1 AND 1023),
  peer_host TEXT,
  peer_port INTEGER,
  body_format INTEGER,
  known_keys TEXT,
  token_id TEXT,
  -- When this process was first heard of.
  known_at TEXT,
  -- The pools of the newest report, those that it did not repeat too, and what states are made of.
  pools TEXT,
  pool_facts TEXT,
  -- What it said at hello that it runs.
  hello_epoch INTEGER,
  hello_version INTEGER,
  PRIMARY KEY (fleet, id, boot)
) STRICT, WITHOUT ROWID;
--> statement-breakpoint
INSERT INTO proxy_processes (fleet, id, boot, hello_at, agent_version, hint_url, listen, region, last_seen_at, seq,
  reported_at, report, number, peer_host, peer_port, body_format, known_keys, token_id)
SELECT fleet, id, boot, hello_at, agent_version, hint_url, listen, region, last_seen_at, seq,
  reported_at, report, number, peer_host, peer_port, body_format, known_keys, token_id
FROM proxies;
--> statement-breakpoint
DROP TABLE proxies;
--> statement-breakpoint
ALTER TABLE proxy_processes RENAME TO proxies;
--> statement-breakpoint
CREATE UNIQUE INDEX proxies_by_number ON proxies (fleet, number);
