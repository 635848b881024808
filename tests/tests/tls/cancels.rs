//! CancelRequests of libpq, with TLS on both legs.

use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use trunkline_cluster::send_signal;
use trunkline_tests::{Overheard, Wiretap};

use super::*;

/// A psql that runs a statement which takes long.
fn sleeping(libpq: &PgInstall, port: u16, mark: &str) -> Child {
    let mut psql = libpq.command("psql");
    psql.env("PGPASSWORD", "postgres").args(["-XAtq", "-c", &format!("SELECT pg_sleep(120) /* {mark} */")]);
    psql.arg(format!("host=127.0.0.1 port={port} user=postgres dbname=appdb sslmode=require"));
    psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether a server runs the statement of that mark.
fn runs(mark: &str) -> bool {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%/* {mark} */%'"
    );
    cluster().replicas[0].psql(&sql).unwrap() == "1"
}

#[test]
fn ctrl_c_in_psql_cancels_its_own_query_and_no_other() {
    let wiretap = Wiretap::before(cluster().replicas[0].port());
    let endpoint = both()
        .key("client_tls.sslmode", "\"require\"")
        .through("replica1", wiretap.port())
        .without("replica2")
        .start();
    for libpq in [pg18(), pg17(), PgInstall::find(None).unwrap()] {
        let marks = ["first", "second"].map(|which| format!("{which} of {}", libpq.major));
        let [mut first, mut second] = marks.each_ref().map(|mark| sleeping(&libpq, endpoint.reads(), mark));
        eventually(PATIENCE, "both run", || marks.iter().all(|mark| runs(mark)));
        for (psql, others) in [(&mut second, &marks[..1]), (&mut first, &marks[..0])] {
            send_signal(i32::try_from(psql.id()).unwrap(), Signal::SIGINT);
            eventually(PATIENCE, "psql has ended", || psql.try_wait().unwrap().is_some());
            let mut said = String::new();
            std::io::Read::read_to_string(psql.stderr.as_mut().unwrap(), &mut said).unwrap();
            assert!(said.contains("canceling statement due to user request"), "{libpq:?}: {said}");
            assert!(others.iter().all(|mark| runs(mark)), "{libpq:?}: another one goes on");
        }
    }
    // A key of a session would be a present for whoever listens between.
    let overheard = wiretap.overheard();
    assert!(overheard.len() >= 12, "{overheard:?}");
    assert!(!overheard.contains(&Overheard::Plain), "{overheard:?}");
}
