//! What is valid and hardly meant, and what is said of it.

use super::{Given, SERVER, warnings};

#[test]
fn a_missing_password_is_a_warning_where_a_server_may_ask_for_one() {
    let missing = "monitor.password: is not set";
    assert!(warnings(Given::file(SERVER)).contains(missing));
    assert!(!warnings(Given::file(SERVER).env("TRUNKLINE__MONITOR__PASSWORD", "x")).contains(missing));
    let over_socket = "[[server]]\naddress = \"/run/postgresql:5432\"\n";
    assert!(!warnings(Given::file(over_socket)).contains(missing));
}

#[test]
fn an_admin_socket_in_no_directory_is_a_warning_with_its_line() {
    let given = Given::file(&format!("{SERVER}[admin]\nsocket = \"/nowhere/at/all/admin.sock\"\n"));
    let said = warnings(given);
    assert!(said.contains("trunkline.toml:4: admin.socket: /nowhere/at/all/admin.sock: there is no directory /nowhere/at/all\n"), "{said}");
}

#[test]
fn a_file_of_roots_without_a_root_is_a_warning_on_either_side() {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "root.example");
    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertifiedIssuer::self_signed(parameters.clone(), key).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "between.example");
    let between = parameters.signed_by(&rcgen::KeyPair::generate().unwrap(), &root).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    let text = format!(
        "{SERVER}[client_tls]\ncert_file = \"self-signed\"\nca_file = \"{path}\"\n\
         [server_tls]\nsslmode = \"verify-ca\"\nsslrootcert = \"{path}\"\n"
    );
    for (pem, is_said) in [(between.pem(), true), (between.pem() + &root.pem(), false)] {
        std::fs::write(file.path(), pem).unwrap();
        let said = warnings(Given::file(&text));
        for key in ["client_tls.ca_file", "server_tls.sslrootcert"] {
            let expected = format!("{key}: {path}: no certificate in it is its own root");
            assert_eq!(said.contains(&expected), is_said, "{said}");
        }
    }
}

#[test]
fn relay_where_both_sides_must_have_tls_is_a_warning() {
    let said = "auth.mode: is relay, with TLS on both sides";
    let text = |mode: &str, clients: &str, servers: &str| {
        format!(
            "{SERVER}[auth]\nmode = \"{mode}\"\n[client_tls]\ncert_file = \"self-signed\"\n\
             sslmode = \"{clients}\"\n[server_tls]\nsslmode = \"{servers}\"\n"
        )
    };
    for (mode, clients, servers, is_said) in [
        ("relay", "require", "require", true),
        ("relay", "prefer", "require", false),
        ("relay", "require", "prefer", false),
        ("login", "require", "require", false),
        ("verify", "require", "require", false),
    ] {
        let warnings = warnings(Given::file(&text(mode, clients, servers)));
        assert_eq!(warnings.contains(said), is_said, "{mode} {clients} {servers}: {warnings}");
    }
}
