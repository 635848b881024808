import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

/** pgjdbc: statements prepared on the server from the fifth execution on, batches, fetch sizes, with autocommit and without. */
public class WithJdbc {
    static final int CLIENTS = 8;

    static Connection connect(String more) throws SQLException {
        Map<String, String> env = System.getenv();
        return DriverManager.getConnection(
            "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE")
                + "?user=" + env.get("PGUSER") + "&password=" + env.get("PGPASSWORD") + more);
    }

    static String prepared(Connection conn, int client) throws SQLException {
        StringBuilder seen = new StringBuilder();
        try (PreparedStatement statement = conn.prepareStatement("SELECT ?::int + ?::int")) {
            for (int i = 0; i < 20; i++) {
                statement.setInt(1, i);
                statement.setInt(2, client);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    seen.append(rows.getInt(1)).append(' ');
                }
                if (!conn.getAutoCommit()) conn.commit();
            }
        }
        try (PreparedStatement statement = conn.prepareStatement("SELECT n, ?::text FROM rows WHERE client = ? ORDER BY n")) {
            statement.setString(1, "x");
            statement.setInt(2, client);
            seen.append(statement.getParameterMetaData().getParameterTypeName(2)).append(statement.getMetaData().getColumnCount());
            // In a later transaction than what described it.
            if (!conn.getAutoCommit()) conn.commit();
            for (int i = 0; i < 8; i++) statement.executeQuery().close();
        }
        return seen.toString();
    }

    static String batches(Connection conn, int client) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement("INSERT INTO rows VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int round = 0; round < 8; round++) {
                for (int i = 0; i < 20; i++) {
                    statement.setInt(1, client);
                    statement.setInt(2, round * 20 + i);
                    statement.addBatch();
                }
                statement.executeBatch();
                if (!conn.getAutoCommit()) conn.commit();
            }
        }
        StringBuilder seen = new StringBuilder();
        try (Statement statement = conn.createStatement()) {
            statement.addBatch("INSERT INTO rows VALUES (" + client + ", 500)");
            statement.addBatch("INSERT INTO unique_rows VALUES (1)");
            statement.addBatch("INSERT INTO rows VALUES (" + client + ", 501)");
            statement.executeBatch();
        } catch (BatchUpdateException error) {
            seen.append(error.getSQLState()).append(Arrays.toString(error.getUpdateCounts()));
        }
        if (!conn.getAutoCommit()) conn.rollback();
        try (Statement statement = conn.createStatement();
                ResultSet rows = statement.executeQuery("SELECT count(*), sum(n) FROM rows WHERE client = " + client)) {
            rows.next();
            seen.append(' ').append(rows.getInt(1)).append(' ').append(rows.getInt(2));
        }
        if (!conn.getAutoCommit()) conn.commit();
        return seen.toString();
    }

    static String transactions(Connection conn, int client) throws SQLException {
        StringBuilder seen = new StringBuilder();
        conn.setAutoCommit(false);
        conn.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        try (Statement statement = conn.createStatement()) {
            statement.execute("INSERT INTO rows VALUES (" + client + ", 600)");
            Savepoint savepoint = conn.setSavepoint();
            try {
                statement.execute("SELECT 1/0");
            } catch (SQLException error) {
                seen.append(error.getSQLState());
            }
            conn.rollback(savepoint);
            conn.commit();
            statement.setFetchSize(30);
            int count = 0;
            try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 500)")) {
                while (rows.next()) count++;
            }
            seen.append(' ').append(count).append(' ').append(conn.getTransactionIsolation());
            conn.commit();
            conn.setReadOnly(true);
            try {
                statement.execute("INSERT INTO rows VALUES (" + client + ", 601)");
            } catch (SQLException error) {
                seen.append(' ').append(error.getSQLState());
            }
            conn.rollback();
            conn.setReadOnly(false);
            conn.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            conn.setSchema(client % 2 == 0 ? "public" : "pg_catalog");
            conn.commit();
            seen.append(' ').append(conn.getSchema());
            conn.setSchema("public");
            conn.commit();
        }
        conn.setAutoCommit(true);
        return seen.toString();
    }

    static String held(Connection conn) throws SQLException {
        conn.setAutoCommit(false);
        int count = 0;
        try (Statement statement = conn.createStatement(
                ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
            statement.setFetchSize(30);
            try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 100)")) {
                while (rows.next()) {
                    if (++count == 50) conn.commit();
                }
            }
        }
        conn.commit();
        conn.setAutoCommit(true);
        return "held " + count;
    }

    static List<String> work(String more, int client, CyclicBarrier allThere) throws Exception {
        List<String> seen = new ArrayList<>();
        try (Connection conn = connect(more)) {
            allThere.await(60, TimeUnit.SECONDS);
            for (boolean autoCommit : new boolean[] {true, false}) {
                conn.setAutoCommit(autoCommit);
                seen.add(prepared(conn, client));
                seen.add(batches(conn, client));
            }
            conn.setAutoCommit(true);
            seen.add(transactions(conn, client));
            seen.add(held(conn));
            DatabaseMetaData about = conn.getMetaData();
            try (ResultSet rows = about.getColumns(null, "public", "rows", null)) {
                while (rows.next()) seen.add(rows.getString("COLUMN_NAME") + " " + rows.getString("TYPE_NAME"));
            }
            seen.add(conn.isValid(20) + " " + conn.getClientInfo("ApplicationName"));
        }
        return seen;
    }

    public static void main(String[] words) throws Exception {
        try (Connection conn = connect(""); Statement statement = conn.createStatement()) {
            statement.execute("CREATE TABLE rows (client int, n int)");
            statement.execute("CREATE TABLE unique_rows (i int UNIQUE)");
            statement.execute("INSERT INTO unique_rows VALUES (1)");
            for (String more : new String[] {"", "&prepareThreshold=1&reWriteBatchedInserts=true", "&prepareThreshold=0"}) {
                ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
                CyclicBarrier allThere = new CyclicBarrier(CLIENTS);
                List<Future<List<String>>> results = new ArrayList<>();
                for (int client = 0; client < CLIENTS; client++) {
                    int number = client;
                    results.add(threads.submit(() -> work(more, number, allThere)));
                }
                threads.shutdown();
                for (int client = 0; client < CLIENTS; client++) {
                    for (String line : results.get(client).get()) System.out.println(more + " " + client + " " + line);
                }
                statement.execute("TRUNCATE rows");
            }
        }
        System.out.println("done");
    }
}
