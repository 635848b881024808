//! `sslrootcert = "system"`: the roots that this machine trusts, named by the variables by which OpenSSL, and so libpq, is told
//! of others.

use std::path::Path;

use nix::sys::signal::Signal;

use super::*;

/// Roots of a machine that has no others.
struct MachineRoots {
    file: String,
    /// Without a file.
    directory: tempfile::TempDir,
}

impl MachineRoots {
    fn of(roots: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("certs");
        std::fs::create_dir(empty).unwrap();
        let machine = Self { file: directory.path().join("roots").display().to_string(), directory };
        machine.replace(roots);
        machine
    }

    fn replace(&self, roots: &Path) {
        let new = self.directory.path().join("new");
        std::fs::copy(roots, &new).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    fn variables(&self) -> [(&'static str, String); 2] {
        let directory = self.directory.path().join("certs").display().to_string();
        [("SSL_CERT_FILE", self.file.clone()), ("SSL_CERT_DIR", directory)]
    }

    /// An endpoint on it.
    fn endpoint(&self) -> EndpointBuilder {
        let endpoint = both().key("server_tls.sslrootcert", "\"system\"");
        self.variables().iter().fold(endpoint, |endpoint, (name, value)| endpoint.env(name, value))
    }

    /// What `trunkline check` says there of this `sslmode`, and how it ends.
    fn check(&self, sslmode: &str) -> (bool, String) {
        let mut command = Command::new(binary());
        command.args(["check", "--primary", "127.0.0.1:1"]).current_dir(&self.directory);
        command.envs([("TRUNKLINE__SERVER_TLS__SSLROOTCERT", "system")]).envs(self.variables());
        let output = command.env("TRUNKLINE__SERVER_TLS__SSLMODE", sslmode).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// What a psql of PostgreSQL 18 is told there, of a server.
    fn psql(&self, sslmode: &str) -> Result<String, String> {
        let mut command = pg18().command("psql");
        let port = cluster().replicas[0].port();
        command.envs(self.variables()).args(["-XAtqc", ENCRYPTED]).arg(format!(
            "host=127.0.0.1 port={port} user=postgres password=postgres dbname=appdb sslrootcert=system sslmode={sslmode}"
        ));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

#[test]
fn the_machines_roots_vouch_for_servers() {
    let machine = MachineRoots::of(Path::new(&root()));
    assert_eq!(machine.psql("verify-full").as_deref(), Ok("t"));
    let endpoint = machine.endpoint().start();
    assert_eq!(ask(endpoint.reads(), &[], ENCRYPTED).as_deref(), Ok("t"));
    assert_eq!(ask(endpoint.writes(), &[], ENCRYPTED).as_deref(), Ok("t"));
}

#[test]
fn a_server_that_the_machine_has_no_root_for_is_refused_until_it_has() {
    let machine = MachineRoots::of(Path::new(&rcgen_root()));
    let said = machine.psql("verify-full").unwrap_err();
    assert!(said.contains("certificate verify failed"), "{said}");
    let names = ["primary", "replica1", "replica2"];
    let endpoint = names.into_iter().fold(machine.endpoint(), EndpointBuilder::not_awaiting).start();
    let why = "TLS failed: certificate verify failed: none of the roots at hand vouches for it; add the root that signed it";
    for name in names {
        eventually(PATIENCE, why, || member(&endpoint, name).contains(why));
    }
    let said = ask(endpoint.reads(), &[], "SELECT 1").unwrap_err();
    assert!(!said.contains("certificate"), "which is for the log: {said}");
    machine.replace(Path::new(&root()));
    endpoint.signal(Signal::SIGHUP);
    for name in names {
        endpoint.await_health(name, true, PATIENCE);
    }
    assert_eq!(ask(endpoint.reads(), &[], ENCRYPTED).as_deref(), Ok("t"));
}

#[test]
fn the_machines_roots_are_for_verify_full_alone_and_there_must_be_one() {
    let machine = MachineRoots::of(Path::new(&root()));
    let (is_good, said) = machine.check("verify-full");
    assert!(is_good, "{said}");
    for weak in ["allow", "prefer", "require", "verify-ca"] {
        let told = machine.psql(weak).unwrap_err();
        assert!(told.contains(&format!("weak sslmode \"{weak}\"")), "{told}");
        let (is_good, said) = machine.check(weak);
        assert!(!is_good && said.contains("sslrootcert = \"system\" needs sslmode verify-full"), "{said}");
    }
    std::fs::write(&machine.file, "").unwrap();
    let (is_good, said) = machine.check("verify-full");
    assert!(!is_good && said.contains("this machine has no roots"), "{said}");
    assert!(said.contains("Install them (Debian: ca-certificates), or name a file."), "{said}");
}
