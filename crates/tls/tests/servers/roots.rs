//! What a root says of itself, which holds for certificates of either version, on both legs: each as `openssl verify` judges it.

use super::Made;

impl Made {
    /// The root anew, of the same name and key, for so many days and with these extensions.
    fn root(&self, days: i32, extensions: &str) {
        self.write("root.extensions", extensions);
        self.openssl("req -new -key root.key -subj /CN=root.example -out root.csr");
        self.openssl(&format!(
            "x509 -req -in root.csr -signkey root.key -days {days} -extfile root.extensions -out root.crt"
        ));
    }

    /// What the root has signed, which says this, or is of version 1.
    fn leaves(&self, extensions: Option<&str>) {
        self.write("leaf.extensions", extensions.unwrap_or_default());
        let words = if extensions.is_some() { " -extfile leaf.extensions" } else { "" };
        for name in ["server", "app"] {
            self.openssl(&format!(
                "x509 -req -in {name}.csr -days 30 -CA root.crt -CAkey root.key -set_serial 5 -out {name}.crt{words}"
            ));
        }
    }
}

/// A server and a client whose root is made anew.
fn made() -> Made {
    let made = Made::listener("ed25519");
    made.openssl("req -new -key server.key -subj /CN=db.example -out server.csr");
    made
}

