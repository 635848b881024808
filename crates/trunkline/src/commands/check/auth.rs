//! Who would authenticate clients, by what the servers say.

use trunkline_health::judge::RoleFacts;
use trunkline_proxy::settings::Settings;
use trunkline_proxy::{ChosenMode, SettledAuth};

use super::connect::ServerAnswer;

/// A few lines: who, why, and what would make more sessions movable. The primary is believed first, as the proxy does.
pub(super) fn becomes(answers: &[ServerAnswer], settings: &Settings) -> String {
    let is_primary = |answer: &&ServerAnswer| matches!(&answer.asked, Ok(said) if matches!(said.facts.role, RoleFacts::Primary(_)));
    let of_answer = |answer: &ServerAnswer| {
        let secrets = answer.asked.as_ref().ok()?.secrets.as_ref()?;
        let otherwise = ChosenMode::without_secrets(settings);
        SettledAuth::by(secrets.as_ref().map(drop), &settings.auth.source, otherwise)
    };
    let by_primary = || answers.iter().filter(is_primary).find_map(of_answer);
    let settled = SettledAuth::unasked(settings).or_else(by_primary);
    match settled.or_else(|| answers.iter().find_map(of_answer)) {
        Some(settled) => shown(&settled),
        None => "auth      auto: no server says whether stored secrets can be read, and logins would wait until one does\n"
            .to_owned(),
    }
}

fn shown(settled: &SettledAuth) -> String {
    let (mode, why, consequence) = (settled.mode.word(), settled.why(), settled.mode.consequence());
    let hint = settled.hint().map(|hint| format!("          {hint}\n")).unwrap_or_default();
    format!("auth      {mode}, {why}\n          {consequence}\n{hint}")
}
