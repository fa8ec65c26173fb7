"""What asyncpg does: everything prepared, everything binary, and questions of its own about types."""

import asyncio
import datetime
import io
import json
import os
import ssl
import uuid
from decimal import Decimal

import asyncpg

CLIENTS = 8
ROUNDS = 4


def fact(name, value):
    print(json.dumps({"fact": name, "value": value}, default=str), flush=True)


async def failure_of(asked):
    try:
        await asked
        return "no error"
    except asyncpg.PostgresError as error:
        return error.sqlstate


async def move(clients, holder):
    """Every client asks while another transaction holds a server, and again when that one has just become free."""
    values, pids = [], [set() for _ in clients]

    async def ask(index):
        row = await clients[index].fetchrow("SELECT $1::int + 1 AS value, pg_backend_pid() AS pid", len(values))
        values.append(row["value"])
        pids[index].add(row["pid"])

    for _ in range(ROUNDS):
        for index in range(len(clients)):
            async with holder.transaction():
                await holder.execute("SELECT 1")
                await ask(index)
            await ask(index)
    fact("prepared", values)
    fact("servers", [len(seen) for seen in pids])


async def rolled_back(client):
    async with client.transaction():
        await client.execute("INSERT INTO smoke VALUES ($1, $2)", 1, "rolled back")
        await client.execute("SELECT 1 / $1::int", 0)


async def main():
    clients = [await asyncpg.connect(ssl=False) for _ in range(CLIENTS)]
    client, other = clients[:2]
    holder = await asyncpg.connect(ssl=False)
    fact("server", str(client.get_server_version()))
    fact("simple", await client.execute("SELECT 1; SELECT 2"))
    await move(clients, holder)
    await holder.close()

    text = "SELECT $1::int + 1"
    at_once = [[await one.fetchval(text, index * 100 + n) for n in range(20)] for index, one in enumerate(clients)]
    fact("one after another", at_once)
    fact("at once", await asyncio.gather(*(one.fetchval(text, n) for n, one in enumerate(clients))))

    fact("error in a transaction", await failure_of(rolled_back(client)))
    async with client.transaction():
        await client.execute("INSERT INTO smoke VALUES ($1, $2)", 2, "kept")
        fact("error in a savepoint", await failure_of(rolled_back(client)))
    fact("rows", [tuple(row) for row in await other.fetch("SELECT * FROM smoke ORDER BY n")])
    fact("error", await failure_of(client.fetchval("SELECT 1 / $1::int", 0)))
    fact("after the error", await client.fetchval("SELECT 1 / $1::int", 1))
    fact("a text that is wrong", await failure_of(client.fetch("SELECT FROM FROM")))

    await client.executemany("INSERT INTO smoke VALUES ($1, $2)", [(n, "many") for n in range(100, 200)])
    fact("many", await other.fetchval("SELECT sum(n) FROM smoke"))
    repeated = [(300, "a"), (2**40, "too large for an integer")]
    try:
        await client.executemany("INSERT INTO smoke VALUES ($1, $2)", repeated)
    except asyncpg.DataError as error:
        fact("error among many", str(error))
    fact("many after the error", await other.fetchval("SELECT sum(n) FROM smoke"))

    await client.execute("TRUNCATE smoke")
    await client.copy_records_to_table("smoke", records=[(n, f"line {n}") for n in range(2000)])
    out = io.BytesIO()
    fact("copied out", await client.copy_from_query("SELECT * FROM smoke ORDER BY n", output=out))
    fact("copied bytes", len(out.getvalue()))
    fact("copy that fails", await failure_of(client.copy_records_to_table("nothing", records=[(1,)])))
    async with client.transaction():
        rows = [row["n"] async for row in client.cursor("SELECT n FROM smoke ORDER BY n", prefetch=500)]
    fact("rows by a cursor", sum(rows))

    # A type that it has to ask about; it sets jit for that question and back.
    mood = await client.fetchval("SELECT $1::mood[]", ["happy", "sad"])
    fact("enum", mood)
    at = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
    row = await client.fetchrow(
        "SELECT $1::bigint, $2::numeric, $3::bytea, $4::timestamptz, $5::boolean, $6::int[], $7::uuid, NULL",
        *(2**53 + 1, Decimal("1.50"), b"\0\xff", at, True, [1, 2], uuid.UUID(int=10)),
    )
    fact("types", tuple(row))

    await client.execute("SET TimeZone = 'Asia/Tokyo'")
    async with other.transaction():
        await other.execute("SELECT 1")
        fact("TimeZone", await client.fetchval("SELECT timestamptz '2000-01-01 00:00Z'::text"))
    fact("TimeZone of another", await other.fetchval("SHOW TimeZone"))
    # What its own pool sends when a connection is given back.
    await client.reset()
    fact("TimeZone after a reset", await client.fetchval("SHOW TimeZone"))

    statement = await client.prepare("SELECT $1::int * 2")
    fact("a statement of its own", [await statement.fetchval(n) for n in range(3)])
    fact("parameters", [str(one.name) for one in statement.get_parameters()])
    await client.reload_schema_state()

    try:
        await client.execute("SELECT pg_sleep(60)", timeout=0.3)
    except asyncio.TimeoutError:
        fact("canceled", "by its timeout")
    fact("after the cancel", await client.fetchval(text, 6))

    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    secure = await asyncpg.connect(ssl=context)
    fact("TLS", await secure.fetchval("SELECT $1::text", "secure"))
    for one in [*clients, secure]:
        await one.close()


asyncio.run(main())
