//! What a startup packet asks the proxy for.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use trunkline_codec::limits::NAME_BYTES_MAX;
use trunkline_codec::startup::{CommonParameters, Replication, StartupMessage};
use trunkline_routing::TargetSessionAttrs;
use trunkline_session::{Hints, InvalidHint};
use trunkline_topology::ServerId;

use crate::context::{BoundListener, Worker};
use crate::errors::Refusal;
use crate::server::take::{ServerCriteria, UnitLeg};
use crate::settings::Retry;
use crate::snapshots::ClientGroup;
use trunkline_telemetry::sessions::SessionNames;

/// Startup option: the session uses only the server of this name.
const SERVER_OPTION: &str = "trunkline.server";

/// Startup option: report each request's timing in a notice.
const TIMING_OPTION: &str = "trunkline.timing";

/// Startup option: whether a request may be sent again to another server.
const RETRY_OPTION: &str = "trunkline.retry";

/// What the names of the proxy's options begin with. Others of such a name are refused, because servers would accept
/// them as custom settings.
const OPTION_PREFIX: &[u8] = b"trunkline.";

/// The options that there are, for who wrote another.
const OPTIONS_HINT: &str = "The proxy's options are trunkline.server, trunkline.timing, trunkline.retry, trunkline.route, trunkline.read_your_writes, trunkline.min_lsn, trunkline.max_staleness and trunkline.report_lsn.";

/// A startup packet, parsed. Names are truncated as the server truncates them.
#[derive(Clone, Debug)]
pub(crate) struct StartupRequest {
    pub(crate) user: Box<[u8]>,
    pub(crate) database: Box<[u8]>,
    /// The same two, as they are shown in logs and listings, and the listener's.
    pub(crate) names: Arc<SessionNames>,
    pub(crate) criteria: ServerCriteria,
    /// The server that is tried first.
    pub(crate) first: Option<ServerId>,
    pub(crate) replication: Replication,
    pub(crate) reports_timing: bool,
    pub(crate) retry: Retry,
    /// What it says of where its reads go.
    pub(crate) hints: Hints,
    pub(crate) group: ClientGroup,
    are_names_in_utf8: bool,
}

impl StartupRequest {
    /// # Errors
    /// For a packet that PostgreSQL would refuse before authentication, or an option that the proxy does
    /// not accept.
    pub(crate) fn read(
        worker: &Worker,
        listener: &Arc<BoundListener>,
        client: IpAddr,
        startup: &StartupMessage,
    ) -> Result<Self, Refusal> {
        let CommonParameters { user, database, application_name, replication } = startup.common();
        if user.is_empty() {
            return Err(Refusal::NoUser);
        }
        let replication = replication.map_err(|_| Refusal::BadOption {
            name: "replication",
            must_be: "a Boolean value or \"database\"",
        })?;
        let options = ProxyOptions::of(startup)?;
        let only = match options.server {
            None => None,
            Some(name) => Some(server_named(worker, &name)?),
        };
        let attrs = listener.settings.options.target_session_attrs;
        let attrs = if replication == Replication::No { attrs } else { attrs_of_replication(attrs, only) };
        let reports_timing = match options.timing {
            None => false,
            Some(value) => is_true(TIMING_OPTION, &value)?,
        };
        let retry = match options.retry {
            None => listener.settings.options.retry,
            Some(value) if is_true(RETRY_OPTION, &value)? => Retry::On,
            Some(_off) => Retry::Off,
        };
        let group = ClientGroup::of(client, user, application_name);
        let first = worker.shared.snapshots.server_for(group);
        Ok(StartupRequest {
            user: user.into(),
            database: database.into(),
            names: shared_names(worker, listener, [user, database]),
            criteria: ServerCriteria { listener: Arc::clone(listener), attrs, only, leg: UnitLeg::Any },
            first,
            replication,
            reports_timing,
            retry,
            hints: options.hints,
            group,
            are_names_in_utf8: [user, database].iter().all(|name| std::str::from_utf8(name).is_ok()),
        })
    }

    /// Whether the names of user and database are valid UTF-8. The default settings for other names cannot be
    /// read, so their sessions stay on their server.
    pub(super) fn is_in_utf8(&self) -> bool {
        self.are_names_in_utf8
    }

    /// Whether a replication connection is asked for.
    pub(super) fn is_replication(&self) -> bool {
        self.replication != Replication::No
    }
}

