//! Machines of one test's own: namespaces of Linux, joined by a bridge that nobody else sees.
//!
//! A [`TestNetwork`] is a network namespace that the calling thread goes into, with all that it starts from then on. A
//! [`Machine`] has a network namespace and a process namespace: when its first process ends, the kernel ends all others,
//! and that one ends with the pipe it takes its orders from, however the test has ended.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use trunkline_cluster::{ServerAccount, descendants, send_signal};

/// The addresses of a network. They are seen inside it only, so that all networks have the same.
const PREFIX: [u8; 3] = [10, 77, 0];
/// The bridge in the namespace of the test.
const BRIDGE: &str = "bridge";

/// The first process of a machine. It checks that it is one: elsewhere `kill` would reach other processes.
const INIT: &str = r#"
[ $$ = 1 ] || exit 1
ip link set lo up
echo ready
kill_others() {
    while all=(/proc/[0-9]*); [ ${#all[@]} -gt 1 ]; do
        for process in "${all[@]}"; do
            [ "$process" = /proc/1 ] || kill -KILL "${process#/proc/}" 2>/dev/null
        done
        sleep 0.01
    done
}
while read -r order log words; do
    case $order in
        address) ip address add "$log" dev eth0 && ip link set eth0 up ;;
        run) $words >>"$log" 2>&1 </dev/null & ;;
        kill) kill_others ;;
    esac && echo "$order"
done
"#;

/// The network of a test.
#[derive(Debug)]
pub struct TestNetwork(());

/// A machine on it.
#[derive(Debug)]
pub struct Machine {
    number: u8,
    /// `unshare`, whose only child is the machine's first process, `init`.
    child: Child,
    init: i32,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl TestNetwork {
    /// Why there can be none here, or `None`.
    #[must_use]
    pub fn missing() -> Option<&'static str> {
        if !Uid::effective().is_root() {
            return Some("only root makes network namespaces");
        }
        let mut look = Command::new("unshare");
        look.args(["--net", "--pid", "--fork", "--mount-proc", "ip", "link", "set", "lo", "up"]);
        let works = look.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        (!works).then_some("this machine makes no network namespaces, or has no iproute2")
    }

    /// Moves the calling thread to a new network.
    ///
    /// # Panics
    /// When that is refused; see [`TestNetwork::missing`].
    #[must_use]
    pub fn enter() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        ip("link set lo up");
        ip(&format!("link add {BRIDGE} type bridge"));
        ip(&format!("address add {}/24 dev {BRIDGE}", address_of(1)));
        ip(&format!("link set {BRIDGE} up"));
        Self(())
    }

    /// Starts a machine whose address ends with `number`; what goes wrong on it is in `log`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn boot(&self, number: u8, log: &Path) -> Machine {
        let log = File::create(log).expect("the directory takes a file");
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", INIT]);
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("unshare runs");
        let orders = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let pid = i32::try_from(child.id()).expect("process ids fit in i32");
        let mut machine = Machine { number, child, init: 0, orders, answers };
        machine.await_answer("ready");
        machine.init = *descendants(pid).first().expect("it has said that it is ready");
        let cable = machine.cable();
        ip(&format!("link add {cable} type veth peer name eth0 netns {}", machine.init));
        ip(&format!("link set {cable} master {BRIDGE} up"));
        machine.order(&format!("address {}/24", machine.address()));
        machine
    }
}

impl Machine {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        address_of(self.number)
    }

    /// Starts a program on it as the servers' OS user; the words must be without spaces.
    pub fn run(&mut self, account: &ServerAccount, log: &Path, words: &[&str]) {
        let user = match account {
            ServerAccount::Caller => String::new(),
            ServerAccount::Dropped { uid, gid, .. } => {
                format!("setpriv --reuid={uid} --regid={gid} --clear-groups env HOME=/ ")
            }
        };
        self.order(&format!("run {} {user}{}", log.display(), words.join(" ")));
    }

    /// SIGKILL to everything on it; the kernel closes their connections, and the machine stays.
    pub fn kill_all(&mut self) {
        self.order("kill");
    }

    /// Its cable is pulled: nothing comes or goes, and nobody is told.
    pub fn cut(&self) {
        ip(&format!("link set {} down", self.cable()));
    }

    /// Undoes [`Machine::cut`].
    pub fn heal(&self) {
        ip(&format!("link set {} up", self.cable()));
    }

    fn cable(&self) -> String {
        format!("cable{}", self.number)
    }

    fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").expect("the machine runs");
        self.await_answer(line.split(' ').next().expect("an order is a word"));
    }

    fn await_answer(&mut self, wanted: &str) {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the machine's answers are text");
        assert_eq!(answer.trim_end(), wanted, "machine {} did not do as told", self.number);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The kernel ends what is left in its namespace before `unshare` learns of its end.
        send_signal(self.init, Signal::SIGKILL);
        let _reaped = self.child.wait();
    }
}

fn address_of(number: u8) -> Ipv4Addr {
    let [a, b, c] = PREFIX;
    Ipv4Addr::new(a, b, c, number)
}

#[track_caller]
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
