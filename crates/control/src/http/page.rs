//! The page for people: the state of the servers, kept fresh by the browser.

use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::routes::ok;

const PAGE: &str = include_str!("page.html");

/// The page loads nothing, sends nothing and may not be framed.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Whether a browser asks: HAProxy sends no `Accept`, curl `*/*`, and both get the contract's answer.
pub(super) fn is_wanted(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| accept.contains("text/html"))
}

pub(super) fn response() -> Response {
    let mut response = ok("text/html; charset=utf-8", PAGE);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use trunkline_telemetry::metrics::{Label as _, RouteReason};

    use super::*;

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_writes_no_markup() {
        for forbidden in ["http:", "https:", "src=", "innerHTML", "document.write"] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        let mut links = PAGE.split("href=").skip(1);
        assert!(links.clone().count() > 0 && links.all(|link| link.starts_with("\"/")));
    }

    #[test]
    fn the_page_has_words_for_each_reason_of_a_route() {
        let table = PAGE.split("const ROUTES = {").nth(1).and_then(|rest| rest.split("};").next());
        let words: Vec<_> =
            table.expect("it has them").lines().filter_map(|line| line.split_once(": [")).collect();
        let reasons = words.iter().map(|(reason, _)| reason.trim()).collect::<Vec<_>>();
        assert_eq!(reasons, RouteReason::ALL.iter().map(|reason| reason.word()).collect::<Vec<_>>());
    }

    #[test]
    fn browsers_get_the_page_and_checks_do_not() {
        assert!(is_wanted(Some("text/html,application/xhtml+xml,*/*;q=0.8")));
        assert!(!is_wanted(Some("*/*")) && !is_wanted(Some("application/json")) && !is_wanted(None));
    }
}
