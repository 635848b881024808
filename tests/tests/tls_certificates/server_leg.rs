//! PostgreSQL presents a certificate: Trunkline says of it by each `sslmode` what psql says.

use trunkline_tests::{Endpoint, Wiretap, cluster_changed, pg18};

use crate::kinds::{Kind, Verdict, kinds};
use crate::made::Made;
use crate::{Judged, Judges, await_presented, machines, present, probed};

/// Each mode of [`Judged`] has a port of its own, as a server is known by its address.
fn endpoint(made: &Made, kind: &Kind, ports: &[(Judged, Wiretap)]) -> Endpoint {
    let mut tables = String::new();
    for (judged, wiretap) in ports {
        let (sslmode, roots) = judged.settings();
        let name = judged.name();
        let address = format!("{}:{}", kind.host, wiretap.port());
        tables.push_str(&format!(
            "[[server]]\nname = {name:?}\naddress = {address:?}\nsslmode = {sslmode:?}\n"
        ));
        if roots {
            tables.push_str(&format!("sslrootcert = {:?}\n", made.path(kind.roots)));
        }
        if roots && !kind.list.is_empty() {
            tables.push_str(&format!("sslcrl = {:?}\n", made.path(kind.list)));
        }
    }
    Endpoint::over_none().toml(&tables).start()
}

#[test]
fn servers_are_judged_as_libpq_judges_them() {
    let kinds = kinds();
    let made = Made::shared();
    let server = cluster_changed(machines(), |spec| {
        spec.settings.extend(Judges::server_settings(made, &kinds[0]));
        let (name, value) = made.level_0();
        spec.environment.push((name.to_owned(), value));
    });
    let port = server.primary.port();
    let ports: Vec<_> = Judged::ALL.map(|judged| (judged, Wiretap::before(port))).into();
    let libpqs = [machines(), pg18()];
    for kind in &kinds {
        present(&server.primary, made, kind);
        await_presented(port, made, kind);
        let endpoint = endpoint(made, kind, &ports);
        for judged in Judged::ALL {
            let expected = judged.expected(kind.verdict);
            for libpq in libpqs.iter().filter(|libpq| judged.is_asked_of(libpq)) {
                let direct = Judges::libpq(libpq, port, made, kind, judged);
                assert_eq!(direct.is_ok(), expected.is_none(), "{libpq:?} {judged:?} {kind:?}: {direct:?}");
            }
            let ours = probed(&endpoint, judged.name());
            let why = match kind.verdict {
                Verdict::NotSpoken(_) => Some("no cipher or kind of key that both ends know"),
                Verdict::KeyTooShort(why) => Some(why),
                Verdict::Taken | Verdict::ForOtherHost | Verdict::Refused(_) => expected,
            };
            match why {
                None => assert_eq!(ours, Ok(()), "{judged:?} {kind:?}"),
                Some(why) => {
                    assert!(
                        ours.as_ref().is_err_and(|said| said.contains(why)),
                        "{judged:?} {kind:?}: {ours:?}"
                    );
                }
            }
        }
    }
}
