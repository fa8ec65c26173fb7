"""What psycopg 3 does: it prepares what was asked five times, keeps few statements, and has a pipeline mode."""

import datetime
import json
import logging
import threading
import uuid
from decimal import Decimal

import psycopg

# It depends on the moment whether it says that a pipeline was aborted.
logging.getLogger("psycopg").setLevel(logging.ERROR)

CLIENTS = 8
ROUNDS = 4


def fact(name, value):
    print(json.dumps({"fact": name, "value": value}, default=str), flush=True)


def connect(**options):
    connection = psycopg.connect("sslmode=disable", autocommit=True, **options)
    # Few, so that statements are deallocated one by one.
    connection.prepared_max = 3
    return connection


def failure_of(ask):
    try:
        ask()
        return "no error"
    except psycopg.Error as error:
        return error.sqlstate


def move(clients, holder):
    """Every client asks while another transaction holds a server, and again when that one has just become free."""
    values, pids = [], [set() for _ in clients]

    def ask(index):
        text = "SELECT %s::int + 1, pg_backend_pid()"
        value, pid = clients[index].execute(text, (len(values),)).fetchone()
        values.append(value)
        pids[index].add(pid)

    for _ in range(ROUNDS):
        for index in range(len(clients)):
            with holder.transaction():
                holder.execute("SELECT 1")
                ask(index)
            ask(index)
    fact("prepared", values)
    fact("servers", [len(seen) for seen in pids])


clients = [connect() for _ in range(CLIENTS)]
client, other = clients[:2]
holder = connect()
fact("simple", client.execute("SELECT 1 AS a, 'ü' AS b").fetchall())
move(clients, holder)
holder.close()

for n in range(30):  # ten texts, three of which are kept
    fact(f"of ten texts {n}", client.execute(f"SELECT {n % 10}, %s::text", ("x",), prepare=True).fetchone())

long = "SELECT %s::int + length('" + "x" * 1_200_000 + "')"
with psycopg.connect("sslmode=disable", autocommit=True) as usual:  # it prepares what it executes for the sixth time
    fact("a text of 1.2 MB", [usual.execute(long, (n,)).fetchone() for n in range(8)])


def rolled_back():
    with client.transaction():
        client.execute("INSERT INTO smoke VALUES (%s, %s)", (1, "rolled back"), prepare=True)
        client.execute("SELECT 1 / %s::int", (0,), prepare=True)


fact("error in a transaction", failure_of(rolled_back))
with client.transaction():
    client.execute("INSERT INTO smoke VALUES (%s, %s)", (2, "kept"), prepare=True)
    fact("error in a savepoint", failure_of(rolled_back))
fact("rows", other.execute("SELECT * FROM smoke ORDER BY n").fetchall())
fact("error", failure_of(lambda: client.execute("SELECT 1 / %s::int", (0,), prepare=True)))
fact("after the error", client.execute("SELECT 1 / %s::int", (1,), prepare=True).fetchone())
fact("a text that is wrong", failure_of(lambda: client.execute("SELECT FROM FROM", prepare=True)))

with client.pipeline():
    cursors = [client.execute("SELECT %s::int * 2", (n,), prepare=True) for n in range(100)]
    fact("pipeline", [cursor.fetchone()[0] for cursor in cursors])


def broken_pipeline():
    with client.pipeline():
        client.execute("INSERT INTO smoke VALUES (%s, %s)", (4, "before the error"), prepare=True)
        client.execute("SELECT 1 / %s::int", (0,), prepare=True)
        client.execute("INSERT INTO smoke VALUES (%s, %s)", (5, "after the error"), prepare=True)


fact("error in a pipeline", failure_of(broken_pipeline))
fact("rows after the pipeline", other.execute("SELECT * FROM smoke ORDER BY n").fetchall())

with client.cursor() as cursor:
    cursor.execute("TRUNCATE smoke")
    with cursor.copy("COPY smoke FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        for n in range(2000):
            copy.write_row((n, f"line {n}"))
    with cursor.copy("COPY (SELECT n FROM smoke ORDER BY n) TO STDOUT") as copy:
        fact("copied out", sum(int(n) for (n,) in copy.rows()))
    fact("copy that fails", failure_of(lambda: cursor.copy("COPY nothing FROM STDIN").__enter__()))
    cursor.executemany("INSERT INTO smoke VALUES (%s, %s)", [(n, None) for n in range(100)])
    fact("many", cursor.rowcount)

for binary in (False, True):
    text = "SELECT %s::bigint, %s::numeric, %s::bytea, %s::timestamptz, %s::boolean, %s::int[], %s::uuid, NULL"
    at = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
    row = (2**53 + 1, Decimal("1.50"), b"\0\xff", at, True, [1, 2], uuid.UUID(int=10))
    for _ in range(2):
        fact(f"types, binary {binary}", client.execute(text, row, prepare=True, binary=binary).fetchone())

client.execute("SET TimeZone = 'Asia/Tokyo'")
with other.transaction():
    other.execute("SELECT 1")
    fact("TimeZone", client.execute("SELECT timestamptz '2000-01-01 00:00Z'::text").fetchone())
fact("TimeZone as psycopg knows it", str(client.info.timezone))
fact("TimeZone of another", other.execute("SHOW TimeZone").fetchone())

for text in ("DEALLOCATE ALL", "DISCARD ALL"):
    fact(text, other.execute(text).statusmessage)
fact("after DISCARD ALL", other.execute("SELECT %s::int", (1,), prepare=True).fetchone())

RUNNING = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND datname = current_database()"


def cancel_when_it_runs():
    while other.execute(f"{RUNNING} AND state = 'active'").rowcount == 0:
        pass
    client.cancel()


canceling = threading.Thread(target=cancel_when_it_runs)
canceling.start()
fact("canceled", failure_of(lambda: client.execute("SELECT pg_sleep(60)")))
canceling.join()
fact("after the cancel", client.execute("SELECT %s::int", (6,), prepare=True).fetchone())

with psycopg.connect("sslmode=verify-full channel_binding=require", autocommit=True) as secure:
    fact("TLS", [secure.pgconn.ssl_in_use, secure.execute("SELECT %s", ("secure",), prepare=True).fetchone()])
for one in clients:
    one.close()
