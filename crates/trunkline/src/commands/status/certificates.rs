//! The certificates as reported by `/cluster`.

use serde_json::Value;

/// Below so many days, a certificate is a warning. Who renews them by a program does so long before.
const EXPIRES_SOON_DAYS: i64 = 7;

const DAY: i64 = 24 * 60 * 60;

/// From so many days on, a year says more than they do.
const FAR_DAYS: i64 = 36_525;

/// The time of a certificate that has no end: 99991231235959Z.
/// Source: RFC 5280, section 4.1.2.5.
const NO_EXPIRY: i64 = 253_402_300_799;

/// Warnings: what is in a file and not in force, and what expires soon.
pub(super) fn notes(cluster: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    for (certificate, name) in each(cluster) {
        if let Some(problem) = certificate["problem"].as_str() {
            notes.push(format!("TLS of {name}s: not in force, what was before still is: {}", problem));
        }
        let file = certificate["file"].as_str().unwrap_or_default();
        match days_left(certificate) {
            Some(..0) => notes.push(format!("the certificate for {name}s has expired: {file}")),
            Some(days @ 0..EXPIRES_SOON_DAYS) => {
                notes.push(format!("the certificate for {name}s expires in {days} days: {file}"));
            }
            Some(_) | None => {}
        }
    }
    notes
}

/// A line for each certificate.
pub(super) fn lines(cluster: &Value) -> String {
    let mut out = String::new();
    for (certificate, name) in each(cluster) {
        let (Some(file), Some(days)) = (certificate["file"].as_str(), days_left(certificate)) else {
            continue;
        };
        let when = when(days, certificate["expires_at"].as_i64());
        out.push_str(&format!("tls       for {name}s: {}, {when}\n", file));
    }
    out
}

/// When it expires, as a person would say it.
fn when(days: i64, expires_at: Option<i64>) -> String {
    match (days, expires_at) {
        (_, Some(NO_EXPIRY..)) => "never expires".to_owned(),
        (..0, _) => "has expired".to_owned(),
        (FAR_DAYS.., Some(at)) => format!("expires in {}", year(at)),
        (days, _) => format!("expires in {days} days"),
    }
}

/// The year of a time in seconds since 1970: 400 years have 146,097 days, and a time is at most some days from where an average
/// year would have it, which is corrected.
fn year(at: i64) -> i64 {
    let day = at.div_euclid(DAY);
    let first_day = |year: i64| {
        let before = year - 1;
        365 * before + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
    };
    let about = 1970 + (day * 400).div_euclid(146_097);
    [about + 1, about].into_iter().find(|year| first_day(*year) <= day).unwrap_or(about - 1)
}

/// Each with the word for who gets it.
fn each(cluster: &Value) -> impl Iterator<Item = (&Value, &str)> {
    let all = cluster["certificates"].as_array().into_iter().flatten();
    all.filter_map(|certificate| Some((certificate, certificate["leg"].as_str()?)))
}

/// Whole days; below zero once it has expired.
fn days_left(certificate: &Value) -> Option<i64> {
    certificate["expires_in_seconds"].as_i64().map(|seconds| seconds.div_euclid(DAY))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_that_nobody_will_see_is_told_by_its_year() {
        let line = |at: i64, now: i64| {
            let certificate = json!({
                "leg": "client", "file": "/c", "expires_at": at, "expires_in_seconds": at - now, "problem": null
            });
            lines(&json!({"certificates": [certificate]})).replace("tls       for clients: /c, ", "")
        };
        let now = 1_796_000_000;
        assert_eq!(line(NO_EXPIRY, now), "never expires\n");
        assert_eq!(line(NO_EXPIRY - 1, now), "expires in 9999\n");
        assert_eq!(line(now + FAR_DAYS * DAY, now), "expires in 2126\n");
        assert_eq!(line(now + FAR_DAYS * DAY - 1, now), "expires in 36524 days\n");
    }

    #[test]
    fn years_begin_and_end_where_the_calendar_has_it() {
        let first_days = [
            (1970, 0),
            (1971, 365),
            (2000, 10_957),
            (2001, 11_323),
            (2100, 47_482),
            (2101, 47_847),
            (2400, 157_054),
        ];
        for (expected, day) in first_days {
            assert_eq!([year(day * DAY), year(day * DAY - 1)], [expected, expected - 1]);
        }
    }

    #[test]
    fn what_expires_soon_or_is_not_in_force_is_warned_of() {
        let of = |seconds: i64, problem: Option<&str>| {
            let certificate = json!({"leg": "client", "file": "/etc/tls.crt", "expires_in_seconds": seconds, "problem": problem});
            let cluster = json!({"certificates": [certificate]});
            (notes(&cluster), lines(&cluster))
        };
        assert_eq!(
            of(7 * DAY, None),
            (vec![], "tls       for clients: /etc/tls.crt, expires in 7 days\n".to_owned())
        );
        let (soon, _) = of(7 * DAY - 1, None);
        assert_eq!(soon, ["the certificate for clients expires in 6 days: /etc/tls.crt"]);
        let (past, line) = of(-1, None);
        assert_eq!(past, ["the certificate for clients has expired: /etc/tls.crt"]);
        assert!(line.ends_with("has expired\n"), "{line}");
        let (broken, _) = of(90 * DAY, Some("tls.crt: no certificate in it"));
        assert_eq!(
            broken,
            ["TLS of clients: not in force, what was before still is: tls.crt: no certificate in it"]
        );
    }
}
