//! Patroni's REST API as a source: `GET /cluster`.
//!
//! Source: Patroni's documentation, "Patroni REST API", "Monitoring endpoint".

use std::path::Path;

use serde_json::Value;
use trunkline_discovery::http::{HttpClient, HttpScheme, HttpSettings, HttpTls, HttpUrl};
use trunkline_discovery::patroni::URLS_MAX;

use super::draft::{Draft, DraftDiscovery, DraftServer, RoleFound};
use crate::Failure;
use crate::commands::fetch::{TIMEOUT, block_on};

/// Patroni's port where the URL has none.
const DEFAULT_PORT: u16 = 8008;

const HINT: &str =
    "Name the REST API of any member, such as patroni:http://10.0.0.11:8008 ([restapi] connect_address).";

const HTTPS_HINT: &str = "Name who vouches for its certificate with --ca-file FILE ([restapi] cafile), and the host as the certificate does.";

/// What the source means.
const NOTE: &str = "Patroni says all the time who is there, and members come and go without a reload: docs/patroni.md. One URL \
    that answers is enough; the others are what the members call their own, so look whether the proxy reaches them.";

/// Asks Patroni who is there. `ca_file` vouches for an API of https.
pub(super) fn draft(url: &str, ca_file: Option<&Path>) -> Result<Draft, Failure> {
    let base = api_url(url)?;
    let settings = http_settings(&base, ca_file)?;
    let ask = async {
        let answer = HttpClient::new(settings).get(&base, "/cluster", TIMEOUT).await;
        answer.map_err(std::io::Error::other)
    };
    let body = block_on(TIMEOUT, ask).map_err(|error| {
        let hint = match base.scheme() {
            HttpScheme::Http => HINT,
            HttpScheme::Https => HTTPS_HINT,
        };
        Failure::new(format!("could not ask Patroni at {base}: {error}")).hint(hint)
    })?;
    of_answer(&base, ca_file, &String::from_utf8_lossy(&body))
}

/// How that API is spoken to.
pub(in crate::commands) fn http_settings(
    url: &HttpUrl,
    ca_file: Option<&Path>,
) -> Result<HttpSettings, Failure> {
    if ca_file.is_some() && url.scheme() == HttpScheme::Http {
        return Err(Failure::usage(format!("a CA has nothing to vouch for at {url}: it is no URL of https"))
            .hint(format!("Write https://{}:{}.", url.host(), url.port())));
    }
    let ca_file = ca_file.map(|file| file.display().to_string());
    Ok(HttpSettings { tls: HttpTls { ca_file, ..HttpTls::default() }, ..HttpSettings::default() })
}

/// The API that was named, perhaps without a scheme or a port.
pub(in crate::commands) fn api_url(url: &str) -> Result<HttpUrl, Failure> {
    let url = url.trim();
    let (scheme, place) = url.split_once("://").unwrap_or(("http", url));
    let place = place.split('/').next().unwrap_or_default();
    if place.contains('@') {
        return Err(Failure::usage("a user in the URL is not needed: GET /cluster asks for none")
            .hint("Write patroni:http://host:8008."));
    }
    if place.is_empty() {
        return Err(Failure::usage("patroni: without a URL").hint(HINT));
    }
    let has_port =
        place.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && !port.ends_with(']'));
    let port = if has_port { String::new() } else { format!(":{DEFAULT_PORT}") };
    format!("{scheme}://{place}{port}").parse().map_err(|error| Failure::usage(format!("{error}")).hint(HINT))
}

