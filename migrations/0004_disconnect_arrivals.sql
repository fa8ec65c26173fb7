-- Number of each event within its fleet, so that a fleet with many events does not displace those of another.
ALTER TABLE disconnects ADD COLUMN arrival INTEGER NOT NULL DEFAULT 0;
--> statement-breakpoint
UPDATE disconnects SET arrival = numbered.arrival
FROM (SELECT n, row_number() OVER (PARTITION BY fleet ORDER BY n) AS arrival FROM disconnects) AS numbered
WHERE numbered.n = disconnects.n;
--> statement-breakpoint
CREATE INDEX disconnects_by_arrival_in_fleet ON disconnects (fleet, arrival);
