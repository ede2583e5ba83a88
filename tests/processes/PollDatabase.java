package ledger.corda;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;

/** {@code PollDatabase URL USER}: queries the database on one connection of a node's pool until a query fails. */
public final class PollDatabase {
    private PollDatabase() {}

    public static void main(String[] arguments) throws Exception {
        HikariConfig configuration = new HikariConfig();
        configuration.setDataSourceClassName("org.postgresql.ds.PGSimpleDataSource");
        configuration.addDataSourceProperty("url", arguments[0]);
        configuration.addDataSourceProperty("user", arguments[1]);
        configuration.addDataSourceProperty("password", System.getenv("DATABASE"));
        configuration.setMaximumPoolSize(1);
        try (HikariDataSource pool = new HikariDataSource(configuration);
                Connection connection = pool.getConnection();
                Statement statement = connection.createStatement()) {
            System.out.println("polls");
            while (true) {
                statement.execute("SELECT 1");
                Thread.sleep(50);
            }
        } catch (SQLException error) {
            System.out.println(error.getMessage());
        }
        Runtime.getRuntime().halt(0);
    }
}