fn of_answer(base: &HttpUrl, ca_file: Option<&Path>, body: &str) -> Result<Draft, Failure> {
    let wrong =
        |what: &str| Failure::new(format!("what answers at {base} is not Patroni: {what}")).hint(HINT);
    let answer: Value = serde_json::from_str(body).map_err(|error| wrong(&error.to_string()))?;
    let members = answer["members"].as_array().ok_or_else(|| wrong("no list of members in GET /cluster"))?;
    let mut draft = Draft::of(format!("Patroni at {base}"));
    if let Some(scope) = answer["scope"].as_str() {
        draft.found.push(format!("the Patroni cluster {scope:?} of {} members", members.len()));
    }
    let mut source = DraftDiscovery { note: NOTE.to_owned(), ..DraftDiscovery::default() };
    for member in members {
        let name = member["name"].as_str().unwrap_or_default();
        let place =
            member["host"].as_str().zip(member["port"].as_u64().and_then(|port| u16::try_from(port).ok()));
        let (Some((host, port)), false) = (place, name.is_empty()) else {
            draft.unseen.push(format!("the member {name:?} has no host and port yet: it is left out"));
            continue;
        };
        put_member(&mut draft, &mut source, member, name, (host, port));
    }
    draft.found.push(
        "roles are measured, never taken from here: after a switchover Trunkline follows the primary by its own probes"
            .to_owned(),
    );
    source.keys = vec![("kind", "patroni".into()), ("urls", urls(&mut draft, base, members).into())];
    source.keys.extend(ca_file.map(|file| ("ca_file", file.display().to_string().into())));
    draft.discovery = Some(source);
    draft.unseen.push("version, TLS and the monitoring role: Patroni does not say".to_owned());
    if let Some(pause) = answer["pause"].as_bool().filter(|pause| *pause) {
        draft.found.push(format!("Patroni is paused ({pause}): it does no failover"));
    }
    draft.usual_listeners();
    draft.role = RoleFound::NotAsked;
    draft.to_do.push(
        "where Patroni runs on this machine, too, give [http] listen another port than Patroni's 8008, such as 127.0.0.1:8018"
            .to_owned(),
    );
    Ok(draft)
}

/// The APIs of all members that speak as the one that was asked, which is the first.
fn urls(draft: &mut Draft, base: &HttpUrl, members: &[Value]) -> Vec<String> {
    let mut urls = vec![base.to_string()];
    for member in members {
        let Some(api) = member["api_url"].as_str() else { continue };
        let origin = match api.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{}", rest.split('/').next().unwrap_or_default()),
            None => api.to_owned(),
        };
        let name = member["name"].as_str().unwrap_or_default();
        let Ok(parsed) = origin.parse::<HttpUrl>() else {
            draft
                .unseen
                .push(format!("the member {name:?} names no URL of its API that could be asked: {api:?}"));
            continue;
        };
        if parsed.scheme() != base.scheme() {
            let also = if parsed.scheme() == HttpScheme::Https { ", and set `ca_file`" } else { "" };
            let unlike =
                format!("the API of {name:?} is not spoken to as {base} is: add {origin} to `urls`{also}");
            draft.unseen.push(unlike);
        } else if !urls.contains(&origin) && urls.len() < URLS_MAX {
            urls.push(origin);
        }
    }
    urls
}

