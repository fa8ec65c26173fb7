-- The epoch in which a version of a secret was made; null is 1. A restored store may use a number again.
ALTER TABLE secrets ADD COLUMN epoch INTEGER;
