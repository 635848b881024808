//! The modes of listeners, and of users that have one of their own.

use nix::sys::signal::Signal;
use trunkline_cluster::PortLease;

use super::*;

/// Two sessions of one user on one listener, and whether they have taken turns on one server connection.
struct Pair {
    sessions: [Wire; 2],
    who: String,
}

impl Pair {
    fn connect(role: PoolRole, port: u16) -> Self {
        Self { sessions: [(), ()].map(|()| role.connect(port)), who: format!("{} on {port}", role.name) }
    }

    #[track_caller]
    fn shares(&mut self) -> bool {
        let turns = [(); 5].map(|()| {
            let [first, second] = self.sessions.each_mut().map(|session| session.value(WHO));
            first == second
        });
        assert!(turns.iter().all(|turn| *turn == turns[0]), "{}: {turns:?}", self.who);
        turns[0]
    }
}

/// A listener for each of two ports with its mode, and that of the user `of_own_modes`.
fn tables(ports: [u16; 2], modes: [&str; 2], of_user: &str) -> String {
    let listener = |at: usize| {
        format!(
            "[[listener]]\nname = \"mode{at}\"\naddress = \"127.0.0.1:{}\"\npool_mode = \"{}\"\n\
             target_session_attrs = \"read-write\"\n",
            ports[at], modes[at]
        )
    };
    let over = format!("[[pool.override]]\nuser = \"of_own_modes\"\npool_mode = \"{of_user}\"\n");
    [listener(0), listener(1), over].concat()
}

#[test]
fn a_reload_changes_the_modes_of_listeners_and_users_for_new_sessions_alone() {
    let roles = [role("of_modes"), role("of_own_modes")];
    let leases = [(), ()].map(|()| PortLease::take().unwrap());
    let ports = leases.each_ref().map(PortLease::port);
    let builder = transactions(1).toml(&tables(ports, ["transaction", "session"], "session"));
    let mut endpoint = builder.start();
    let all = || ports.map(|port| roles.map(|role| Pair::connect(role, port)));
    let share = |pairs: &mut [[Pair; 2]; 2]| {
        pairs.each_mut().map(|of_port| of_port.each_mut().map(|pair| pair.shares()))
    };
    let (before, after) = ([[true, false], [false, false]], [[false, true], [true, true]]);
    let mut old = all();
    assert_eq!(share(&mut old), before);
    endpoint.replace_toml(&tables(ports, ["session", "transaction"], "transaction"));
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "a new session has the new mode", || Pair::connect(roles[1], ports[0]).shares());
    assert_eq!(share(&mut all()), after);
    assert_eq!(share(&mut old), before, "a session keeps the mode that it began with");
}
