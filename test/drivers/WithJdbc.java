/** What the JDBC driver does; connection settings come by PGHOST and so on. */
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import org.postgresql.PGConnection;

class WithJdbc {
  static final int clientCount = 8;
  static final int roundCount = 4;

  static void fact(String name, Object value) {
    String text = String.valueOf(value).replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n");
    System.out.println("{\"fact\": \"" + name + "\", \"value\": \"" + text + "\"}");
  }

  static Connection connected(String options) throws SQLException {
    String host = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
    String url = "jdbc:postgresql://" + host + "/" + System.getenv("PGDATABASE") + "?" + options;
    return DriverManager.getConnection(url, System.getenv("PGUSER"), System.getenv("PGPASSWORD"));
  }

  interface Asked {
    Object run() throws Exception;
  }

  static Object outcome(Asked asked) throws Exception {
    try {
      return asked.run();
    } catch (SQLException error) {
      return error.getSQLState();
    }
  }

  static String first(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      rows.next();
      return rows.getString(1);
    }
  }

  static int next(PreparedStatement statement, int n, Set<Integer> pids) throws SQLException {
    statement.setInt(1, n);
    try (ResultSet rows = statement.executeQuery()) {
      rows.next();
      pids.add(rows.getInt(2));
      return rows.getInt(1);
    }
  }

  /** Every client asks while another transaction holds one server, and again while one holds the other. */
  static void move(List<Connection> clients, Connection holder, Connection second) throws SQLException {
    List<PreparedStatement> statements = new ArrayList<>();
    List<Set<Integer>> pids = new ArrayList<>();
    for (Connection client : clients) {
      statements.add(client.prepareStatement("SELECT ? + 1, pg_backend_pid()"));
      pids.add(new HashSet<>());
    }
    List<Integer> values = new ArrayList<>();
    holder.setAutoCommit(false);
    second.setAutoCommit(false);
    for (int round = 0; round < roundCount; round++) {
      for (int index = 0; index < clients.size(); index++) {
        first(holder, "SELECT 1");
        values.add(next(statements.get(index), values.size(), pids.get(index)));
        first(second, "SELECT 1");
        holder.commit();
        values.add(next(statements.get(index), values.size(), pids.get(index)));
        second.commit();
      }
    }
    fact("prepared", values);
    int[] counts = pids.stream().mapToInt(Set::size).toArray();
    System.out.println("{\"fact\": \"servers\", \"value\": " + Arrays.toString(counts) + "}");
  }

  /** All clients at once, each in a thread of its own. */
  static void atOnce(List<Connection> clients) throws Exception {
    int[] sums = new int[clients.size()];
    List<Thread> threads = new ArrayList<>();
    for (int index = 0; index < sums.length; index++) {
      int mine = index;
      Thread thread = new Thread(() -> {
        try (PreparedStatement statement = clients.get(mine).prepareStatement("SELECT ? + 1, pg_backend_pid()")) {
          for (int n = 0; n < 50; n++) sums[mine] += next(statement, n * mine, new HashSet<>());
        } catch (SQLException error) {
          sums[mine] = -1;
        }
      });
      threads.add(thread);
      thread.start();
    }
    for (Thread thread : threads) thread.join();
    fact("at once", Arrays.toString(sums));
  }

  static void transactions(Connection client, Connection other) throws Exception {
    client.setAutoCommit(false);
    try (PreparedStatement insert = client.prepareStatement("INSERT INTO smoke VALUES (?, ?)")) {
      insert.setInt(1, 1);
      insert.setString(2, "rolled back");
      insert.executeUpdate();
      client.rollback();
      insert.setInt(1, 2);
      insert.setString(2, "kept");
      insert.executeUpdate();
      Savepoint savepoint = client.setSavepoint();
      fact("error in a transaction", outcome(() -> first(client, "SELECT 1 / 0")));
      fact("the transaction after it", outcome(() -> first(client, "SELECT 1")));
      client.rollback(savepoint);
      client.commit();
      for (int n = 10; n < 110; n++) {
        insert.setInt(1, n);
        insert.setString(2, "in a batch");
        insert.addBatch();
      }
      fact("batch", Arrays.stream(insert.executeBatch()).sum());
      client.commit();
      insert.setInt(1, 3);
      insert.addBatch();
      insert.setInt(1, Integer.MAX_VALUE);
      insert.addBatch();
      fact("batch that fails", outcome(() -> Arrays.stream(insert.executeBatch()).sum()));
      client.rollback();
    }
    fact("rows", first(other, "SELECT count(*) || ' ' || sum(n) FROM smoke"));
    try (Statement statement = client.createStatement()) {
      statement.setFetchSize(7);
      int rows = 0;
      try (ResultSet cursor = statement.executeQuery("SELECT * FROM smoke")) {
        while (cursor.next()) rows++;
      }
      fact("rows by a cursor", rows);
    }
    client.commit();
    client.setAutoCommit(true);
  }

  static void types(Connection client) throws SQLException {
    String sql = "SELECT ?::bigint, ?::numeric, ?::bytea, ?::boolean, ?::int[], ?::uuid, ?::timestamptz, NULL";
    try (PreparedStatement statement = client.prepareStatement(sql)) {
      for (int time = 0; time < 7; time++) { // text at first, binary later
        statement.setLong(1, (1L << 53) + 1);
        statement.setBigDecimal(2, new BigDecimal("1.50"));
        statement.setBytes(3, new byte[] {0, -1});
        statement.setBoolean(4, true);
        statement.setArray(5, client.createArrayOf("int4", new Integer[] {1, 2}));
        statement.setObject(6, new UUID(0, 10));
        statement.setTimestamp(7, new java.sql.Timestamp(0));
        try (ResultSet rows = statement.executeQuery()) {
          rows.next();
          fact("types", rows.getLong(1) + " " + rows.getBigDecimal(2) + " " + Arrays.toString(rows.getBytes(3)) + " "
              + rows.getBoolean(4) + " " + rows.getArray(5) + " " + rows.getObject(6) + " "
              + rows.getTimestamp(7).getTime() + " " + rows.getObject(8));
        }
      }
    }
  }

  static void copy(Connection client, Connection other) throws Exception {
    StringBuilder lines = new StringBuilder();
    for (int n = 0; n < 2000; n++) lines.append(n).append("\tline ").append(n).append("\n");
    var copying = client.unwrap(PGConnection.class).getCopyAPI();
    first(client, "WITH gone AS (DELETE FROM smoke RETURNING 1) SELECT count(*) FROM gone");
    fact("copied in", copying.copyIn("COPY smoke FROM STDIN", new StringReader(lines.toString())));
    StringWriter out = new StringWriter();
    fact("copied out", copying.copyOut("COPY (SELECT * FROM smoke ORDER BY n) TO STDOUT", out));
    fact("copied the same", out.toString().equals(lines.toString()));
    fact("copy that fails", outcome(() -> copying.copyIn("COPY nothing FROM STDIN", new StringReader("1\n"))));
    fact("copied", first(other, "SELECT sum(n) FROM smoke"));
  }

  static void cancel(Connection client, Connection other) throws Exception {
    Statement statement = client.createStatement();
    Thread thread = new Thread(() -> {
      try {
        String running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            + " AND query LIKE '%pg_sleep(60)' AND datname = current_database() AND pid <> pg_backend_pid()";
        while (!first(other, running).equals("1"));
        statement.cancel();
      } catch (SQLException error) {
        fact("cancel", error);
      }
    });
    thread.start();
    fact("canceled", outcome(() -> statement.executeQuery("SELECT pg_sleep(60)")));
    thread.join();
    statement.setQueryTimeout(1);
    fact("query timeout", outcome(() -> statement.executeQuery("SELECT pg_sleep(60)")));
    statement.close();
    fact("after the cancel", first(client, "SELECT 1"));
  }

  public static void main(String[] arguments) throws Exception {
    for (String options : arguments) fact(options, outcome(() -> first(connected(options), "SELECT 1")));
    if (arguments.length > 0) return;
    List<Connection> clients = new ArrayList<>();
    for (int n = 0; n < clientCount; n++) clients.add(connected("sslmode=disable&ApplicationName=jdbc"));
    Connection client = clients.get(0);
    Connection other = clients.get(1);
    fact("server", client.getMetaData().getDatabaseProductVersion());
    fact("application_name", first(client, "SHOW application_name"));
    fact("a double", first(client, "SELECT 0.1::float8 * 3"));
    try (Connection holder = connected("sslmode=disable"); Connection second = connected("sslmode=disable")) {
      move(clients, holder, second);
    }
    atOnce(clients);
    transactions(client, other);
    fact("error", outcome(() -> first(client, "SELECT 1 / 0")));
    fact("after the error", first(client, "SELECT 1"));
    types(client);
    copy(client, other);

    try (Statement statement = client.createStatement()) {
      statement.execute("SET TimeZone = 'Asia/Tokyo'");
      fact("TimeZone", first(client, "SELECT timestamptz '2000-01-01 00:00Z'::text"));
      fact("TimeZone of another", first(other, "SHOW TimeZone").isEmpty());
      fact("several results", statement.execute("SELECT 1; SELECT 2") + " " + statement.getMoreResults());
      statement.execute("DISCARD ALL");
    }
    fact("after DISCARD ALL", first(client, "SELECT 1"));
    cancel(client, other);

    try (Connection simple = connected("sslmode=disable&preferQueryMode=simple")) {
      try (PreparedStatement statement = simple.prepareStatement("SELECT ? + 1, pg_backend_pid()")) {
        fact("simple mode", next(statement, 1, new HashSet<>()));
      }
    }
    try (Connection primary = connected("sslmode=disable&targetServerType=primary")) {
      fact("primary", first(primary, "SELECT 1"));
    }
    fact("secondary", outcome(() -> connected("sslmode=disable&targetServerType=secondary")));
    String secured = "sslmode=verify-full&sslrootcert=" + System.getenv("PGSSLROOTCERT");
    try (Connection secure = connected(secured)) {
      fact("TLS", first(secure, "SELECT 'secure'"));
    }
    for (Connection one : clients) one.close();
  }
}
