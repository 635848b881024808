use super::*;
use crate::commands::init::testing::valid;

/// The form that Patroni's documentation and most guides have.
const PATRONI: &str = "
global
    maxconn 300
defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen stats
    mode http
    bind *:7000
    stats enable

listen primary
    bind *:5000
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server pg1 10.0.0.1:5432 maxconn 100 check port 8008
    server pg2 10.0.0.2:5432 maxconn 100 check port 8008

listen standbys
    balance leastconn
    bind *:5001
    option httpchk OPTIONS /replica
    default-server slowstart 20s
    server pg1 10.0.0.1:5432 check port 8008
    server pg2 10.0.0.2:5432 check port 8008 weight 3
";

#[test]
fn patronis_own_example_becomes_two_listeners() {
    let draft = of_text("h.cfg", PATRONI);
    let text = valid(&draft);
    for written in [
        "name = \"primary\"\naddress = \"0.0.0.0:5000\"\ntarget_session_attrs = \"read-write\"",
        "name = \"standbys\"\naddress = \"0.0.0.0:5001\"\ntarget_session_attrs = \"standby\"\nbalance = \"least-outstanding\"",
        "address = \"10.0.0.1:5432\"\nweight = 1",
        "connections_max = 300",
        "connect = \"4s\"",
        "slow_start = \"20s\"",
    ] {
        assert!(text.contains(written), "{written} is missing in\n{text}");
    }
    assert_eq!((draft.servers.len(), draft.listeners.len()), (2, 2));
    assert!(draft.unequal.iter().any(|said| said.starts_with("\"stats\": mode http")), "{:?}", draft.unequal);
    assert!(draft.found.iter().any(|said| said.contains("looks like Patroni")), "{:?}", draft.found);
}

#[test]
fn frontends_get_the_servers_of_their_backends() {
    let text = "
defaults
  mode tcp
frontend fe_write
  bind 127.0.0.1:5000
  default_backend be_pg
frontend fe_read
  bind [::1]:5001 accept-proxy
  use_backend special if { src 10.0.0.0/8 }
  default_backend be_ro
backend be_pg
  option pgsql-check user checker
  server a db1:5432 check
backend be_ro
  balance source
  option httpchk
  http-check send meth GET uri-lf /%[srv_name]
  server b db2:5432 check disabled
  server c db3 check
  server a db1:5432 check backup
  server p db4:5432 check send-proxy-v2
backend special
  server z db9:5432
backend nobody
  server y db8:5432
";
    let draft = of_text("h.cfg", text);
    let written = valid(&draft);
    let places: Vec<_> = draft.servers.iter().map(|server| server.host.as_str()).collect();
    assert_eq!(places, ["db1", "db2", "db3", "db4"]);
    let attrs: Vec<_> = draft.listeners.iter().map(|listener| listener.attrs).collect();
    assert_eq!(
        attrs,
        [TargetSessionAttrs::ReadWrite, TargetSessionAttrs::PreferStandby],
        "backup is the primary"
    );
    assert!(written.contains("address = \"db2:5432\"\nstate = \"maint\""), "{written}");
    assert!(written.contains("check_user = \"checker\""), "{written}");
    let unequal = draft.unequal.join("\n");
    for said in ["use_backend special", "balance source", "accept-proxy"] {
        assert!(unequal.contains(said), "{said} is missing in\n{unequal}");
    }
    assert!(draft.unseen.iter().any(|said| said.contains("it gets a PROXY header")), "{:?}", draft.unseen);
}

#[test]
fn a_section_that_says_nothing_of_roles_may_have_any_server() {
    let draft = of_text("h.cfg", "listen pg\n bind *:5000\n server a db1:1\n server a db2:1\n");
    assert_eq!(draft.listeners[0].attrs, TargetSessionAttrs::Any);
    assert!(
        draft.unseen.iter().any(|said| said.starts_with("which sections are for writes")),
        "{:?}",
        draft.unseen
    );
    let names: Vec<_> = draft.servers.iter().map(|server| server.name.as_deref()).collect();
    assert_eq!(names, [Some("a"), None], "no name twice");
    valid(&draft);
}
