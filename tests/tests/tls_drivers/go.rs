//! Go's lib/pq, from Debian's packages.

use std::path::Path;
use std::process::Command;

use trunkline_tests::root;

use crate::{endpoint, printed, trusted};

/// Where Debian's packages of Go libraries are.
const LIBRARIES: &str = "/usr/share/gocode";

const PROGRAM: &str = r#"
package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"time"

	"github.com/lib/pq"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	where := "host=127.0.0.1 dbname=appdb user=app password='app secret' port=" + os.Args[1]
	db, err := sql.Open("postgres", where+" sslmode=verify-full sslrootcert="+os.Args[2])
	must(err)
	db.SetMaxOpenConns(4)
	statement, err := db.Prepare("SELECT $1::int + 1")
	must(err)
	for i := 0; i < 50; i++ {
		var sum int
		must(statement.QueryRow(i).Scan(&sum))
		if sum != i+1 {
			must(fmt.Errorf("%d + 1 = %d", i, sum))
		}
	}
	rows, err := db.Query("SELECT generate_series(1, 10000)")
	must(err)
	count := 0
	for rows.Next() {
		count++
	}
	must(rows.Err())
	sent := bytes.Repeat([]byte{0, 1, 2}, 100000)
	var got []byte
	must(db.QueryRow("SELECT $1::bytea", sent).Scan(&got))
	fmt.Println(count, bytes.Equal(sent, got))
	limited, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err = db.ExecContext(limited, "SELECT pg_sleep(30)")
	fmt.Println(err != nil, time.Since(begun) < 20*time.Second)
	transaction, err := db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
	must(err)
	_, err = transaction.Exec("SELECT 1/0")
	failed, isOurs := err.(*pq.Error)
	fmt.Println(isOurs && failed.Code == "22012", transaction.Rollback() == nil)
	var encrypted bool
	must(db.QueryRow("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted))
	fmt.Println(encrypted)
	plain, err := sql.Open("postgres", where+" sslmode=disable")
	must(err)
	fmt.Println(plain.Ping())
	// The roots of this machine do not vouch for it.
	stranger, err := sql.Open("postgres", where+" sslmode=verify-full")
	must(err)
	fmt.Println(stranger.Ping() != nil)
}
"#;

#[test]
fn lib_pq_verifies_in_full_prepares_and_cancels() {
    let driver = Path::new(LIBRARIES).join("src/github.com/lib/pq");
    assert!(driver.exists(), "{} is missing: scripts/ci/tools.sh all installs it", driver.display());
    let endpoint = endpoint().start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("client.go");
    std::fs::write(&file, PROGRAM).unwrap();
    let mut go = Command::new("go");
    go.env("GOPATH", LIBRARIES).env("GO111MODULE", "off").env("GOFLAGS", "").env("GOTOOLCHAIN", "local");
    go.env("GOCACHE", root().join("target/go"));
    go.arg("run").arg(&file).arg(endpoint.reads().to_string()).arg(trusted());
    let said = printed(&go.output().expect("Go is here: scripts/ci/tools.sh all installs it"));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], ["10000 true", "true true", "true true", "true"], "{said}");
    assert!(lines[4].contains("no encryption"), "{said}");
    assert_eq!(lines[5], "true", "{said}");
}
