//! `[health]`, checked.

use std::time::Duration;

use trunkline_health::{JudgeSettings, MonitorSettings, PrimaryUnknown};
use trunkline_routing::Fallback;
use trunkline_topology::ServerSpec;

use trunkline_proxy::settings::OnLagging;

use crate::config::raw::{FallbackWord, HealthSection, OnLaggingWord};
use crate::config::{Problem, Problems, units};

/// Shortest tick: below it, probes are load and no knowledge.
const TICK_MIN: Duration = Duration::from_millis(10);

/// How servers are judged.
pub(super) fn judge(health: &HealthSection, problems: &mut Problems) -> JudgeSettings {
    let (max_lag, tick) = (health.max_lag.value, health.tick.value);
    let derived = JudgeSettings::new(max_lag, tick);
    let or_derived = |value: Duration, derived| if value.is_zero() { derived } else { value };
    let settings = JudgeSettings {
        max_lag,
        readmit_lag: or_derived(health.readmit_lag.value, derived.readmit_lag),
        hard_max_lag: or_derived(health.hard_max_lag.value, derived.hard_max_lag),
        tick,
        probe_timeout: health.probe_timeout.value,
        connect_timeout: health.connect_timeout.value,
        connect_check_interval: health.connect_check_interval.value,
        fast_interval: health.fast_interval.value,
        fall: to_u32(health.fall.value),
        rise: to_u32(health.rise.value),
        damping_max: health.damping_max.value,
        slow_start: health.slow_start.value,
        failover_grace: health.failover_grace.value,
        adopt_after: health.adopt_after.value,
        primary_unknown: primary_unknown(health, problems),
    };
    check(health, &settings, problems);
    settings
}

fn check(health: &HealthSection, settings: &JudgeSettings, problems: &mut Problems) {
    let shown = units::show_duration;
    if settings.tick < TICK_MIN {
        let message = format!("must be at least {}", shown(TICK_MIN));
        problems.push(Problem::new(&health.tick.source, "health.tick", message));
    }
    if settings.readmit_lag > settings.max_lag {
        let message =
            format!("{} is above max_lag, {}", shown(settings.readmit_lag), shown(settings.max_lag));
        problems.push(Problem::new(&health.readmit_lag.source, "health.readmit_lag", message).hint(
            "A replica that comes back must be fresher than one that leaves: half of max_lag is the default.",
        ));
    }
    if settings.hard_max_lag < settings.max_lag {
        let message =
            format!("{} is below max_lag, {}", shown(settings.hard_max_lag), shown(settings.max_lag));
        problems.push(Problem::new(&health.hard_max_lag.source, "health.hard_max_lag", message));
    }
    if settings.fast_interval > settings.tick {
        let message =
            format!("{} is longer than tick, {}", shown(settings.fast_interval), shown(settings.tick));
        problems.push(Problem::new(&health.fast_interval.source, "health.fast_interval", message));
    }
}

fn primary_unknown(health: &HealthSection, problems: &mut Problems) -> PrimaryUnknown {
    let text = health.primary_unknown.value.as_deref().unwrap_or("serve").trim();
    let checked = match (text, text.strip_prefix("serve_for:")) {
        (_, Some(duration)) => units::duration(duration).map(PrimaryUnknown::ServeFor),
        ("serve", None) => Ok(PrimaryUnknown::Serve),
        ("drain", None) => Ok(PrimaryUnknown::Drain),
        (_, None) => Err(format!("{text:?} is not valid here")),
    };
    match checked {
        Ok(checked) => checked,
        Err(message) => {
            problems.push(
                Problem::new(&health.primary_unknown.source, "health.primary_unknown", message)
                    .hint("Write \"serve\", \"drain\", or \"serve_for:60s\" with your duration."),
            );
            PrimaryUnknown::Serve
        }
    }
}

/// What the monitor needs.
pub(super) fn monitor_settings(
    servers: Vec<ServerSpec>,
    login: tokio_postgres::Config,
    judge: JudgeSettings,
) -> MonitorSettings {
    MonitorSettings { servers, login, judge }
}

/// Where reads go when no replica is eligible.
pub(super) fn fallback(mode: FallbackWord) -> Fallback {
    match mode {
        FallbackWord::None => Fallback::None,
        FallbackWord::Primary => Fallback::Primary,
        FallbackWord::Lagging => Fallback::Lagging,
        FallbackWord::LaggingThenPrimary => Fallback::LaggingThenPrimary,
    }
}

/// What becomes of the sessions on a replica that lags.
pub(super) fn on_lagging(word: OnLaggingWord) -> OnLagging {
    match word {
        OnLaggingWord::Move => OnLagging::Move,
        OnLaggingWord::Drain => OnLagging::Drain,
        OnLaggingWord::Keep => OnLagging::Keep,
    }
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
