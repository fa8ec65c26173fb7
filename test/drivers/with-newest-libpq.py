"""What libpq has learned since version 15: Close of statements, results in chunks, and cancel requests as connections."""

import json
import threading

import psycopg
from psycopg import pq
from psycopg.pq import ExecStatus

CLIENTS = 8
ROUNDS = 4


def fact(name, value):
    print(json.dumps({"fact": name, "value": value}), flush=True)


def connect(options="sslmode=disable"):
    connection = pq.PGconn.connect(options.encode())
    if connection.status != pq.ConnStatus.OK:
        raise RuntimeError(connection.error_message.decode())
    return connection


def said(result):
    """Its SQLSTATE, its first value, or else its status."""
    sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
    if sqlstate:
        return sqlstate.decode()
    if result.ntuples > 0:
        return (result.get_value(0, 0) or b"NULL").decode()
    return f"{ExecStatus(result.status).name} {(result.command_status or b'').decode()}".strip()


def results(connection):
    """Up to the end of the request."""
    while (result := connection.get_result()) is not None:
        yield result


def ask(connection, sql):
    return said(connection.exec_(sql.encode()))


def next_of(connection, n):
    result = connection.exec_prepared(b"next", [str(n).encode()])
    return int(result.get_value(0, 0)), result.get_value(0, 1)


def move(clients, holder):
    """Every client asks while another transaction holds a server, and again when that one has just become free."""
    values, pids = [], [set() for _ in clients]
    for _ in range(ROUNDS):
        for index, client in enumerate(clients):
            ask(holder, "BEGIN")
            for _ in range(2):
                value, pid = next_of(client, len(values))
                values.append(value)
                pids[index].add(pid)
                ask(holder, "COMMIT")
    fact("prepared", values)
    fact("servers", [len(seen) for seen in pids])


