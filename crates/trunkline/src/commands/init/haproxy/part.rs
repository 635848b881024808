//! A `listen`, or a `frontend` with its `backend`: where clients come to, and which servers they get.

use super::sections::{HaLine, HaSection, SectionKind};

/// One way from clients to servers.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) name: String,
    /// The backend's name, where it is another one.
    backend: Option<String>,
    pub(super) mode: HaMode,
    pub(super) binds: Vec<HaBind>,
    pub(super) servers: Vec<HaServer>,
    pub(super) balance: Option<(String, String)>,
    pub(super) purpose: HaPurpose,
    /// The path of HTTP checks.
    pub(super) check_path: Option<String>,
    pub(super) check_user: Option<(String, String)>,
    pub(super) connect_timeout: Option<(String, String)>,
    pub(super) slow_start: Option<(String, String)>,
    pub(super) unequal: Vec<String>,
    pub(super) unseen: Vec<String>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HaMode {
    /// `mode tcp`, also the default.
    #[default]
    Tcp,
    /// `mode http`
    Http,
}

/// What its clients want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HaPurpose {
    /// Nothing says it.
    #[default]
    Unknown,
    /// To write.
    Writes,
    /// To read, from replicas.
    Reads,
    /// Any server that is alive.
    AnyServer,
}

/// An address that HAProxy listens on.
#[derive(Clone, Debug)]
pub(super) struct HaBind {
    pub(super) address: String,
    pub(super) place: String,
}

/// A server as HAProxy has it.
#[derive(Clone, Debug)]
pub(super) struct HaServer {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) weight: u16,
    pub(super) place: String,
    words: Vec<String>,
}

impl HaServer {
    /// Used only when no other can be.
    pub(super) fn is_backup(&self) -> bool {
        self.has("backup")
    }

    /// Out of service.
    pub(super) fn is_disabled(&self) -> bool {
        self.has("disabled")
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }
}

impl Part {
    /// All of a file, in order. A backend that no frontend names has no clients, and is left out.
    pub(super) fn all(sections: &[HaSection]) -> Vec<Part> {
        let mut defaults: &[HaLine] = &[];
        let mut own: Vec<(&HaSection, &[HaLine])> = Vec::new();
        for section in sections {
            match section.kind {
                SectionKind::Defaults => defaults = &section.lines,
                SectionKind::Listen | SectionKind::Frontend | SectionKind::Backend => {
                    own.push((section, defaults))
                }
                SectionKind::Global | SectionKind::Other => {}
            }
        }
        let backend = |name: &str| {
            own.iter().find(|(section, _)| section.kind == SectionKind::Backend && section.name == name)
        };
        own.iter()
            .filter_map(|(section, defaults)| match section.kind {
                SectionKind::Listen => Some(Part::of(section, defaults, None, Vec::new())),
                SectionKind::Frontend => {
                    let uses = |line: &&HaLine| matches!(line.first(), "default_backend" | "use_backend");
                    let named: Vec<&str> =
                        section.lines.iter().filter(uses).map(|line| line.word(1)).collect();
                    let default = section.lines.iter().find(|line| line.first() == "default_backend");
                    let chosen =
                        default.map(|line| line.word(1)).or(named.first().copied()).unwrap_or_default();
                    let others =
                        named.into_iter().filter(|name| *name != chosen).map(str::to_owned).collect();
                    Some(Part::of(section, defaults, backend(chosen).copied(), others))
                }
                SectionKind::Backend | SectionKind::Global | SectionKind::Defaults | SectionKind::Other => {
                    None
                }
            })
            .collect()
    }

    /// `listen pg`, or `frontend a, backend b`.
    pub(super) fn shown(&self) -> String {
        match &self.backend {
            Some(backend) => format!("{:?} (backend {backend:?})", self.name),
            None => format!("{:?}", self.name),
        }
    }

    fn of(
        section: &HaSection,
        defaults: &[HaLine],
        backend: Option<(&HaSection, &[HaLine])>,
        others: Vec<String>,
    ) -> Part {
        let mut part = Part { name: section.name.clone(), ..Part::default() };
        part.backend = backend.map(|(backend, _)| backend.name.clone());
        let of_backend =
            backend.into_iter().flat_map(|(backend, defaults)| defaults.iter().chain(&backend.lines));
        let lines: Vec<&HaLine> = defaults.iter().chain(&section.lines).chain(of_backend).collect();
        let mut server_defaults: Vec<String> = Vec::new();
        for line in &lines {
            part.read(line, &mut server_defaults);
        }
        for other in others {
            part.unequal.push(format!(
                "{}: use_backend {other}: a listener has one rule for its servers; give those clients a listener of their own",
                part.shown()
            ));
        }
        part.purpose = part.purpose();
        part
    }

