//! Start, reload, drain, stop.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{MONITOR_PASSWORD, MONITOR_ROLE, PortLease};
use trunkline_tests::{
    Auth, Endpoint, Login, Wire, binary, eventually, http_get, own_cluster, psql, shared_cluster, traffic,
};

/// Far beyond what a healthy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn sigterm_ends_idle_sessions_at_once_and_lets_busy_ones_finish() {
    let mut endpoint = Endpoint::over(shared_cluster()).start();
    let mut idle = Wire::login(endpoint.reads());
    assert_eq!(idle.value("SELECT 1"), "1");
    let mut busy = Wire::login(endpoint.reads());
    busy.send_query("SELECT 'whole' FROM pg_sleep(4) /* busy at SIGTERM */");
    let runs = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity \
                WHERE wait_event = 'PgSleep' AND query LIKE '%busy at SIGTERM%')";
    eventually(Duration::from_secs(10), "it runs", || {
        shared_cluster().servers().any(|server| server.psql(runs).unwrap() == "t")
    });
    let mut in_transaction = Wire::login(endpoint.reads());
    assert!(in_transaction.query("BEGIN").error.is_none());
    endpoint.signal(Signal::SIGTERM);
    let start = Instant::now();
    let error = idle.read_answer().error.unwrap();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "57P01"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(in_transaction.value("SELECT 2"), "2", "a transaction may go on");
    assert!(in_transaction.query("COMMIT").error.is_none());
    assert_eq!(in_transaction.read_answer().error.unwrap().code, "57P01");
    let error = Login::default().try_connect(endpoint.reads()).expect_err("no new sessions while draining");
    assert!(error.code == "57P03" || error.severity == "EOF", "{error:?}");
    assert_eq!(busy.read_answer().value(), "whole");
    assert_eq!(busy.read_answer().error.unwrap().code, "57P01");
    assert!(endpoint.await_end(PATIENCE).success());
}

#[test]
fn the_drain_deadline_cuts_what_does_not_finish() {
    let mut endpoint = Endpoint::over(shared_cluster()).key("timeouts.drain", "\"1s\"").start();
    let mut busy = Wire::login(endpoint.reads());
    busy.send_query("SELECT pg_sleep(60)");
    endpoint.signal(Signal::SIGTERM);
    let start = Instant::now();
    let _status = endpoint.await_end(PATIENCE);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(busy.read_answer().error.unwrap().code, "57P01");
}

