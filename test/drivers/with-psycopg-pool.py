"""What psycopg does within asyncio and with a pool of its own, which checks, resets and replaces connections."""

import asyncio
import json
import logging

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

# It says what it puts in order.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

CLIENTS = 8
ROUNDS = 4
NEXT = "SELECT %s::int + 1, pg_backend_pid()"


def fact(name, value):
    print(json.dumps({"fact": name, "value": value}, default=str), flush=True)


async def failure_of(asked):
    try:
        await asked
        return "no error"
    except psycopg.Error as error:
        return error.sqlstate or type(error).__name__


async def one(connection, text, values=()):
    cursor = await connection.execute(text, values)
    return await cursor.fetchone()


async def move(clients, holder):
    """Every client asks while another transaction holds a server, and again when that one has just become free."""
    values, pids = [], [set() for _ in clients]

    async def ask(index):
        value, pid = await one(clients[index], NEXT, (len(values),))
        values.append(value)
        pids[index].add(pid)

    for _ in range(ROUNDS):
        for index in range(len(clients)):
            async with holder.transaction():
                await holder.execute("SELECT 1")
                await ask(index)
            await ask(index)
    fact("prepared", values)
    fact("servers", [len(seen) for seen in pids])


async def at_once(pool):
    async def sum_of(n):
        async with pool.connection() as connection:
            async with connection.transaction():
                first = await one(connection, NEXT, (n,))
                second = await one(connection, NEXT, (n,))
            return first[0] if first == second else "two servers in one transaction"

    fact("at once", await asyncio.gather(*(sum_of(n) for n in range(200))))


async def transactions(pool):
    async def broken():
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO smoke VALUES (1, 'committed at once')")
            await one(connection, "SELECT 1 / %s::int", (0,))

    fact("error with a connection of the pool", await failure_of(broken()))
    async with pool.connection() as connection:
        async with connection.transaction():
            await connection.execute("INSERT INTO smoke VALUES (2, 'kept')")
            fact("error in a savepoint", await failure_of(within(connection)))
    # Left in the middle of a transaction: the pool rolls it back.
    connection = await pool.getconn()
    await connection.set_autocommit(False)
    await connection.execute("INSERT INTO smoke VALUES (3, 'left')")
    await pool.putconn(connection)
    async with pool.connection() as connection:
        fact("rows", await one(connection, "SELECT string_agg(n || ' ' || t, ', ' ORDER BY n) FROM smoke"))


async def within(connection):
    async with connection.transaction():
        await connection.execute("INSERT INTO smoke VALUES (4, 'rolled back')")
        await connection.execute("SELECT 1 / %s::int", (0,))


async def results(client, other):
    async with client.pipeline():
        cursors = [await client.execute(NEXT, (n,)) for n in range(100)]
        fact("pipeline", [(await cursor.fetchone())[0] for cursor in cursors])

    async def broken():
        async with client.pipeline() as pipeline:
            await client.execute("INSERT INTO smoke VALUES (%s, 'before the error')", (5,))
            await client.execute("SELECT 1 / %s::int", (0,))
            await client.execute("INSERT INTO smoke VALUES (%s, 'after the error')", (6,))
            await pipeline.sync()

    fact("error in a pipeline", await failure_of(broken()))
    fact("after the pipeline", await one(client, "SELECT count(*) FROM smoke WHERE n > %s", (4,)))
    async with client.cursor() as cursor:
        fact("stream", [n async for (n,) in cursor.stream("SELECT generate_series(1, %s::int)", (100,), size=7)])
    async with client.transaction():
        async with client.cursor("of the server", scrollable=True) as cursor:
            await cursor.execute("SELECT generate_series(1, %s::int)", (100,))
            fact("cursor of the server", [len(await cursor.fetchmany(30)) for _ in range(5)])
            await cursor.scroll(10, mode="absolute")
            fact("scrolled", await cursor.fetchone())
    async with client.cursor() as cursor:
        await cursor.execute("TRUNCATE smoke")
        async with cursor.copy("COPY smoke FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(2000):
                await copy.write_row((n, f"line {n}"))
        async with cursor.copy("COPY (SELECT n FROM smoke ORDER BY n) TO STDOUT") as copy:
            fact("copied out", sum([int(n) async for (n,) in copy.rows()]))
        await cursor.executemany("INSERT INTO smoke VALUES (%s, %s)", [(n, "many") for n in range(100)])
        fact("many", cursor.rowcount)
    fact("rows of another", await one(other, "SELECT count(*), sum(n) FROM smoke"))


async def listens(client, other):
    await client.execute("LISTEN news")
    for n in range(3):
        await other.execute("SELECT pg_notify('news', %s::text)", (n,))
    fact("heard", [(got.channel, got.payload) async for got in client.notifies(timeout=20, stop_after=3)])
    await client.execute("UNLISTEN *")


async def cancels(client, other):
    running = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = %s"
    sleep = "SELECT pg_sleep(60)"
    task = asyncio.create_task(client.execute(sleep))
    while (await other.execute(running, (sleep,))).rowcount == 0:
        pass
    # psycopg cancels the query of a task that is canceled, and waits for its end.
    task.cancel()
    fact("task", await asyncio.gather(task, return_exceptions=True) and task.cancelled())
    fact("after it", await one(client, NEXT.split(",")[0], (6,)))
    fact("still running", (await other.execute(running, (sleep,))).rowcount)


async def lost(pool):
    """The pool replaces what does not answer its check."""
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
        connection.pgconn.finish()
    async with pool.connection() as connection:
        fact("instead of a lost one", await one(connection, "SELECT %s::int", (1,)))
    everybody = [await pool.getconn() for _ in range(CLIENTS)]
    try:
        await pool.getconn(timeout=0.05)
    except PoolTimeout as error:
        fact("a pool that is empty", type(error).__name__)
    for connection in everybody:
        await pool.putconn(connection)


async def main():
    async with AsyncConnectionPool(
        "sslmode=disable",
        min_size=CLIENTS,
        max_size=CLIENTS,
        kwargs={"autocommit": True, "prepare_threshold": 1},
        check=AsyncConnectionPool.check_connection,
    ) as pool:
        await pool.wait()
        clients = [await pool.getconn() for _ in range(CLIENTS)]
        async with await psycopg.AsyncConnection.connect("sslmode=disable", autocommit=True) as holder:
            await move(clients, holder)
        for client in clients:
            await pool.putconn(client)
        await at_once(pool)
        await transactions(pool)
        async with pool.connection() as client, pool.connection() as other:
            await results(client, other)
            await listens(client, other)
            await cancels(client, other)
        await lost(pool)
    secured = "sslmode=verify-full channel_binding=require"
    async with await psycopg.AsyncConnection.connect(secured) as secure:
        fact("TLS", [secure.pgconn.ssl_in_use, await one(secure, "SELECT %s::text", ("secure",))])


asyncio.run(main())
