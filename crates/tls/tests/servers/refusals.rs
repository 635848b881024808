//! What is said of a certificate that is refused: which check it was, and what to do.

use trunkline_tls::accept::{AcceptSettings, Acceptor};

use super::{Made, refused};

impl Made {
    /// Signs the server's and the client's request by the root, with these extensions and more words of `openssl x509`.
    fn sign_both(&self, extensions: &str, words: &str) {
        self.write("extensions", extensions);
        for name in ["server", "app"] {
            self.openssl(&format!(
                "x509 -req -in {name}.csr -days 30 -CA root.crt -CAkey root.key -set_serial 5 -out {name}.crt{words}"
            ));
        }
    }
}

const OF_VERSION_3: &str = " -extfile extensions";

#[test]
fn each_check_is_told_on_both_legs() {
    let made = Made::listener("ed25519");
    for (extensions, words, why) in [
        ("extendedKeyUsage=codeSigning", OF_VERSION_3, "for something else (extendedKeyUsage)"),
        ("1.2.3.4=critical,ASN1:NULL", OF_VERSION_3, "critical extension that is not known here; issue it"),
    ] {
        made.sign_both(extensions, words);
        for outcome in made.both_legs(None) {
            refused(outcome, why);
        }
    }
}

/// As SSL_CTX_use_certificate judges it at security level 2.
#[test]
fn a_certificate_of_the_proxys_own_by_rsassa_pss_is_weak_by_sha_1_alone() {
    let made = Made::new();
    made.root_and_request("db.example");
    made.write("extensions", "basicConstraints=CA:FALSE");
    // The former is what the parameters stand for when they are left out.
    for (hash, is_taken) in [("sha1", false), ("sha256", true)] {
        made.openssl(&format!(
            "x509 -req -in server.csr -days 30 -CA root.crt -CAkey root.key -set_serial 5 -extfile extensions -{hash} \
             -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -out server.crt"
        ));
        let listener = AcceptSettings { ca_file: None, sslmode: None, ..made.accept() };
        let outcome = Acceptor::load(&listener).map(drop).map_err(|error| error.to_string());
        if is_taken {
            assert_eq!(outcome, Ok(()));
        } else {
            refused(outcome, "it is signed in a way that is too weak, as by SHA-1");
        }
    }
}

const SHORT: &str = "the CA that signed it has an RSA key of 1024 bits, and 2048 to 8192 are taken";

#[test]
fn a_ca_whose_key_is_too_short() {
    let made = Made::listener("ed25519");
    made.openssl("req -new -x509 -nodes -newkey rsa:1024 -days 30 -subj /CN=weak.example -keyout root.key -out root.crt");
    for words in [OF_VERSION_3, ""] {
        made.sign_both("basicConstraints=CA:FALSE", words);
        for outcome in made.both_legs(None) {
            refused(outcome, SHORT);
        }
    }
    // With an intermediate that is not sent along, but is in the file.
    made.openssl(
        "req -new -nodes -newkey ed25519 -subj /CN=between.example -keyout between.key -out between.csr",
    );
    made.write("extensions", "basicConstraints=CA:TRUE");
    made.openssl("x509 -req -in between.csr -days 30 -CA root.crt -CAkey root.key -set_serial 6 -extfile extensions -out between.crt");
    let both = ["root.crt", "between.crt"].map(|file| std::fs::read_to_string(made.path(file)).unwrap());
    for file in ["crt", "key"] {
        std::fs::copy(made.path(&format!("between.{file}")), made.path(&format!("root.{file}"))).unwrap();
    }
    made.sign_both("basicConstraints=CA:FALSE", OF_VERSION_3);
    made.write("root.crt", &both.concat());
    for outcome in made.both_legs(None) {
        refused(outcome, SHORT);
    }
}
