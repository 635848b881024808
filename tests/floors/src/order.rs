//! The order of crates and modules.

use crate::graph::Graph;
use crate::manifest::Manifest;

/// The crates, those below first. A crate depends on crates of lower floors only.
const CRATES: &[&[&str]] = &[
    &["codec", "reactor", "cluster", "tls", "hba"],
    &["topology", "net"],
    &["health", "routing", "session", "pool"],
    &["telemetry", "discovery"],
    &["control", "auth"],
    &["proxy"],
    &["trunkline"],
];

/// The top modules of a crate, those below first. A module imports from modules of lower floors only. A crate that is not
/// here has no order, but no circle either.
const MODULES: &[(&str, &[&[&str]])] = &[
    (
        "codec",
        &[
            &["limits", "sqlstate", "body", "version"],
            &["ids", "frontend", "scram"],
            &["backend"],
            &["write"],
            &["auth", "refusal"],
            &["scan", "startup"],
        ],
    ),
    ("reactor", &[&["waker_cell"], &["driver"], &["executor"], &["stream", "timer"], &["thread"]]),
    (
        "net",
        &[
            &["limits", "memory"],
            &["listen", "socket_file", "transport"],
            &["connect", "proxy_header", "negotiate"],
        ],
    ),
    (
        "discovery",
        &[
            &["limits", "member", "testing"],
            &["check", "backoff"],
            &["news", "found", "kept", "presence"],
            &["http", "merge", "surroundings"],
            &["sql"],
            &["dns", "kubernetes", "patroni", "standbys", "topology"],
            &["source"],
            &["discovery"],
        ],
    ),
    (
        "hba",
        &[
            &["limits", "kinds"],
            &["files", "problem"],
            &["token"],
            &["lines", "pattern"],
            &["address", "options"],
            &["rule"],
            &["ident"],
            &["rules"],
        ],
    ),
    (
        "pool",
        &[
            &["connection", "key", "limits", "settings"],
            &["counts", "waiter"],
            &["answer", "store"],
            &["pools"],
        ],
    ),
    ("topology", &[&["address", "dialect", "state"], &["snapshot"], &["testing"]]),
    (
        "routing",
        &[
            &["attrs", "candidate", "credit", "floor", "gray"],
            &["zones"],
            &["load"],
            &["eligible"],
            &["balance"],
        ],
    ),
    ("telemetry", &[&["limits", "metrics"], &["sessions", "log_rate"], &["statement_log", "exposition"]]),
    (
        "auth",
        &[
            &["password_command", "random"],
            &["session_passwords", "secrets", "credentials", "failures", "mock", "nonce"],
            &["authenticator"],
        ],
    ),
    ("control", &[&["limits", "contract", "explain", "fleet", "listen", "reload"], &["admin", "http"]]),
    (
        "session",
        &[
            &["limits", "pin", "position"],
            &["driver", "rewritten"],
            &["hints", "names", "pins", "step"],
            &["sql"],
            &["carried"],
            &["settings", "sampling"],
            &["conversation"],
            &["record", "recovery"],
            &["timing"],
            &["session"],
        ],
    ),
    (
        "proxy",
        &[
            &["limits", "settings", "net", "errors", "failure"],
            &[
                "access",
                "admission",
                "cancel",
                "client",
                "defaults",
                "encryption",
                "functions",
                "learned",
                "moves",
                "snapshots",
                "speeds",
            ],
            &["pool"],
            &["context"],
            &["server", "certificates", "fleet", "slow"],
            &["login"],
            &["relay"],
            &["worker", "listening", "aside"],
            &["serve"],
            &["reload"],
        ],
    ),
    ("trunkline", &[&["config", "failure", "terminal"], &["logging"], &["commands"], &["cli"]]),
];

/// What is against the order of the crates.
#[must_use]
pub fn crate_faults(crates: &[Manifest]) -> Vec<String> {
    let mut graph = Graph::default();
    for manifest in crates {
        graph.module(&manifest.name);
        for dependency in &manifest.dependencies {
            graph.arrow(&manifest.name, dependency, "Cargo.toml");
        }
    }
    floor_faults("crates", CRATES, &graph)
}

/// What is against the order of the modules of `name`.
#[must_use]
pub fn module_faults(name: &str, graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    let circle = graph.circle();
    for (from, imports) in graph.arrows().filter(|(from, _)| circle.contains(from)) {
        for to in imports.into_iter().filter(|to| circle.contains(to)) {
            faults.push(format!("{name}: in a circle: {from} -> {to} ({})", graph.place(from, to)));
        }
    }
    if let Some((_, floors)) = MODULES.iter().find(|(of, _)| *of == name) {
        faults.extend(floor_faults(name, floors, graph));
    }
    faults
}

fn floor_faults(name: &str, floors: &[&[&str]], graph: &Graph) -> Vec<String> {
    let floor = |module: &str| floors.iter().position(|floor| floor.contains(&module));
    let mut faults = Vec::new();
    for (from, imports) in graph.arrows() {
        let Some(above) = floor(from) else {
            faults.push(format!("{name}: {from} has no floor in tests/floors/src/order.rs"));
            continue;
        };
        for to in imports {
            if floor(to).is_none_or(|below| below >= above) {
                let place = graph.place(from, to);
                faults.push(format!("{name}: {from} imports from {to}, which is not below it ({place})"));
            }
        }
    }
    for stale in floors.iter().flat_map(|floor| floor.iter()).filter(|module| !graph.has(module)) {
        faults.push(format!("{name}: {stale} has a floor and does not exist"));
    }
    faults
}
