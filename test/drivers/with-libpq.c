/* What libpq does, its pipeline mode above all; connection settings come by PGHOST and so on. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { clients = 8, rounds = 4 };

static void fail(PGconn *connection, const char *what) {
  fprintf(stderr, "%s: %s", what, PQerrorMessage(connection));
  exit(1);
}

static PGconn *connected(const char *options) {
  PGconn *connection = PQconnectdb(options);
  if (PQstatus(connection) != CONNECTION_OK) fail(connection, options);
  return connection;
}

static void fact(const char *name, const char *value) {
  printf("{\"fact\": \"%s\", \"value\": \"%s\"}\n", name, value);
  fflush(stdout);
}

/* What a result says in one word: its first value, its SQLSTATE, or its status. Frees it. */
static const char *said(PGresult *result) {
  static char text[200];
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  ExecStatusType status = PQresultStatus(result);
  if (status == PGRES_TUPLES_OK && PQntuples(result) > 0) snprintf(text, sizeof text, "%s", PQgetvalue(result, 0, 0));
  else if (sqlstate != NULL) snprintf(text, sizeof text, "%s", sqlstate);
  else snprintf(text, sizeof text, "%s %s", PQresStatus(status), PQcmdStatus(result));
  PQclear(result);
  return text;
}

static PGresult *next(PGconn *connection, int n) {
  char text[20];
  const char *values[] = {text};
  snprintf(text, sizeof text, "%d", n);
  return PQexecPrepared(connection, "next", 1, values, NULL, NULL, 0);
}

/* Every client asks while another transaction holds a server, and again when that one has just become free. */
static void move(PGconn *all[], PGconn *holder) {
  char first[clients][20] = {{0}};
  int moved[clients] = {0};
  long sum = 0;
  for (int round = 0; round < rounds; round++) {
    for (int index = 0; index < clients; index++) {
      PQclear(PQexec(holder, "BEGIN"));
      for (int half = 0; half < 2; half++) {
        PGresult *result = next(all[index], round * clients + index);
        if (PQresultStatus(result) != PGRES_TUPLES_OK) fail(all[index], "next");
        const char *pid = PQgetvalue(result, 0, 1);
        sum = sum * 31 % 1000003 + atol(PQgetvalue(result, 0, 0));
        if (first[index][0] == 0) snprintf(first[index], sizeof first[index], "%s", pid);
        else if (strcmp(first[index], pid) != 0) moved[index] = 1;
        PQclear(result);
        if (half == 0) PQclear(PQexec(holder, "COMMIT"));
      }
    }
  }
  printf("{\"fact\": \"prepared\", \"value\": %ld}\n", sum);
  printf("{\"fact\": \"servers\", \"value\": [");
  for (int index = 0; index < clients; index++) printf("%s%d", index == 0 ? "" : ", ", 1 + moved[index]);
  printf("]}\n");
}

/* All results of a pipeline up to its `syncs`th end. */
static void pipelined(PGconn *connection, const char *name, int syncs) {
  char text[4000] = "";
  int nothing = 0;
  while (syncs > 0) {
    PGresult *result = PQgetResult(connection);
    if (result == NULL) {
      if (++nothing > 1000) fail(connection, name);
      continue;
    }
    nothing = 0;
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) syncs--;
    strncat(text, said(result), sizeof text - strlen(text) - 2);
    strcat(text, ",");
  }
  fact(name, text);
}

static void ask(PGconn *connection, const char *n) {
  const char *values[] = {n};
  if (!PQsendQueryPrepared(connection, "next", 1, values, NULL, NULL, 0)) fail(connection, "send");
}

static void askText(PGconn *connection, const char *sql) {
  if (!PQsendQueryParams(connection, sql, 0, NULL, NULL, NULL, NULL, 0)) fail(connection, sql);
}