/// The names for logs and listings, which sessions of this thread have in common.
fn shared_names(worker: &Worker, listener: &BoundListener, names: [&[u8]; 2]) -> Arc<SessionNames> {
    let [user, database] = names.map(|name| plain(name).map_or_else(|| shown(name).into(), Cow::from));
    worker.names.borrow_mut().share([&user, &database, &listener.settings.name])
}

/// A name that is shown as it is.
fn plain(name: &[u8]) -> Option<&str> {
    let is_printable = |plain: &&str| match plain.is_ascii() {
        true => !plain.bytes().any(|byte| byte.is_ascii_control()),
        false => !plain.chars().any(char::is_control),
    };
    std::str::from_utf8(name).ok().filter(is_printable)
}

/// A name for logs and listings; control characters and bytes that are not valid UTF-8 are escaped.
pub(super) fn shown(name: &[u8]) -> String {
    if let Some(plain) = plain(name) {
        return plain.to_owned();
    }
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() {
                true => text.extend(character.escape_default()),
                false => text.push(character),
            }
        }
        text.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    text
}

/// The proxy's own options, as startup parameters or within `options`.
#[derive(Debug, Default, PartialEq, Eq)]
struct ProxyOptions {
    server: Option<Vec<u8>>,
    timing: Option<Vec<u8>>,
    retry: Option<Vec<u8>>,
    hints: Hints,
}

impl ProxyOptions {
    /// The last of each counts, and a parameter more than one within `options`.
    /// Source: PostgreSQL 18, src/backend/utils/init/postinit.c, `process_startup_options`.
    fn of(startup: &StartupMessage) -> Result<Self, Refusal> {
        let mut own = ProxyOptions::default();
        for setting in startup.options() {
            own.put(&setting.name, &setting.value)?;
        }
        for (name, value) in startup.parameters() {
            own.put(name, value)?;
        }
        Ok(own)
    }

    /// Takes what is the proxy's. Case does not matter in names.
    /// Source: PostgreSQL 18, src/backend/utils/misc/guc.c, `guc_name_compare`.
    fn put(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let prefix = name.get(..OPTION_PREFIX.len());
        if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(OPTION_PREFIX)) {
            return Ok(());
        }
        if Hints::names().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            let bad = |InvalidHint { name, must_be, .. }| Refusal::BadOption { name, must_be };
            return self.hints.put(name, value).map_err(bad);
        }
        let known = [
            (SERVER_OPTION, &mut self.server),
            (TIMING_OPTION, &mut self.timing),
            (RETRY_OPTION, &mut self.retry),
        ];
        match known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())) {
            Some((_, place)) => *place = Some(value.to_vec()),
            // Nobody has authenticated yet: what is logged is not to be as long as the client likes.
            None => {
                let name = shown(&name[..name.len().min(NAME_BYTES_MAX)]);
                return Err(Refusal::UnknownOption { name, hint: OPTIONS_HINT });
            }
        }
        Ok(())
    }
}

fn server_named(worker: &Worker, name: &[u8]) -> Result<ServerId, Refusal> {
    let snapshot = worker.shared.health.load();
    let server = snapshot.servers.iter().find(|server| server.name.as_bytes() == name);
    server
        .map(|server| server.id)
        .ok_or(Refusal::BadOption { name: SERVER_OPTION, must_be: "the name of a server" })
}

/// The attributes for a replication connection. On a listener for reads it goes to a standby, never to the primary: not in
/// the standbys' place, and not by its name. On others it goes to the primary unless the client names a server.
fn attrs_of_replication(listener: TargetSessionAttrs, only: Option<ServerId>) -> TargetSessionAttrs {
    match listener {
        TargetSessionAttrs::ReadOnly | TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => {
            TargetSessionAttrs::Standby
        }
        TargetSessionAttrs::Any | TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => match only {
            None => TargetSessionAttrs::Primary,
            Some(_) => TargetSessionAttrs::Any,
        },
    }
}

fn is_true(name: &'static str, value: &[u8]) -> Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_slice() {
        b"on" | b"true" | b"yes" | b"1" => Ok(true),
        b"off" | b"false" | b"no" | b"0" => Ok(false),
        _ => Err(Refusal::BadOption { name, must_be: "a Boolean value" }),
    }
}

