-- Cancel keys have room for 510 numbers. A proxy with a higher one gets another at its next hello.
UPDATE proxies SET number = NULL WHERE number > 510;