int main(void) {
  PGconn *all[clients];
  for (int index = 0; index < clients; index++) {
    all[index] = connected("sslmode=disable");
    PGresult *result = PQprepare(all[index], "next", "SELECT $1::int + 1, pg_backend_pid()", 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) fail(all[index], "prepare");
    PQclear(result);
  }
  PGconn *holder = connected("sslmode=disable");
  PGconn *client = all[0], *other = all[1];
  fact("server", PQparameterStatus(client, "server_version"));
  fact("simple", said(PQexec(client, "SELECT 1; SELECT 2")));
  move(all, holder);
  PQfinish(holder);

  PQenterPipelineMode(client);
  for (int n = 0; n < 100; n++) {
    char text[20];
    snprintf(text, sizeof text, "%d", n);
    ask(client, text);
    if (n % 10 == 9) PQpipelineSync(client);
  }
  pipelined(client, "pipeline of 100 with 10 syncs", 10);

  askText(client, "INSERT INTO smoke VALUES (1, 'before the error')");
  askText(client, "SELECT 1 / 0");
  ask(client, "3");
  PQpipelineSync(client);
  ask(client, "4");
  PQpipelineSync(client);
  pipelined(client, "error in a pipeline", 2);

  askText(client, "BEGIN");
  askText(client, "INSERT INTO smoke VALUES (2, 'kept')");
  PQpipelineSync(client);
  askText(client, "COMMIT");
  ask(client, "5");
  PQpipelineSync(client);
  pipelined(client, "transaction over two syncs", 2);

  if (!PQsendPrepare(client, "later", "SELECT $1::text", 1, (Oid[]){25})) fail(client, "later");
  PQsendDescribePrepared(client, "later");
  if (!PQsendQueryPrepared(client, "later", 1, (const char *[]){"prepared within"}, NULL, NULL, 0)) fail(client, "later");
  PQsendFlushRequest(client);
  PQflush(client);
  for (int results = 0; results < 3;) {
    PGresult *result = PQgetResult(client);
    if (result == NULL) continue;
    fact("flushed", said(result));
    results++;
  }
  PQpipelineSync(client);
  pipelined(client, "after the flush", 1);
  PQexitPipelineMode(client);
  fact("rows", said(PQexec(other, "SELECT string_agg(n || ' ' || t, ', ' ORDER BY n) FROM smoke")));

  PQclear(PQexec(client, "BEGIN"));
  fact("error in a transaction", said(PQexec(client, "SELECT 1 / 0")));
  fact("the transaction after it", said(next(client, 1)));
  fact("rollback", said(PQexec(client, "ROLLBACK")));
  fact("after the rollback", said(next(client, 1)));
  fact("unknown", said(PQexecPrepared(client, "nothing", 0, NULL, NULL, NULL, 0)));
  fact("taken", said(PQprepare(client, "next", "SELECT 1", 0, NULL)));
  fact("described", said(PQdescribePrepared(client, "next")));

  PQclear(PQexec(client, "COPY smoke FROM STDIN"));
  for (int n = 10; n < 1010; n++) {
    char line[50];
    int length = snprintf(line, sizeof line, "%d\tline %d\n", n, n);
    PQputCopyData(client, line, length);
  }
  PQputCopyEnd(client, NULL);
  fact("copied in", said(PQgetResult(client)));
  while (PQgetResult(client) != NULL);
  PQclear(PQexec(client, "COPY smoke FROM STDIN"));
  PQputCopyEnd(client, "changed my mind");
  fact("copy given up", said(PQgetResult(client)));
  while (PQgetResult(client) != NULL);
  fact("copied", said(PQexec(other, "SELECT count(*) FROM smoke")));

  PGresult *binary = PQexecParams(client, "SELECT 258::int4", 0, NULL, NULL, NULL, NULL, 1);
  const char *bytes = PQgetvalue(binary, 0, 0);
  printf("{\"fact\": \"binary\", \"value\": [%d, %d, %d, %d]}\n", bytes[0], bytes[1], bytes[2], bytes[3]);
  PQclear(binary);

  fact("deallocated", said(PQexec(other, "DEALLOCATE next")));
  fact("after DEALLOCATE", said(next(other, 1)));
  fact("not of others", said(next(client, 1)));
  fact("discarded", said(PQexec(client, "DISCARD ALL")));
  fact("after DISCARD ALL", said(next(client, 1)));

  PQsendQuery(client, "SELECT pg_sleep(60)");
  const char *running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                        " AND query = 'SELECT pg_sleep(60)' AND datname = current_database()";
  while (strcmp(said(PQexec(other, running)), "1") != 0);
  char error[256];
  PGcancel *cancel = PQgetCancel(client);
  if (!PQcancel(cancel, error, sizeof error)) fail(client, error);
  PQfreeCancel(cancel);
  fact("canceled", said(PQgetResult(client)));
  while (PQgetResult(client) != NULL);
  fact("after the cancel", said(PQexec(client, "SELECT 1")));

  PGconn *secure = connected("sslmode=verify-full channel_binding=require");
  fact("TLS", PQsslInUse(secure) ? said(PQexec(secure, "SELECT 'secure'")) : "no");
  PQfinish(secure);
  for (int index = 0; index < clients; index++) PQfinish(all[index]);
  return 0;
}
