//! The page at `/`. It needs nothing but this worker: no script, no other host.

use axum::http::HeaderName;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::{Html, IntoResponse};

/// Nothing is loaded, nobody frames it, and no script runs.
const POLICY: [(HeaderName, &str); 1] = [(
    CONTENT_SECURITY_POLICY,
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)];

const PAGE: &str = concat!(
    r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>beamline-router</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
dt { font-weight: 600; margin-top: .75rem; }
dd { margin-left: 0; }
.version { font-weight: 400; opacity: .7; }
</style>
</head>
<body>
<main>
<h1>beamline-router <span class="version">"#,
    env!("CARGO_PKG_VERSION"),
    r#"</span></h1>
<p>A routing worker on NATS: it says which provider serves a request, with a circuit breaker for each
tenant and provider.</p>
<dl>
<dt><a href="/metrics">/metrics</a></dt>
<dd>Metrics in OpenMetrics text, for Prometheus.</dd>
<dt><a href="/healthz">/healthz</a></dt>
<dd>Whether the process is alive.</dd>
<dt><a href="/readyz">/readyz</a></dt>
<dd>Whether it takes requests, and if not, why.</dd>
</dl>
<h2>Breakers</h2>
<p>From a shell with a connection to the broker: <code>beamline-router breaker list</code>, and
<code>beamline-router breaker get --tenant TENANT --provider PROVIDER</code> for one of them.</p>
</main>
</body>
</html>
"#
);

pub(super) async fn page() -> impl IntoResponse {
    (POLICY, Html(PAGE))
}
