//! What holds of every file, however broken; the fuzz targets and the tests run these.
#![expect(unreachable_pub, reason = "public for the fuzz targets, which share this file")]

use std::io::{self, ErrorKind};

use trunkline_hba::limits::PROBLEMS_MAX;
use trunkline_hba::{AccessFiles, FileProblems, HbaClient, HbaRules, IdentMaps};

/// One text, and parts of it behind every name: what is included, and what is behind `@`.
struct Parts<'p>(&'p [u8]);

impl AccessFiles for Parts<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        if path.ends_with('!') {
            return Err(ErrorKind::NotFound.into());
        }
        let of = self.0.len();
        Ok(self.0[(path.len() * 7) % (of + 1)..].to_vec())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        Ok(vec![format!("{}.conf", directory.len()), ".hidden.conf".to_owned(), "other".to_owned()])
    }
}

/// The main file of all.
const MAIN: &str = "";

/// Refused with reasons, each of which names a line or the file; not more than are told.
fn explained(problems: &FileProblems) {
    assert!(!problems.problems.is_empty(), "refused without saying why");
    assert!(problems.problems.len() <= PROBLEMS_MAX);
    for problem in &problems.problems {
        assert!(!problem.message.is_empty() && problem.place.as_ref().is_none_or(|place| place.line > 0));
    }
}

/// A file of rules is read or explained, and rules decide about every client alike each time.
pub fn hba_file(text: &[u8]) {
    let maps = IdentMaps::load(&Parts(b"m a b\n"), MAIN).unwrap_or_default();
    let rules = match HbaRules::load(&Parts(text), MAIN, &maps) {
        Ok(rules) => rules,
        Err(problems) => return explained(&problems),
    };
    let name = &text[..text.len().min(63)];
    let addresses = ["192.0.2.1", "2001:db8::1", "::ffff:10.0.0.1"].map(|address| address.parse().ok());
    for address in addresses.into_iter().chain([None]) {
        for (is_encrypted, database) in [(false, Some(name)), (true, Some(&b"all"[..])), (false, None)] {
            let client = HbaClient { address, is_encrypted, user: name, database };
            let found = rules.find(&client, Vec::new).map(|rule| rule.place().clone());
            assert_eq!(rules.find(&client, Vec::new).map(|rule| rule.place().clone()), found);
            if address.is_none() {
                let rule = rules.find(&client, Vec::new);
                assert!(rule.is_none_or(|rule| !rule.needs_tls()), "a Unix socket has no TLS");
            }
        }
    }
}

/// A file of maps is read or explained, and a name that no map has allows nobody.
pub fn ident_file(text: &[u8]) {
    let maps = match IdentMaps::load(&Parts(text), MAIN) {
        Ok(maps) => maps,
        Err(problems) => return explained(&problems),
    };
    let name = &text[..text.len().min(63)];
    for map in ["m", "a", "\0"] {
        let allows = maps.allows(Some(map), name, b"app");
        assert!(maps.has(map) || !allows, "{map}");
    }
    assert!(maps.allows(None, name, name));
}