#[cfg(test)]
mod tests {
    use trunkline_session::RouteHint;

    use super::*;

    #[test]
    fn a_name_that_is_not_in_utf8_is_shown_as_no_other() {
        assert_eq!(shown("f\u{fc}r".as_bytes()), "f\u{fc}r");
        assert_eq!(shown(b"adm\xff"), "adm\\xff");
        assert_eq!(shown(b"adm\xfe"), "adm\\xfe");
    }

    #[test]
    fn replication_on_a_listener_for_reads_never_goes_to_the_primary() {
        use TargetSessionAttrs as Attrs;
        for only in [None, Some(ServerId(0))] {
            for reads in [Attrs::PreferStandby, Attrs::Standby, Attrs::ReadOnly] {
                assert_eq!(attrs_of_replication(reads, only), Attrs::Standby, "{reads}");
            }
        }
        for others in [Attrs::Any, Attrs::ReadWrite, Attrs::Primary] {
            assert_eq!(attrs_of_replication(others, None), Attrs::Primary, "{others}");
            assert_eq!(attrs_of_replication(others, Some(ServerId(0))), Attrs::Any, "{others}");
        }
    }

    fn options(parameters: &[(&[u8], &[u8])]) -> Result<ProxyOptions, Refusal> {
        let version = trunkline_codec::startup::ProtocolVersion { major: 3, minor: 0 };
        let user = [(&b"user"[..], &b"u"[..])];
        let parameters = user.iter().chain(parameters).copied();
        ProxyOptions::of(&StartupMessage::new(version, parameters).expect("well-formed"))
    }

    #[test]
    fn own_options_are_found_in_any_case_and_the_parameter_wins() {
        let given = options(&[
            (b"trunkline.retry", b"off"),
            (b"options", b"-c trunkline.retry=on --Trunkline.Server=one -c trunkline.server=two"),
            (b"trunk.line", b"of others"),
        ]);
        let (server, retry) = (Some(b"two".into()), Some(b"off".into()));
        let expected = ProxyOptions { server, retry, ..ProxyOptions::default() };
        assert_eq!(given, Ok(expected));
    }

    #[test]
    fn an_option_that_looks_like_ours_and_is_not_is_refused_with_those_that_are() {
        for given in [
            options(&[(b"trunkline.retri", b"on")]),
            options(&[(b"TRUNKLINE.", b"")]),
            options(&[(b"options", b"-c work_mem=1MB -c trunkline.retri=on")]),
        ] {
            let refusal = given.expect_err("there is none of this name").to_string();
            assert!(refusal.starts_with("unrecognized configuration parameter \""), "{refusal}");
            assert!(refusal.ends_with("(42704)"), "{refusal}");
        }
        for option in [SERVER_OPTION, TIMING_OPTION, RETRY_OPTION].into_iter().chain(Hints::names()) {
            assert!(OPTIONS_HINT.contains(option), "{option}");
        }
    }

    #[test]
    fn where_reads_go_is_an_option_with_a_value_that_is_checked() {
        let route = |parameters: &[(&[u8], &[u8])]| options(parameters).map(|options| options.hints.route);
        let in_options = (&b"options"[..], &b"-c Trunkline.Route=standby"[..]);
        let parameter = (&b"trunkline.route"[..], &b"primary"[..]);
        assert_eq!(route(&[in_options]), Ok(Some(RouteHint::Standby)));
        assert_eq!(route(&[in_options, parameter]), Ok(Some(RouteHint::Primary)));
        let refusal = route(&[(b"trunkline.route", b"replica")]).expect_err("it is none of the three");
        let told =
            "invalid value for parameter \"trunkline.route\" (22023): It must be auto, primary or standby.";
        assert_eq!(refusal.to_string(), told);
    }

    #[test]
    fn an_unknown_option_is_shown_no_longer_than_a_name() {
        let name = [&b"trunkline."[..], &[1; 9000]].concat();
        let refusal =
            options(&[(name.as_slice(), &b"on"[..])]).expect_err("there is none of this name").to_string();
        assert!(refusal.len() < 500, "{} bytes", refusal.len());
    }

    #[test]
    fn a_name_with_control_characters_is_shown_on_one_line() {
        assert_eq!(shown(b"app\nERROR\x1b[2J"), "app\\nERROR\\u{1b}[2J");
    }
}
