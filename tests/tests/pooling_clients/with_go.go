// lib/pq under the pool of database/sql.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/lib/pq"
)

const clients = 8

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func code(err error) string {
	if failed, isOurs := err.(*pq.Error); isOurs {
		return string(failed.Code) + " " + failed.Message
	}
	return fmt.Sprint(err)
}

// prepared holds a statement that each connection of the pool prepares for itself.
func prepared(db *sql.DB, conn *sql.Conn, client int) string {
	seen := ""
	statement, err := db.Prepare("SELECT $1::int + $2::int")
	must(err)
	own, err := conn.PrepareContext(context.Background(), "SELECT $1::int * $2::int")
	must(err)
	for i := 0; i < 20; i++ {
		var sum, product int
		must(statement.QueryRow(i, client).Scan(&sum))
		must(own.QueryRow(i, client).Scan(&product))
		seen += fmt.Sprint(sum, " ", product, " ")
	}
	must(statement.Close())
	must(own.Close())
	return seen
}

func transactions(conn *sql.Conn, client int) string {
	ctx := context.Background()
	seen := ""
	transaction, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	must(err)
	_, err = transaction.Exec("INSERT INTO rows VALUES ($1, 1)", client)
	must(err)
	copied, err := transaction.Prepare(pq.CopyIn("rows", "client", "n"))
	must(err)
	for n := 100; n < 200; n++ {
		_, err = copied.Exec(client, n)
		must(err)
	}
	_, err = copied.Exec()
	must(err)
	must(copied.Close())
	must(transaction.Commit())
	transaction, err = conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	must(err)
	_, err = transaction.Exec("INSERT INTO rows VALUES ($1, 2)", client)
	seen += code(err)
	must(transaction.Rollback())
	var count int
	must(conn.QueryRowContext(ctx, "SELECT count(*) FROM rows WHERE client = $1", client).Scan(&count))
	_, err = conn.ExecContext(ctx, "INSERT INTO unique_rows VALUES (1)")
	return fmt.Sprint(seen, " ", count, " ", code(err))
}

func settings(conn *sql.Conn, client int) string {
	ctx := context.Background()
	_, err := conn.ExecContext(ctx, fmt.Sprintf("SET search_path = 'schema%d', public", client))
	must(err)
	seen := ""
	for i := 0; i < 4; i++ {
		var path string
		must(conn.QueryRowContext(ctx, "SHOW search_path").Scan(&path))
		seen += path + " "
	}
	return seen
}

func listens(where string, db *sql.DB) {
	listener := pq.NewListener(where, time.Second, time.Minute, nil)
	must(listener.Listen("heard"))
	_, err := db.Exec("SELECT pg_notify('heard', 'this')")
	must(err)
	select {
	case note := <-listener.Notify:
		fmt.Println(note.Channel, note.Extra)
	case <-time.After(30 * time.Second):
		fmt.Println("heard nothing")
	}
	must(listener.Ping())
	must(listener.Close())
}

func main() {
	where := "sslmode=disable"
	db, err := sql.Open("postgres", where)
	must(err)
	db.SetMaxOpenConns(2 * clients)
	db.SetMaxIdleConns(2 * clients)
	for _, text := range []string{
		"CREATE TABLE rows (client int, n int)",
		"CREATE TABLE unique_rows (i int UNIQUE)",
		"INSERT INTO unique_rows VALUES (1)",
	} {
		_, err = db.Exec(text)
		must(err)
	}
	var results [clients][]string
	var running, connected sync.WaitGroup
	connected.Add(clients)
	for client := 0; client < clients; client++ {
		running.Add(1)
		go func(client int) {
			defer running.Done()
			conn, err := db.Conn(context.Background())
			must(err)
			must(conn.PingContext(context.Background()))
			connected.Done()
			connected.Wait()
			results[client] = []string{prepared(db, conn, client), transactions(conn, client), settings(conn, client)}
			must(conn.Close())
		}(client)
	}
	running.Wait()
	for client, lines := range results {
		for _, line := range lines {
			fmt.Println(client, line)
		}
	}
	listens(where, db)
	must(db.Close())
	fmt.Println("done")
}
