-- Versions that proxies apply without trying their servers first: 1, and NULL for all others.
ALTER TABLE versions ADD COLUMN forced INTEGER;
