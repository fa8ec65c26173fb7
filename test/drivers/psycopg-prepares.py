"""Many connections that prepare everything and keep little: what each has in the end, and which messages it took."""

import json
import os
import socket
import tempfile

import psycopg
from psycopg import pq

CLIENTS = 16
KEPT = 3
TEXTS = 10


def fact(name, value):
    print(json.dumps({"fact": name, "value": value}), flush=True)


def connect():
    connection = psycopg.connect("sslmode=disable", autocommit=True, prepare_threshold=1)
    connection.prepared_max = KEPT
    return connection


def kept(connection):
    """How many statements it has: the proxy's console says so, or PostgreSQL, which knows no other clients."""
    console = os.environ.get("CONSOLE")
    if console is None:
        return connection.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False).fetchone()[0]
    with psycopg.connect(console, autocommit=True, cursor_factory=psycopg.ClientCursor) as admin:
        cursor = admin.execute("SHOW CLIENTS")
        rows = [dict(zip([column.name for column in cursor.description], row)) for row in cursor]
    port = local_port(connection)
    return next(int(row["prepared_statements"]) for row in rows if int(row["port"]) == port)


def local_port(connection):
    with socket.socket(fileno=os.dup(connection.fileno())) as mine:
        return mine.getsockname()[1]


clients = [connect() for _ in range(CLIENTS)]
fact("closes statements by Close", psycopg.capabilities.has_send_close_prepared())
with tempfile.TemporaryFile() as trace:
    traced = clients[0].pgconn
    traced.trace(trace.fileno())
    traced.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
    values = []
    for _ in range(3):
        for text in range(TEXTS):
            for client in clients:
                for time in range(2):
                    values.append(client.execute(f"SELECT {text} + %s::int", (time,)).fetchone()[0])
    traced.untrace()
    trace.seek(0)
    messages = [line.split("\t")[2] for line in trace.read().decode().splitlines()]
fact("values", values)
counted = ("Parse", "ParseComplete", "Close", "CloseComplete")
fact("messages", {name: messages.count(name) for name in counted})
fact("kept", [kept(client) for client in clients])
for client in clients:
    client.close()