/// What comes of it towards a server, and from a client.
type Expected = [Option<&'static str>; 2];

const TAKEN: Expected = [None; 2];

fn assert_expected(made: &Made, expected: Expected, what: &str) {
    for (outcome, why) in made.both_legs(None).into_iter().zip(expected) {
        match why {
            None => assert_eq!(outcome, Ok(()), "{what}"),
            Some(why) => {
                let error = outcome.expect_err(what);
                assert!(error.contains(why), "{what}: {error}");
            }
        }
    }
}

#[test]
fn a_root_is_held_to_its_dates_and_to_what_it_is_for() {
    let made = made();
    let is_other = Some("for something else (extendedKeyUsage)");
    for (days, extensions, expected) in [
        (30, "basicConstraints=CA:TRUE", TAKEN),
        (30, "basicConstraints=CA:TRUE,pathlen:0\nkeyUsage=keyCertSign", TAKEN),
        (30, "keyUsage=keyCertSign", TAKEN),
        (30, "basicConstraints=CA:TRUE\nextendedKeyUsage=serverAuth,clientAuth", TAKEN),
        (30, "basicConstraints=CA:TRUE\nextendedKeyUsage=clientAuth", [is_other, None]),
        (30, "basicConstraints=CA:TRUE\nextendedKeyUsage=serverAuth", [None, is_other]),
        (-1, "basicConstraints=CA:TRUE", [Some("the certificate has expired"); 2]),
        (30, "basicConstraints=CA:TRUE\nkeyUsage=digitalSignature", [Some("none of the roots"); 2]),
    ] {
        made.root(days, extensions);
        for leaf in [Some("basicConstraints=CA:FALSE"), None] {
            made.leaves(leaf);
            assert_expected(&made, expected, &format!("{days} {extensions}, {leaf:?}"));
        }
    }
}

#[test]
fn a_root_that_was_renewed_with_its_key_is_taken_beside_the_expired_one() {
    let made = made();
    made.root(-1, "basicConstraints=CA:TRUE");
    let expired = std::fs::read_to_string(made.path("root.crt")).unwrap();
    made.root(30, "basicConstraints=CA:TRUE");
    made.leaves(Some("basicConstraints=CA:FALSE"));
    let renewed = std::fs::read_to_string(made.path("root.crt")).unwrap();
    for both in [[&*expired, &*renewed], [&*renewed, &*expired]] {
        made.write("root.crt", &both.concat());
        assert_expected(&made, TAKEN, "both are there");
    }
}

#[test]
fn a_root_bounds_how_many_are_below_it() {
    let made = Made::new();
    made.root_and_intermediate();
    for name in ["server", "app"] {
        let subject = if name == "server" { "db.example" } else { "app" };
        made.openssl(&format!("req -new -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"));
    }
    let too_many = Some("pathlen");
    for (most, expected) in [(0, [too_many; 2]), (1, TAKEN)] {
        made.root(30, &format!("basicConstraints=CA:TRUE,pathlen:{most}"));
        made.write("leaf.extensions", "basicConstraints=CA:FALSE");
        for words in [" -extfile leaf.extensions", ""] {
            for name in ["server", "app"] {
                made.openssl(&format!("x509 -req -in {name}.csr -days 30 -CA intermediate.crt -CAkey intermediate.key -set_serial 9 -out {name}.leaf{words}"));
                made.bundle(name);
            }
            assert_expected(&made, expected, &format!("pathlen:{most}{words}"));
        }
    }
}

/// `openssl req -x509 -CA root.crt` makes such leaves by the configuration that comes with it.
#[test]
fn a_leaf_that_is_a_cas_own_is_taken() {
    let made = made();
    let none = Some("none of the roots");
    let is_other = Some("for something else (extendedKeyUsage)");
    for (root, leaf, expected) in [
        ("basicConstraints=CA:TRUE", "", TAKEN),
        ("basicConstraints=CA:TRUE", ",pathlen:0", TAKEN),
        ("basicConstraints=CA:TRUE", "\nextendedKeyUsage=clientAuth", [is_other, None]),
        ("basicConstraints=CA:TRUE\nextendedKeyUsage=serverAuth", "", [None, is_other]),
        ("basicConstraints=CA:FALSE", "", [none; 2]),
    ] {
        made.root(30, root);
        made.leaves(Some(&format!("basicConstraints=critical,CA:TRUE{leaf}")));
        assert_expected(&made, expected, &format!("{root}, {leaf}"));
    }
    made.root(30, "basicConstraints=CA:TRUE");
    made.leaves(Some("basicConstraints=critical,CA:TRUE\n1.2.3.4=critical,ASN1:NULL"));
    assert_expected(&made, [Some("critical extension that is not known"); 2], "not understood");
    // Another root of this name.
    made.leaves(Some("basicConstraints=critical,CA:TRUE"));
    made.openssl("req -new -x509 -nodes -days 30 -subj /CN=root.example -keyout root.key -out root.crt");
    assert_expected(&made, [Some("its signature is not that of the root"); 2], "by another");
}

/// Each as `openssl verify -purpose sslserver` and `sslclient` have it.
#[test]
fn a_leaf_says_what_its_key_is_for() {
    let made = made();
    let unfit = Some("its key is for something else (keyUsage)");
    let is_other = Some("for something else (extendedKeyUsage)");
    let any = [is_other; 2];
    let uses = [
        ("keyUsage=digitalSignature", TAKEN),
        ("keyUsage=keyAgreement", TAKEN),
        ("keyUsage=critical,digitalSignature,keyEncipherment", TAKEN),
        ("keyUsage=keyCertSign,digitalSignature", TAKEN),
        ("keyUsage=keyEncipherment", [None, unfit]),
        ("keyUsage=keyCertSign", [unfit; 2]),
        ("keyUsage=nonRepudiation", [unfit; 2]),
        ("extendedKeyUsage=anyExtendedKeyUsage", any),
        ("extendedKeyUsage=anyExtendedKeyUsage,serverAuth,clientAuth", TAKEN),
    ];
    for (leaf, expected) in uses {
        for of_ca in ["basicConstraints=CA:FALSE", "basicConstraints=CA:TRUE"] {
            made.leaves(Some(&format!("{of_ca}\n{leaf}")));
            assert_expected(&made, expected, &format!("{leaf} {of_ca}"));
        }
    }
    // One that is its own root.
    made.openssl("req -new -key server.key -subj /CN=db.example -out own.csr");
    for (own, expected) in uses {
        made.write("own.extensions", own);
        made.openssl(
            "x509 -req -in own.csr -signkey server.key -days 30 -extfile own.extensions -out root.crt",
        );
        for (file, copy) in [("root.crt", "server.crt"), ("root.crt", "app.crt"), ("server.key", "app.key")] {
            std::fs::copy(made.path(file), made.path(copy)).unwrap();
        }
        assert_expected(&made, expected, &format!("its own root, {own}"));
    }
    // A root is for any, which does not do for those below it.
    let made = self::made();
    made.root(30, "basicConstraints=CA:TRUE\nextendedKeyUsage=anyExtendedKeyUsage");
    for leaf in [Some("basicConstraints=CA:FALSE"), None] {
        made.leaves(leaf);
        assert_expected(&made, any, &format!("{leaf:?}"));
    }
}

/// The file of roots with others in it.
fn trusting(made: &Made, others: &[&str]) {
    let files = [&["root.crt"], others].concat();
    let all: String = files.iter().map(|file| std::fs::read_to_string(made.path(file)).unwrap()).collect();
    made.write("root.crt", &all);
}

#[test]
fn an_intermediate_in_the_file_that_cannot_be_read_is_not_what_is_said_of_strangers() {
    let made = made();
    made.root(30, "basicConstraints=CA:TRUE");
    made.openssl("req -new -key root.key -subj /CN=unread.example -out unread.csr");
    for words in ["", " -extfile unread"] {
        made.root(30, "basicConstraints=CA:TRUE");
        made.write("unread", "basicConstraints=CA:TRUE\n1.2.3.4=critical,ASN1:NULL");
        made.openssl(&format!(
            "x509 -req -in unread.csr -days 30 -CA root.crt -CAkey root.key -set_serial 6 -out unread.crt{words}"
        ));
        trusting(&made, &["unread.crt"]);
        let stranger = Made::listener("ed25519");
        stranger
            .openssl("req -new -x509 -nodes -days 30 -subj /CN=stranger.example -key root.key -out root.crt");
        stranger.leaves(Some("basicConstraints=CA:FALSE"));
        std::fs::copy(made.path("root.crt"), stranger.path("root.crt")).unwrap();
        assert_expected(&stranger, [Some("none of the roots"); 2], words);
    }
}

/// The root's new key, signed by the old one, as a CA makes it when it changes its key.
#[test]
fn a_certificate_of_the_roots_name_by_the_key_before_is_no_root() {
    let made = made();
    let with_keys = "basicConstraints=CA:TRUE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid";
    made.root(30, with_keys);
    made.openssl("req -new -nodes -subj /CN=root.example -keyout new.key -out new.csr");
    made.openssl("x509 -req -in new.csr -days 30 -CA root.crt -CAkey root.key -set_serial 7 -extfile root.extensions -out new.crt");
    std::fs::rename(made.path("root.crt"), made.path("old.crt")).unwrap();
    std::fs::rename(made.path("new.key"), made.path("root.key")).unwrap();
    let read = |file: &str| std::fs::read_to_string(made.path(file)).unwrap();
    for leaf in [Some("basicConstraints=CA:FALSE"), None] {
        made.write("root.crt", &read("new.crt"));
        made.leaves(leaf);
        assert_expected(&made, [Some("none of the roots"); 2], &format!("{leaf:?}"));
        made.write("root.crt", &[read("old.crt"), read("new.crt")].concat());
        assert_expected(&made, TAKEN, &format!("{leaf:?} and the old one"));
    }
    // As an end's own it is not, either.
    for (file, copy) in [
        ("new.crt", "server.crt"),
        ("new.crt", "app.crt"),
        ("root.key", "server.key"),
        ("root.key", "app.key"),
    ] {
        std::fs::copy(made.path(file), made.path(copy)).unwrap();
    }
    made.write("root.crt", &read("new.crt"));
    assert_expected(&made, [Some("none of the roots"); 2], "its own");
}

/// Each as `openssl verify` has it.
#[test]
fn what_names_a_ca_is_for_holds_for_a_common_name_where_there_are_no_others() {
    let made = made();
    // That of the client has no dot, and is no name of a host.
    let refused = [Some("a CA of it is not for its names"), None];
    for (constraints, expected) in [
        ("permitted;DNS:example", TAKEN),
        ("permitted;DNS:db.example", TAKEN),
        ("permitted;DNS:other.example", refused),
        ("excluded;DNS:example", refused),
        ("excluded;DNS:other.example", TAKEN),
        ("permitted;email:example", TAKEN),
    ] {
        made.root(30, &format!("basicConstraints=CA:TRUE\nnameConstraints=critical,{constraints}"));
        made.leaves(Some("basicConstraints=CA:FALSE"));
        assert_expected(&made, expected, constraints);
    }
}

#[test]
fn a_ca_between_may_be_for_some_names_alone() {
    let made = Made::new();
    made.root_and_intermediate();
    made.openssl("req -new -nodes -subj /CN=db.example -keyout server.key -out server.csr");
    for (constraints, is_taken) in [("permitted;DNS:example", true), ("permitted;DNS:other.example", false)] {
        made.write(
            "limits",
            &format!("basicConstraints=critical,CA:TRUE\nnameConstraints=critical,{constraints}"),
        );
        made.openssl("x509 -req -in intermediate.csr -days 30 -extfile limits -CA root.crt -CAkey root.key -set_serial 7 -out intermediate.crt");
        made.write("leaf.extensions", "basicConstraints=CA:FALSE");
        made.openssl("x509 -req -in server.csr -days 30 -CA intermediate.crt -CAkey intermediate.key -set_serial 9 -out server.leaf -extfile leaf.extensions");
        made.bundle("server");
        let outcome = made.connect(super::VerifyFull, Some("root.crt"), "db.example");
        assert_eq!(outcome.is_ok(), is_taken, "{constraints}: {outcome:?}");
    }
}
