//! The certificates as reported by `/cluster`.

use serde_json::Value;

/// Below so many days, a certificate is a warning. Who renews them by a program does so long before.
const EXPIRES_SOON_DAYS: i64 = 7;

const DAY: i64 = 24 * 60 * 60;

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
        let when = if days < 0 { "has expired".to_owned() } else { format!("expires in {days} days") };
        out.push_str(&format!("tls       for {name}s: {}, {when}\n", file));
    }
    out
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
