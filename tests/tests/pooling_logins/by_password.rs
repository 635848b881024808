//! Clients that prove themselves to a server by their password (`[auth] mode = "login"`).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use trunkline_tests::{Certificates, ClientStream, Login, ServerError};

use super::*;

/// PostgreSQL's SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The proxy asks nobody for a password whom TLS does not protect.
fn over_tls(login: &Login, port: u16) -> Result<Wire, ServerError> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    let mut wire = Wire::over(ClientStream::seal(socket, Certificates::shared().client()).unwrap());
    wire.send(&login.packet());
    wire.finish_login(login).map(|()| wire)
}

fn judged_by_servers(threads: u16) -> Endpoint {
    let [certificate, key] = Certificates::shared().endpoint();
    let builder = transactions(2).auth(Auth::Login).threads(threads);
    let builder = builder.key("client_tls.cert_file", &format!("{certificate:?}"));
    builder.key("client_tls.key_file", &format!("{key:?}")).start()
}

#[test]
fn clients_whose_password_a_server_has_judged_share_its_connections() {
    let role = role("of_passwords");
    for threads in [1, 2] {
        let endpoint = judged_by_servers(threads);
        let mut clients = [(); 6].map(|()| over_tls(&role.login(), endpoint.writes()).unwrap());
        for (number, client) in clients.iter_mut().enumerate() {
            fine(client, &format!("SET application_name = 'client {number}'"));
        }
        let mut processes = BTreeSet::new();
        for _ in 0..10 {
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.value("SHOW application_name"), format!("client {number}"));
                processes.insert(client.value(WHO));
            }
        }
        assert!(processes.len() <= 2, "{processes:?}");
        assert!(role.processes(primary()).len() <= 2);
    }
}

#[test]
fn a_server_judges_each_new_password_and_who_is_in_stays_in() {
    let role = role("of_judged");
    let endpoint = judged_by_servers(2);
    let [right, wrong] = ["postgres", "another"].map(|password| Login::of(role.name, password));
    let mut clients = [(); 3].map(|()| over_tls(&right, endpoint.writes()).unwrap());
    let is_refused = |login: &Login| {
        let error = over_tls(login, endpoint.writes()).unwrap_err();
        assert_eq!(error.code, "28P01", "{error:?}");
        assert!(error.text.contains("password authentication failed for user \"of_judged\""), "{error:?}");
    };
    // Also while connections are idle that others have logged in to.
    eventually(PATIENCE, "all are idle", || endpoint.pooled("sv_active", role) == 0);
    is_refused(&wrong);
    primary().psql("ALTER ROLE of_judged PASSWORD 'another'").unwrap();
    is_refused(&right);
    let mut new = over_tls(&wrong, endpoint.writes()).unwrap();
    for client in clients.iter_mut().chain([&mut new]) {
        assert_eq!(client.value("SELECT 'in'"), "in");
    }
}
