"""What the newest libpq makes of connection strings: a fact for each argument. Its own functions, without a driver."""

import ctypes
import json
import sys

from psycopg import pq

# What psycopg has no name for; the library is the one that it has loaded.
libpq = ctypes.CDLL(sys.argv[1])
libpq.PQsslAttribute.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
libpq.PQsslAttribute.restype = ctypes.c_char_p


def ssl_attribute(connection, name):
    value = libpq.PQsslAttribute(connection.pgconn_ptr, name)
    return None if value is None else value.decode()


def said(result):
    """Its SQLSTATE, or else its first value."""
    sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
    return (sqlstate or result.get_value(0, 0) or b"").decode()


def canceled(connection, other):
    """How a query ends that PQcancelCreate cancels: by a connection that is encrypted as the client's own is."""
    connection.send_query(b"SELECT pg_sleep(60)")
    running = b"SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
    while said(other.exec_(running)) != "1":
        pass
    connection.cancel_conn().blocking()
    sqlstate = said(connection.get_result())
    while connection.get_result() is not None:
        pass
    return [sqlstate, said(connection.exec_(b"SELECT 'after the cancel'"))]


def found(conninfo):
    connection = pq.PGconn.connect(conninfo.encode())
    if connection.status != pq.ConnStatus.OK:
        return connection.error_message.decode().strip()
    facts = {
        "user": said(connection.exec_(b"SELECT current_user")),
        "standby": said(connection.exec_(b"SELECT pg_is_in_recovery()")),
        "protocol": connection.full_protocol_version,
        "tls": ssl_attribute(connection, b"protocol"),
        "alpn": ssl_attribute(connection, b"alpn"),
    }
    if "application_name=canceled" in conninfo:
        other = pq.PGconn.connect(b"sslmode=disable")
        facts["canceled"] = canceled(connection, other)
        other.finish()
    connection.finish()
    return facts


for conninfo in sys.argv[2:]:
    print(json.dumps({"fact": conninfo, "value": found(conninfo)}), flush=True)
