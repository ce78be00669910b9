//! The console: files that the program carries, and nothing else. No script or style stands in the page,
//! nothing is loaded from another host, and no text is ever taken for markup: the policy forbids the
//! browser all three.

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use xxhash_rust::xxh3::xxh3_64;

use super::routes::not_found;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; manifest-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Asked for each time, and sent again only if it is another: a worker of another version has other
/// files under the same names.
const HEADERS: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-cache"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($kind:expr, [$($name:literal),+ $(,)?];)+) => {
        /// Name, kind, content.
        const FILES: &[(&str, &str, &str)] = &[
            $($(($name, $kind, include_str!(concat!("console/", $name)))),+),+
        ];
    };
}

files! {
    HTML, ["index.html"];
    "text/css; charset=utf-8", ["app.css", "rollouts.css"];
    "image/svg+xml", ["icon.svg"];
    SCRIPT, [
        "main.js", "theme.js", "store.js", "dom.js", "format.js", "overview.js", "breakers.js", "breaker.js",
        "policies.js", "panels.js", "dialogs.js", "table.js", "rollouts.js", "rollout.js", "words.js", "course.js",
        "evidence.js", "journal.js", "progress.js",
    ];
}

pub(super) async fn page(headers: HeaderMap, uri: Uri) -> Response {
    sent("index.html", &headers, uri).await
}

pub(super) async fn file(path: Option<Path<String>>, headers: HeaderMap, uri: Uri) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    sent(&name, &headers, uri).await
}

async fn sent(name: &str, headers: &HeaderMap, uri: Uri) -> Response {
    let Some((_, kind, content)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return not_found(uri).await;
    };
    let tag = format!("\"{:016x}\"", xxh3_64(content.as_bytes()));
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|k| k.trim().trim_start_matches("W/") == tag)) {
        return (StatusCode::NOT_MODIFIED, HEADERS, [(ETAG, tag)]).into_response();
    }
    (HEADERS, [(CONTENT_TYPE, *kind)], [(ETAG, tag)], *content).into_response()
}
