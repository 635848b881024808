//! Subjects of certificates are written as OpenSSL writes them for PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::process::Command;

use trunkline_tls::Subject;

fn openssl(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("openssl").args(words).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {words:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is made of a certificate with this subject here, and what OpenSSL prints.
fn both(folder: &Path, subject: &str, config: &str) -> (Subject, String) {
    std::fs::write(folder.join("config"), format!("{config}\n[req]\ndistinguished_name=dn\n[dn]\n")).unwrap();
    let make = "req -new -x509 -nodes -utf8 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout key -out crt \
                -config config -subj";
    openssl(folder, &make.split_whitespace().chain([subject]).collect::<Vec<_>>());
    openssl(folder, &["x509", "-in", "crt", "-outform", "DER", "-out", "der"]);
    let printed = openssl(folder, &["x509", "-in", "crt", "-noout", "-subject", "-nameopt", "RFC2253"]);
    let printed = printed.trim_end_matches('\n').strip_prefix("subject=").unwrap().to_owned();
    (Subject::of(&std::fs::read(folder.join("der")).unwrap()).unwrap(), printed)
}

#[test]
fn subjects_are_written_as_openssl_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    for subject in [
        "/CN=app",
        "/C=DE/ST=Bayern/L=M\u{fc}nchen/O=Example, Inc./OU=a+b/CN=app",
        "/DC=example/DC=db/UID=app/emailAddress=a@example.org/serialNumber=7",
        "/CN=#x; \"<y>\" /O= z",
        "/CN=back\\\\slash=equals",
        "/O=first/CN=one/CN=two",
        "/O=x/CN=app+UID=u1+OU=y",
        "/GN=G/SN=S/initials=I/title=T/name=N/pseudonym=P/dnQualifier=Q/street=R/postalCode=1/description=d",
        "/organizationIdentifier=VATDE-1/businessCategory=b/generationQualifier=g",
    ] {
        let (ours, printed) = both(folder.path(), subject, "");
        assert_eq!(ours.distinguished_name, printed, "{subject}");
    }
    let oids = "oid_section=oids\n[oids]\nthing=1.2.3.4.5\n";
    let (ours, printed) = both(folder.path(), "/CN=app/thing=x", oids);
    assert_eq!(ours.distinguished_name, printed);
    assert!(printed.starts_with("1.2.3.4.5=#"), "{printed}");
}

#[test]
fn the_first_common_name_counts() {
    let folder = tempfile::tempdir().unwrap();
    let name = |subject| both(folder.path(), subject, "").0.common_name;
    assert_eq!(name("/O=first/CN=one/CN=two").as_deref(), Some(&b"one"[..]));
    assert_eq!(name("/CN=M\u{fc}ller").as_deref(), Some("M\u{fc}ller".as_bytes()));
    assert_eq!(name("/O=nobody"), None);
}

#[test]
fn what_is_no_certificate_has_no_subject() {
    let folder = tempfile::tempdir().unwrap();
    both(folder.path(), "/CN=app", "");
    let whole = std::fs::read(folder.path().join("der")).unwrap();
    for end in 0..whole.len() {
        assert_eq!(Subject::of(&whole[..end]), None, "{end}");
    }
}