    fn read(&mut self, line: &HaLine, server_defaults: &mut Vec<String>) {
        let with_place = |word: &str| (word.to_owned(), line.place());
        match line.first() {
            "mode" => self.mode = if line.word(1) == "http" { HaMode::Http } else { HaMode::Tcp },
            "bind" => self.bind(line),
            "server" => self.server(line, server_defaults),
            "server-template" => {
                self.unseen.push(format!("server-template ({}): its addresses come from DNS; write each as a [[server]]", line.place()));
            }
            "default-server" => {
                server_defaults.extend(line.words.iter().skip(1).cloned());
                self.slow_start(line);
            }
            "balance" => {
                self.balance = Some(with_place(line.word(1)));
                let known = matches!(line.word(1), "roundrobin" | "static-rr" | "leastconn") || line.word(1).starts_with("random");
                if !known {
                    self.say(line, "no equal: round-robin, least-outstanding and random-two are the ways to choose a server");
                }
            }
            "option" => self.option(line),
            "http-check" => {
                if let Some(path) = line.after("uri").or(line.after("uri-lf")) {
                    self.check_path = Some(path.to_owned());
                }
            }
            "timeout" if line.word(1) == "connect" => {
                self.connect_timeout = time(line.word(2)).map(|time| (time, line.place()));
            }
            "timeout" if matches!(line.word(1), "client" | "server") => self.say_once(
                line,
                "no equal needed: an idle session costs a proxy nothing here; [timeouts] idle_session ends those that are idle for long",
            ),
            "tcp-check" => self.say_once(
                line,
                "what it sends is not read: the probes ask pg_is_in_recovery() by SQL, and the listener's target_session_attrs says who serves",
            ),
            "stick-table" | "stick" | "tcp-request" | "tcp-response" | "acl" => {
                self.say(line, "no equal: [auth] hba_file says which clients come in; [limits] bounds them");
            }
            "maxconn" | "fullconn" => self.say_once(line, "no equal for one listener: [limits] connections_max is for all"),
            "source" => self.say(line, "no equal: servers see the proxy's address; application_name_add_host names the client"),
            _ => {}
        }
    }

    fn say(&mut self, line: &HaLine, what: &str) {
        self.unequal.push(format!("{} ({}): {what}", line.words.join(" "), line.place()));
    }

    /// Once for all lines of the same first two words.
    fn say_once(&mut self, line: &HaLine, what: &str) {
        if !self.unequal.iter().any(|said| said.ends_with(what)) {
            self.say(line, what);
        }
    }

    fn option(&mut self, line: &HaLine) {
        match line.word(1) {
            "httpchk" => {
                let path = line.words.iter().skip(2).find(|word| word.starts_with('/'));
                self.check_path = Some(path.cloned().unwrap_or_else(|| "/".to_owned()));
            }
            "pgsql-check" => self.check_user = line.after("user").map(|user| (user.to_owned(), line.place())),
            "tcp-check" => self.check_path = None,
            _ => {}
        }
    }

    fn bind(&mut self, line: &HaLine) {
        for word in line.word(1).split(',').filter(|word| !word.is_empty()) {
            match bind_address(word) {
                Some(address) => self.binds.push(HaBind { address, place: line.place() }),
                None => self.unseen.push(format!(
                    "bind {word} ({}): it is no address and port that can be read here; write a [[listener]] for it",
                    line.place()
                )),
            }
        }
        if line.has("accept-proxy") {
            self.say(
                line,
                "set proxy_protocol_from of the listener to the networks of those who send the PROXY header",
            );
        }
        if line.has("ssl") {
            self.say(line, "TLS without PostgreSQL's SSLRequest; [client_tls] cert_file and key_file serve sslmode and sslnegotiation=direct");
        }
    }

    fn slow_start(&mut self, line: &HaLine) {
        if let Some(time) = line.after("slowstart").and_then(time) {
            self.slow_start = Some((time, line.place()));
        }
    }

    fn server(&mut self, line: &HaLine, defaults: &[String]) {
        let Some((host, port)) = place(line.word(2)) else {
            self.unseen.push(format!(
                "server {} {} ({}): its address cannot be read here; write a [[server]] for it",
                line.word(1),
                line.word(2),
                line.place()
            ));
            return;
        };
        self.slow_start(line);
        let words: Vec<String> = defaults.iter().chain(line.words.iter().skip(3)).cloned().collect();
        let weight = words.iter().rposition(|word| word == "weight").and_then(|at| words.get(at + 1));
        let weight = weight.and_then(|weight| weight.parse().ok()).unwrap_or(1);
        if words.iter().any(|word| word.starts_with("send-proxy")) {
            self.unseen.push(format!(
                "server {} ({}): it gets a PROXY header, which PostgreSQL does not read: a proxy is there. Write what is behind it",
                line.word(1),
                line.place()
            ));
        }
        if words.iter().any(|word| word == "ssl") {
            self.say(line, "TLS with servers is [server_tls] sslmode, asked for as libpq does");
        }
        self.servers.push(HaServer {
            name: line.word(1).to_owned(),
            host,
            port,
            weight,
            place: line.place(),
            words,
        });
    }