#[test]
fn an_idle_endpoint_ends_at_once_on_sigterm() {
    let mut endpoint = Endpoint::over(shared_cluster()).start();
    endpoint.signal(Signal::SIGTERM);
    let start = Instant::now();
    assert!(endpoint.await_end(PATIENCE).success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn sigint_ends_at_once() {
    let mut endpoint = Endpoint::over(shared_cluster()).start();
    let mut busy = Wire::login(endpoint.reads());
    busy.send_query("SELECT pg_sleep(60)");
    endpoint.signal(Signal::SIGINT);
    let start = Instant::now();
    let _status = endpoint.await_end(PATIENCE);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn no_server_session_outlives_the_endpoint() {
    let cluster = own_cluster(1);
    let mut endpoint = Endpoint::over(&cluster).start();
    let _held: Vec<Wire> = (0..3).map(|_| Wire::login(endpoint.reads())).collect();
    endpoint.signal(Signal::SIGINT);
    let _status = endpoint.await_end(PATIENCE);
    let count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    for server in cluster.servers() {
        eventually(PATIENCE, "its sessions are gone", || server.psql(count).unwrap() == "0");
    }
}

#[test]
fn sighup_reloads_what_can_change_live() {
    let cluster = own_cluster(1);
    let mut endpoint = Endpoint::over(&cluster).key("health.max_lag", "\"60s\"").start();
    let mut held = Wire::login(endpoint.reads());
    let _writes = traffic(&cluster.primary);
    cluster.replicas[0].pause_replay().unwrap();
    eventually(Duration::from_secs(10), "it lags more than the new limit allows", || {
        let body = http_get(endpoint.http(), "/cluster").unwrap().body;
        let cluster: serde_json::Value = serde_json::from_str(&body).unwrap();
        let mut members = cluster["members"].as_array().unwrap().iter();
        let replica = members.find(|member| member["name"] == "replica1").unwrap();
        replica["lag"]["lo"].as_f64().is_some_and(|lag| lag > 1.0)
    });
    assert_eq!(endpoint.status_of("/replica1"), 200);
    endpoint.rewrite("health.max_lag", "\"1s\"");
    endpoint.signal(Signal::SIGHUP);
    endpoint.await_health("replica1", false, PATIENCE);
    assert_eq!(held.value("SELECT 1"), "1", "sessions survive a reload");
    cluster.replicas[0].resume_replay().unwrap();
}

#[test]
fn sighup_says_what_cannot_change_live_and_refuses_nonsense_whole() {
    let mut endpoint = Endpoint::over(shared_cluster()).start();
    endpoint.rewrite("runtime.threads", "7");
    for times in 1..=2 {
        endpoint.signal(Signal::SIGHUP);
        eventually(PATIENCE, "the log names what differs, each time", || {
            endpoint.log().matches("key=runtime.threads\n").count() == times
        });
    }
    assert!(!endpoint.log().contains("message=\"configuration reloaded\""), "not all of it was");
    endpoint.rewrite("health.max_lag", "\"a while\"");
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "the log names the problem", || endpoint.log().contains("max_lag"));
    assert_eq!(psql(endpoint.reads(), "SELECT 1"), "1");
}

#[test]
fn reload_succeeds_only_when_all_is_in_force() {
    let mut endpoint = Endpoint::over(shared_cluster()).with_admin().start();
    let is_successful = |endpoint: &Endpoint| {
        let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
        metrics.contains("\ntrunkline_config_last_reload_successful 1\n")
    };
    let (status, said) = endpoint.admin(&["reload"]);
    assert_eq!((status, said.as_str()), (Some(0), "configuration reloaded\n"));
    endpoint.rewrite("health.max_lag", "\"a while\"");
    endpoint.rewrite("limits.connections_max", "1");
    let (status, said) = endpoint.admin(&["reload"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("nothing was changed\n") && said.contains("health.max_lag: "), "{said}");
    assert!(!is_successful(&endpoint));
    let _two_at_once = [Wire::login(endpoint.reads()), Wire::login(endpoint.reads())];
    endpoint.rewrite("health.max_lag", "\"5s\"");
    endpoint.rewrite("runtime.threads", "7");
    let (status, said) = endpoint.admin(&["reload"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("need a restart\n  runtime.threads\n  HINT: "), "{said}");
    assert!(!is_successful(&endpoint));
    let refused = Login::default().try_connect(endpoint.reads()).expect_err("the rest is in force");
    assert_eq!(refused.code, "53300");
    endpoint.rewrite("runtime.threads", "0");
    assert_eq!(endpoint.admin(&["reload"]).0, Some(0));
    assert!(is_successful(&endpoint));
}

#[test]
fn a_users_file_with_an_error_changes_nothing() {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "\"postgres\" \"postgres\"\n").unwrap();
    let builder = Endpoint::over(shared_cluster()).auth(Auth::Verify).with_admin();
    let mut endpoint = builder.key("auth.users_file", &format!("{:?}", users.path())).start();
    std::fs::write(users.path(), "\"postgres\n").unwrap();
    endpoint.rewrite("limits.connections_max", "1");
    let (status, said) = endpoint.admin(&["reload"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("nothing was changed\n") && said.contains("users file "), "{said}");
    let _two_at_once = [Wire::login(endpoint.reads()), Wire::login(endpoint.reads())];
}

/// A listener of the configuration file.
fn listener(name: &str, address: &str, port: u16, attrs: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\naddress = \"{address}:{port}\"\ntarget_session_attrs = \"{attrs}\"\n"
    )
}

/// Whether nobody listens at a port of this machine.
fn is_closed(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
}

#[test]
fn listeners_come_move_and_go_while_their_sessions_live() {
    let leases = [PortLease::take().unwrap(), PortLease::take().unwrap()];
    let [first, second] = [leases[0].port(), leases[1].port()];
    let mut endpoint = Endpoint::over(shared_cluster()).with_admin().start();
    let done = (Some(0), "configuration reloaded\n".to_owned());
    assert!(is_closed(first));
    endpoint.replace_toml(&listener("extra", "127.0.0.1", first, "standby"));
    assert_eq!(endpoint.admin(&["reload"]), done, "one is added");
    let mut held = Wire::login(first);
    assert_eq!(held.value("SELECT pg_is_in_recovery()"), "t");

    endpoint.replace_toml(&listener("extra", "127.0.0.1", first, "primary"));
    assert_eq!(endpoint.admin(&["reload"]), done, "its sessions want other servers from now on");
    assert_eq!(Wire::login(first).value("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(held.value("SELECT pg_is_in_recovery()"), "t", "the others keep what they came for");

    endpoint.replace_toml(&listener("extra", "127.0.0.1", second, "standby"));
    assert_eq!(endpoint.admin(&["reload"]), done, "it moves");
    assert!(is_closed(first));
    let mut moved = Wire::login(second);

    endpoint.replace_toml(&listener("extra", "0.0.0.0", second, "standby"));
    assert_eq!(endpoint.admin(&["reload"]), done, "to all addresses, the one it has among them");
    assert_eq!(Wire::login(second).value("SELECT 1"), "1");

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
    endpoint.rewrite("limits.connections_max", "1");
    endpoint.replace_toml(&listener("extra", "127.0.0.1", first, "standby"));
    let (status, said) = endpoint.admin(&["reload"]);
    assert_eq!(status, Some(1), "{said}");
    let error = format!("nothing was changed\ncould not listen on 127.0.0.1:{first} (extra): ");
    assert!(said.contains(&error) && said.contains("\n  HINT: Another program listens there"), "{said}");
    assert_eq!(Wire::login(second).value("SELECT 1"), "1", "all is as it was");
    drop(taken);

    endpoint.rewrite("limits.connections_max", "1000");
    endpoint.replace_toml("");
    assert_eq!(endpoint.admin(&["reload"]), done, "it goes");
    assert!(is_closed(second));
    assert_eq!(held.value("SELECT 1") + &moved.value("SELECT 2"), "12", "and its sessions go on");
}

#[test]
fn a_changed_login_of_the_monitor_is_used_everywhere_once_no_server_refuses_it() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE ROLE next_monitor LOGIN SUPERUSER PASSWORD 'next'").unwrap();
    let replayed = "SELECT count(*) FROM pg_roles WHERE rolname = 'next_monitor'";
    eventually(PATIENCE, "it is on the standby", || cluster.replicas[0].psql(replayed).unwrap() == "1");
    let builder = Endpoint::over(&cluster).auth(Auth::Verify).key("monitor.dbname", "\"appdb\"").with_admin();
    let builder = builder.key("monitor.password", &format!("\"{MONITOR_PASSWORD}\""));
    let mut endpoint = builder.key("monitor.user", &format!("\"{MONITOR_ROLE}\"")).start();
    let mut held = Wire::login(endpoint.reads());

    endpoint.rewrite("monitor.user", "\"nobody_of_this_name\"");
    let (status, said) = endpoint.admin(&["reload"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("refuses the new login of the monitoring role: ") && said.contains("HINT: "),
        "{said}"
    );
    assert_eq!(endpoint.status_of("/replica1"), 200);

    endpoint.rewrite("monitor.user", "\"next_monitor\"");
    endpoint.rewrite("monitor.password", "\"next\"");
    assert_eq!(endpoint.admin(&["reload"]), (Some(0), "configuration reloaded\n".to_owned()));
    // A login reads its secret by the new one.
    assert_eq!(Wire::login(endpoint.reads()).value("SELECT 1"), "1");
    let users = |role| format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    for server in cluster.servers() {
        eventually(PATIENCE, "the old login is used no more", || {
            server.psql(&users(MONITOR_ROLE)).unwrap() == "0"
                && server.psql(&users("next_monitor")).unwrap() != "0"
        });
    }
    cluster.primary.psql(&format!("ALTER ROLE {MONITOR_ROLE} NOLOGIN")).unwrap();
    assert_eq!(Wire::login(endpoint.reads()).value("SELECT 1") + &held.value("SELECT 2"), "12");
    assert_eq!(endpoint.status_of("/replica1"), 200);
}

#[test]
fn who_authenticates_and_against_what_changes_for_the_next_logins() {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "\"app\" \"app secret\"\n").unwrap();
    let done = (Some(0), "configuration reloaded\n".to_owned());
    let mut endpoint = Endpoint::over(shared_cluster()).auth(Auth::Relay).with_admin().start();
    let mut held = Wire::login(endpoint.reads());
    endpoint.rewrite("auth.mode", "\"verify\"");
    endpoint.rewrite("auth.users_file", &format!("{:?}", users.path()));
    assert_eq!(endpoint.admin(&["reload"]), done);
    eventually(PATIENCE, "the log has the new mode", || {
        endpoint.log().contains("sessions can move to another server")
    });
    drop(Login::of("app", "app secret").connect(endpoint.reads()));
    let refused = Login::default().try_connect(endpoint.reads()).expect_err("it is not in the file");
    assert_eq!(refused.code, "28P01");
    std::fs::write(users.path(), "\"postgres\" \"postgres\"\n").unwrap();
    assert_eq!(endpoint.admin(&["reload"]), done);
    assert_eq!(Wire::login(endpoint.reads()).value("SELECT 1") + &held.value("SELECT 2"), "12");
    endpoint.rewrite("auth.mode", "\"relay\"");
    assert_eq!(endpoint.admin(&["reload"]), done);
    drop(Login::of("app", "app secret").connect(endpoint.reads()));
}

#[test]
fn servers_beside_the_sessions_come_move_and_go() {
    let leases = [PortLease::take().unwrap(), PortLease::take().unwrap()];
    let [agent, next] = [leases[0].port(), leases[1].port()];
    let mut endpoint = Endpoint::over(shared_cluster()).with_admin().start();
    let done = (Some(0), "configuration reloaded\n".to_owned());
    endpoint.rewrite("agent.listen", &format!("\"127.0.0.1:{agent}\""));
    assert_eq!(endpoint.admin(&["reload"]), done, "it is added");
    assert!(!is_closed(agent));
    endpoint.rewrite("agent.listen", &format!("\"0.0.0.0:{agent}\""));
    assert_eq!(endpoint.admin(&["reload"]), done, "to all addresses, the one it has among them");
    assert!(!is_closed(agent));
    endpoint.rewrite("agent.listen", &format!("\"127.0.0.1:{next}\""));
    assert_eq!(endpoint.admin(&["reload"]), done, "it moves");
    eventually(PATIENCE, "the old one is closed", || is_closed(agent));
    assert!(!is_closed(next));
    endpoint.rewrite("agent.listen", "\"off\"");
    assert_eq!(endpoint.admin(&["reload"]), done, "it goes");
    eventually(PATIENCE, "it is closed", || is_closed(next));
}

#[test]
fn a_larger_number_of_connections_is_given_its_open_files() {
    let mut endpoint = Endpoint::over(shared_cluster()).start();
    let open_files_max = |pid: i32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()
    };
    let pid = endpoint.pid();
    let lower = ["--pid", &pid.to_string(), "--nofile=600:"];
    assert!(Command::new("prlimit").args(lower).status().unwrap().success());
    assert_eq!(open_files_max(pid), 600);
    endpoint.rewrite("limits.connections_max", "500");
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "two for each session", || open_files_max(pid) > 1000);
}

#[test]
fn a_configuration_with_problems_is_refused_with_all_of_them() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = "[health]\nmax_lag = \"soon\"\nmax_leg = \"2s\"\n[auth]\nmode = \"maybe\"\n";
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    for command in ["check", "serve"] {
        let output = Command::new(binary()).arg(command).arg("--config").arg(file.path()).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        for part in ["max_lag", "max_leg", "mode", ":2", ":3", ":5"] {
            assert!(said.contains(part), "{command} does not say {part:?}: {said}");
        }
    }
}

#[test]
fn the_service_manager_is_told_that_it_is_ready_how_it_goes_and_that_it_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut endpoint = Endpoint::over(shared_cluster())
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "300000")
        .start();
    let next = || {
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(next().trim_end(), "READY=1");
    let _session = Login::default().connect(endpoint.reads());
    let is_told = "STATUS=3 of 3 servers up, 1 sessions\nWATCHDOG=1";
    let limit = Duration::from_secs(20);
    eventually(limit, "it reports the session", || next().trim_end() == is_told);
    endpoint.signal(Signal::SIGTERM);
    eventually(limit, "it says that it ends", || next().trim_end() == "STOPPING=1");
    // It ends although nobody reads what it says.
    assert!(endpoint.await_end(PATIENCE).success());
}