clients = [connect() for _ in range(CLIENTS)]
client, other = clients[:2]
holder = connect()
fact("version", pq.version() // 10000)
for one in clients:
    one.prepare(b"next", b"SELECT $1::int + 1, pg_backend_pid()")
move(clients, holder)
holder.finish()


def pipelined(name, connection, syncs):
    """All results up to the last of its ends."""
    seen = []
    while syncs > 0:
        for result in results(connection):
            seen.append(said(result))
            if result.status == ExecStatus.PIPELINE_SYNC:
                syncs -= 1
                break
    fact(name, seen)


# Statements are closed one by one: a name is free again, for its client alone, and what is not there may be closed.
fact("close", said(client.close_prepared(b"next")))
fact("after the close", said(client.exec_prepared(b"next", [b"1"])))
fact("of another", next_of(other, 1)[0])
fact("close of nothing", said(client.close_prepared(b"nothing")))
fact("close of no portal", said(client.close_portal(b"nothing")))
fact("prepared again", said(client.prepare(b"next", b"SELECT $1::int + 1, pg_backend_pid()")))
fact("prepared twice", said(client.prepare(b"next", b"SELECT 1")))

client.enter_pipeline_mode()
for n in range(20):
    name = f"in the pipeline {n % 3}".encode()
    client.send_prepare(name, f"SELECT {n} + $1::int".encode())
    client.send_query_prepared(name, [b"100"])
    client.send_close_prepared(name)
client.pipeline_sync()
pipelined("prepared and closed in a pipeline", client, 1)

client.send_query_params(b"INSERT INTO smoke VALUES (1, 'before the error')", [])
client.send_close_prepared(b"next")
client.send_query_params(b"SELECT 1 / $1::int", [b"0"])
client.send_query_prepared(b"next", [b"1"])
client.pipeline_sync()
# The first half was done before the error, though what it has done to tables is undone.
client.send_query_prepared(b"next", [b"1"])
client.pipeline_sync()
client.send_query_params(b"SELECT 1 / $1::int", [b"0"])
client.send_prepare(b"next", b"SELECT $1::int + 1, pg_backend_pid()")
client.pipeline_sync()
client.send_prepare(b"next", b"SELECT $1::int + 1, pg_backend_pid()")
client.send_query_prepared(b"next", [b"41"])
client.send_flush_request()
client.pipeline_sync()
pipelined("errors in a pipeline", client, 4)
client.exit_pipeline_mode()
fact("rows after the pipeline", ask(other, "SELECT count(*) FROM smoke"))


def chunks(name, send, size=100):
    send()
    client.set_chunked_rows_mode(size)
    fact(name, [[ExecStatus(one.status).name, one.ntuples, said(one)] for one in results(client)])


chunks("in chunks", lambda: client.send_query(b"SELECT n FROM generate_series(1, 1050) AS n"))
client.prepare(b"three", b"SELECT generate_series(1, 3)")
chunks("in chunks of one", lambda: client.send_query_prepared(b"three", []), 1)
chunks("an error between chunks", lambda: client.send_query(b"SELECT 10 / (250 - n) FROM generate_series(1, 1000) AS n"))
chunks("several results in chunks", lambda: client.send_query(b"SELECT generate_series(1, 150); SELECT 'last'"))
chunks("nothing in chunks", lambda: client.send_query_params(b"SELECT 1 WHERE false", []))
client.send_query_params(b"SELECT repeat('x', 10000) FROM generate_series(1, 1000)", [])
client.set_chunked_rows_mode(300)
wide = [[one.ntuples, sum(len(one.get_value(n, 0)) for n in range(one.ntuples))] for one in results(client)]
fact("wide rows in chunks", wide)


def copied_in(lines, error=None):
    client.send_query_params(b"COPY smoke FROM STDIN", [])
    fact("copy in begins", ExecStatus(client.get_result().status).name)
    for line in lines:
        client.put_copy_data(line)
    client.put_copy_end(error)
    return [said(result) for result in results(client)]


ask(client, "TRUNCATE smoke")
fact("copied in", copied_in([f"{n}\tline {n}\n".encode() for n in range(2000)]))
fact("copy given up", copied_in([b"1\tone\n"], b"changed my mind"))
fact("copy of what is wrong", copied_in([b"one\t1\n"]))
client.send_query_params(b"COPY (SELECT n FROM smoke ORDER BY n) TO STDOUT", [])
fact("copy out begins", ExecStatus(client.get_result().status).name)
total = 0
while True:
    length, data = client.get_copy_data(0)
    if length < 0:
        break
    total += int(bytes(data))
fact("copied out", [total, [said(result) for result in results(client)]])

# A session that listens stays with its server, and is told while it asks nothing.
fact("listen", [ask(client, "LISTEN news"), ask(client, "LISTEN other_news")])
for n in range(3):
    fact("notify", ask(other, f"NOTIFY news, 'number {n}'"))
heard = []
while len(heard) < 3:
    client.consume_input()
    while (notify := client.notifies()) is not None:
        heard.append([notify.relname.decode(), notify.extra.decode()])
fact("heard", heard)
fact("unlisten", [ask(client, "UNLISTEN *"), ask(other, "NOTIFY news, 'too late'"), ask(client, "SELECT 1")])
client.consume_input()
fact("heard after that", client.notifies() is None)

fact("encrypted as the server says", client.encrypt_password(b"secret", b"app").decode()[:13])

with psycopg.connect("sslmode=disable", autocommit=True) as connection:
    text = "SELECT n, %s::text FROM generate_series(1, 1000) AS n"
    for size in (1, 7, 5000):
        with connection.cursor() as cursor:
            fact(f"stream of {size}", sum(n for n, _ in cursor.stream(text, ["x"], size=size)))
    with connection.cursor() as cursor:
        for row in cursor.stream(text, ["x"], size=10):
            break
    fact("after a stream that was left", connection.execute("SELECT %s::int", [1]).fetchone())

RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"


def canceled(options):
    with psycopg.connect(options, autocommit=True) as connection:

        def cancel_when_it_runs():
            while ask(other, f"{RUNNING} AND query = 'SELECT pg_sleep(60)'") != "1":
                pass
            connection.cancel_safe()

        canceling = threading.Thread(target=cancel_when_it_runs)
        canceling.start()
        try:
            connection.execute("SELECT pg_sleep(60)")
        except psycopg.errors.QueryCanceled as error:
            fact(f"canceled: {options}", error.sqlstate)
        canceling.join()
        fact("after the cancel", connection.execute("SELECT %s::int", [1]).fetchone())


for mode in ("disable", "require max_protocol_version=latest", "require sslnegotiation=direct"):
    canceled(f"sslmode={mode}")

secure = connect("sslmode=verify-full sslnegotiation=direct channel_binding=require min_protocol_version=3.2")
fact("TLS", [secure.ssl_in_use, secure.full_protocol_version, ask(secure, "SELECT 'secure'")])
secure.finish()
for one in clients:
    one.finish()