    /// By the path of the checks, and where that says nothing by the names.
    fn purpose(&self) -> HaPurpose {
        let path = self
            .check_path
            .as_deref()
            .map(|path| path.split('?').next().unwrap_or(path).trim_end_matches('/'));
        match path {
            Some("/primary" | "/master" | "/leader" | "/read-write") => return HaPurpose::Writes,
            Some(
                "/replica" | "/standby" | "/sync" | "/synchronous" | "/async" | "/asynchronous" | "/quorum",
            ) => {
                return HaPurpose::Reads;
            }
            Some("/read-only" | "/health" | "/liveness" | "/readiness") => return HaPurpose::AnyServer,
            _ => {}
        }
        let names =
            format!("{} {}", self.name, self.backend.as_deref().unwrap_or_default()).to_ascii_lowercase();
        let words: Vec<&str> = names.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let has =
            |wanted: &[&str]| words.iter().any(|word| wanted.iter().any(|known| word.starts_with(known)));
        if has(&["primary", "master", "leader", "write", "rw", "readwrite"]) {
            HaPurpose::Writes
        } else if has(&["replica", "read", "ro", "standby", "slave", "follower", "secondar"]) {
            HaPurpose::Reads
        } else {
            HaPurpose::Unknown
        }
    }
}

/// A time of HAProxy's, which is in milliseconds without a unit, as ours.
fn time(word: &str) -> Option<String> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = word.get(digits.len()..)?;
    let number: u64 = digits.parse().ok()?;
    let unit = match unit {
        "" | "ms" => "ms",
        "us" => "us",
        "s" => "s",
        "m" => "m",
        "h" => "h",
        "d" => "d",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// Where a server is: `host:port`, `[v6]:port`, a bare IPv6 address with its port, or a host alone.
fn place(word: &str) -> Option<(String, Option<u16>)> {
    let word = ["ipv4@", "ipv6@", "tcp@"].iter().find_map(|prefix| word.strip_prefix(prefix)).unwrap_or(word);
    if word.is_empty() || word.starts_with('/') || word.contains(['$', '@', '%']) {
        return None;
    }
    let plain = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    match word.rsplit_once(':') {
        None => Some((plain(word), None)),
        Some(_) if word.ends_with(']') => Some((plain(word), None)),
        // "+1000" is relative to the port of the client.
        Some((host, port)) if !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().map(|port| (plain(host), Some(port)))
        }
        Some(_) => None,
    }
}

/// An address of `bind` as ours.
fn bind_address(word: &str) -> Option<String> {
    let bare = word.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let (host, port) = place(bare.map(|port| format!("*:{port}")).as_deref().unwrap_or(word))?;
    let port = port.filter(|port| *port > 0)?;
    match host.as_str() {
        "*" => Some(format!("0.0.0.0:{port}")),
        "::" | ":" => Some(format!("[::]:{port}")),
        "localhost" => Some(format!("127.0.0.1:{port}")),
        host => match host.parse::<std::net::IpAddr>().ok()? {
            std::net::IpAddr::V4(address) => Some(format!("{address}:{port}")),
            std::net::IpAddr::V6(address) => Some(format!("[{address}]:{port}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_their_forms() {
        for (word, ours) in [
            (":5000", Some("0.0.0.0:5000")),
            ("*:5000", Some("0.0.0.0:5000")),
            ("10.0.0.1:1", Some("10.0.0.1:1")),
            (":::5000", Some("[::]:5000")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("ipv4@127.0.0.1:6", Some("127.0.0.1:6")),
            ("*:5000-5010", None),
            ("/run/x.sock", None),
            ("db:5000", None),
            ("$X:5000", None),
            ("", None),
        ] {
            assert_eq!(bind_address(word).as_deref(), ours, "{word}");
        }
        assert_eq!(place("db1:5433"), Some(("db1".to_owned(), Some(5433))));
        assert_eq!(place("db1"), Some(("db1".to_owned(), None)));
        assert_eq!(place("db1:+1000"), None);
        assert_eq!(place("${DB}:5432"), None);
    }

    #[test]
    fn times_have_haproxys_units() {
        assert_eq!(time("500").as_deref(), Some("500ms"));
        assert_eq!(time("5s").as_deref(), Some("5s"));
        for wrong in ["", "s", "5w", "5µs"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