fn put_member(
    draft: &mut Draft,
    source: &mut DraftDiscovery,
    member: &Value,
    name: &str,
    (host, port): (&str, u16),
) {
    let role = member["role"].as_str().unwrap_or("unknown");
    let state = member["state"].as_str().unwrap_or("unknown");
    let mut note = format!("Patroni: {role}, {state}");
    if let Some(timeline) = member["timeline"].as_u64() {
        note.push_str(&format!(", timeline {timeline}"));
    }
    if matches!(role, "leader" | "master" | "primary") {
        draft.primary = Some((host.to_owned(), port));
    }
    let tag = |tag: &str| member["tags"][tag].as_bool() == Some(true);
    let mut server = DraftServer {
        name: Some(name.to_owned()),
        host: host.to_owned(),
        port: Some(port),
        ..DraftServer::default()
    };
    if tag("noloadbalance") {
        note.push_str(", tag noloadbalance: weight 0");
        server.weight = Some(0);
    }
    server.note = note + ".";
    draft.member(source, server);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::init::testing::valid;

    const CLUSTER: &str = r#"{"members": [
        {"name": "pg1", "role": "leader", "state": "running", "api_url": "http://10.0.0.1:8008/patroni",
         "host": "10.0.0.1", "port": 5432, "timeline": 3},
        {"name": "pg2", "role": "replica", "state": "streaming", "host": "10.0.0.2", "port": 5432, "timeline": 3,
         "tags": {"noloadbalance": true}, "lag": 0},
        {"name": "pg3\n[[server]]", "role": "replica", "state": "creating replica"}],
        "scope": "demo\n[auth]"}"#;

    fn url(text: &str) -> HttpUrl {
        text.parse().expect("a URL")
    }

    #[test]
    fn each_member_with_a_place_is_a_server() {
        let draft = of_answer(&url("http://x:8008"), None, CLUSTER).expect("it is Patroni's");
        let source = draft.discovery.as_ref().expect("it is one that is asked");
        let places: Vec<_> =
            source.members.iter().map(|server| (server.host.as_str(), server.weight)).collect();
        assert_eq!(places, [("10.0.0.1", None), ("10.0.0.2", Some(0))]);
        assert_eq!(draft.primary, Some(("10.0.0.1".to_owned(), 5432)));
        assert!(draft.unseen[0].contains("has no host and port yet"), "{:?}", draft.unseen);
        let text = valid(&draft);
        assert!(
            text.contains("# Patroni: leader, running, timeline 3.\n# [[server]]\n# name = \"pg1\""),
            "{text}"
        );
        let written = "[[discovery.source]]\nkind = \"patroni\"\nurls = [\"http://x:8008\", \"http://10.0.0.1:8008\"]\n";
        assert!(text.contains(written), "{text}");
        assert!(!text.contains("\n[[server]]"), "{text}");
        assert_eq!(text.matches("\n[auth]\n").count(), 1, "{text}");
    }

    #[test]
    fn what_is_written_as_comment_is_a_configuration_without_the_source() {
        let draft = of_answer(&url("http://x:8008"), None, CLUSTER).expect("it is Patroni's");
        let source = draft.discovery.clone().expect("it is one that is asked");
        let text = valid(&Draft { servers: source.members, discovery: None, ..draft });
        assert!(
            text.contains("\n[[server]]\nname = \"pg2\"\naddress = \"10.0.0.2:5432\"\nweight = 0\n"),
            "{text}"
        );
    }

    #[test]
    fn apis_that_cannot_be_asked_here_are_told() {
        let members = r#"[{"name": "a", "api_url": "https://10.0.0.1:8008/patroni"}, {"name": "b", "api_url": "http://"},
            {"name": "c", "api_url": "http://10.0.0.3:8008/patroni"}, {"name": "d", "api_url": "http://10.0.0.3:8008/x"}]"#;
        let members: Vec<Value> = serde_json::from_str(members).expect("JSON");
        let mut draft = Draft::default();
        assert_eq!(
            urls(&mut draft, &url("http://x:8008"), &members),
            ["http://x:8008", "http://10.0.0.3:8008"]
        );
        assert!(draft.unseen[0].contains("add https://10.0.0.1:8008 to `urls`"), "{:?}", draft.unseen);
        assert!(draft.unseen[1].contains("the member \"b\" names no URL"), "{:?}", draft.unseen);
        assert_eq!(draft.unseen.len(), 2);
        let own = urls(&mut Draft::default(), &url("https://x:8008"), &members);
        assert_eq!(own, ["https://x:8008", "https://10.0.0.1:8008"]);
    }

    #[test]
    fn what_is_not_patroni_is_said_to_be_none() {
        for body in ["", "[]", "{\"members\": 1}"] {
            let error = of_answer(&url("http://x:8008"), None, body).expect_err("it is none").to_string();
            assert!(error.contains("what answers at http://x:8008 is not Patroni"), "{error}");
        }
    }

    #[test]
    fn who_vouches_for_the_api_is_written_for_the_source() {
        let base = url("https://x:8008");
        let draft =
            of_answer(&base, Some(Path::new("/etc/patroni/ca.crt")), CLUSTER).expect("it is Patroni's");
        assert!(valid(&draft).contains("ca_file = \"/etc/patroni/ca.crt\"\n"));
        assert!(
            http_settings(&url("http://x:8008"), Some(Path::new("ca.crt"))).is_err(),
            "nothing to vouch for"
        );
    }

    #[test]
    fn a_url_may_lack_scheme_and_port() {
        let of = |text: &str| api_url(text).expect("valid").to_string();
        assert_eq!(of("h"), "http://h:8008");
        assert_eq!(of("http://[::1]:9/cluster"), "http://[::1]:9");
        assert_eq!(of("http://[::1]"), "http://[::1]:8008");
        assert_eq!(of("https://h"), "https://h:8008");
        for wrong in ["ftp://h", "", "http://u:p@h", "http://h:x"] {
            assert!(api_url(wrong).is_err(), "{wrong}");
        }
    }
}
