-- The number that cancel keys of a proxy carry, unique in its fleet, and where others reach its clients' listener.
ALTER TABLE proxies ADD COLUMN number INTEGER CHECK (number BETWEEN 1 AND 1023);
--> statement-breakpoint
ALTER TABLE proxies ADD COLUMN peer_host TEXT;
--> statement-breakpoint
ALTER TABLE proxies ADD COLUMN peer_port INTEGER;
--> statement-breakpoint
CREATE UNIQUE INDEX proxies_by_number ON proxies (fleet, number);
