//! `[health]`, checked.

use std::time::Duration;

use trunkline_health::{JudgeSettings, PrimaryUnknown};

use crate::config::raw::{HealthSection, RawConfig};
use crate::config::{Problem, Problems, units};

/// Shortest tick: below it, probes are load and no knowledge.
const TICK_MIN: Duration = Duration::from_millis(10);

/// How servers are judged.
pub(super) fn judge(raw: &RawConfig, problems: &mut Problems) -> JudgeSettings {
    let (health, written) = (&raw.health, &raw.proxy.health.judge);
    let derived = JudgeSettings::new(written.max_lag, health.tick.value);
    let or_derived = |value: Duration, derived| if value.is_zero() { derived } else { value };
    let settings = JudgeSettings {
        tick: health.tick.value,
        fast_interval: health.fast_interval.value,
        readmit_lag: or_derived(health.readmit_lag.value, derived.readmit_lag),
        hard_max_lag: or_derived(health.hard_max_lag.value, derived.hard_max_lag),
        primary_unknown: primary_unknown(health, problems),
        ..written.clone()
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
