#!/usr/bin/env python3
"""Checks the deploy files without an image: each with its own tool where there is one, else by its structure.

    nats/*.conf                   nats-server -t, then check_permissions.py against running servers
    nats/tenants.py               check_tenants.py against running servers
    prometheus/prometheus.yml     promtool check config
    prometheus/rules.yml          promtool check rules, promtool test rules (prometheus/tests); each alert has its
                                  labels, texts, cases and section in docs/runbook.md
    alertmanager/alertmanager.yml amtool check-config
    otel-collector.yaml           structure: what pipelines name is defined, what is defined is used
    grafana/                      structure; what the dashboard and the rules query is a metric of the router
    ../docker-compose.yml         structure; docker compose config too, where that plugin is installed
    ../Dockerfile                 structure; its health check is run against a server that is ready, and ones
                                  that are not

And what must agree between them: hosts are services, ports are those that are listened on, variables are those
that the router or nats.conf reads. Needs what "scripts/tools.py test" fetches.
"""

import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TOOLS = ROOT / ".tools"
PROMETHEUS = HERE / "prometheus"
sys.path.insert(0, str(TOOLS / "python"))

import yaml  # noqa: E402

# A key that is not listed is a slip, or joins the list.
SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "ports", "read_only",
    "restart", "security_opt", "stop_grace_period", "volumes",
}
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
# Nothing in these images could ask: the compose file says so beside each.
WITHOUT_HEALTH_CHECK = {"otel-collector"}
COLLECTOR_COMPONENTS = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "batch"},
    "exporters": {"otlp_grpc"},
}

SEVERITIES = {"critical", "warning", "info"}
PANEL_TYPES = {"bargauge", "stat", "state-timeline", "table", "timeseries"}
# What operators were promised.
DASHBOARD_TITLES = {
    "States by provider", "Error rate and its threshold", "Circuit opens", "Fail-fast events",
    "Transitions of the last hour", "Window statistics", "Time until half-open", "Health: tenant × provider",
    "Active alerts", "Effectiveness", "Router", "Requests saved", "Decision latency", "Decisions", "NATS connection", "Log",
}

faults = []


def fault(where, text):
    faults.append(f"{where}: {text}")


def passed(text):
    print(f"deploy: {text}", flush=True)


class StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML readers keep the last without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(path):
    return yaml.load(path.read_text(), StrictLoader)


def tool(name):
    """A program by its variable, from .tools/bin, or on PATH."""
    named = os.environ.get(name.upper().replace("-", "_") + "_BIN")
    fetched = TOOLS / "bin" / name
    return named or (str(fetched) if fetched.exists() else shutil.which(name))


def run(where, command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        fault(where, (done.stderr.strip() or done.stdout.strip()))
    return done


def interpolate(where, value):
    """What compose makes of a value in an environment that sets nothing: every variable needs a default."""
    def replace(match):
        if match["escaped"]:
            return "$"
        if match["default"] is None:
            fault(where, f"{match[0]} has no default: docker compose up would need more than itself")
        return match["default"] or ""

    pattern = r"(?P<escaped>\$\$)|\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}|\$(?P<bare>\w+)"
    return re.sub(pattern, replace, str(value))


def pinned(image):
    """Whether a tag names one release: at least two numbers, and no moving name."""
    _, _, tag = image.rpartition(":")
    return re.search(r"\d+\.\d+", tag) is not None and "/" not in tag


def check_compose(path):
    where, compose = path.name, load(path)
    services, volumes = compose["services"], compose.get("volumes") or {}
    used_volumes = set()
    for name, service in services.items():
        at = f"{where}: {name}"
        for key in service.keys() - SERVICE_KEYS:
            fault(at, f"unknown key {key}")
        if "build" not in service and not pinned(service["image"]):
            fault(at, f"{service['image']} is not pinned")
        health = service.get("healthcheck")
        if health is None and "build" not in service and name not in WITHOUT_HEALTH_CHECK:
            fault(at, "no health check")
        if health is not None:
            if health.keys() - HEALTH_KEYS or health["test"][0] != "CMD":
                fault(at, "health check: unknown key, or not in exec form")
        for other, how in (service.get("depends_on") or {}).items():
            if how.get("condition") not in CONDITIONS:
                fault(at, f"depends on {other} under an unknown condition")
            if other not in services:
                fault(at, f"depends on {other}, which is no service")
            elif how["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                fault(at, f"waits for {other} to be healthy, which has no health check")
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                if not (ROOT / source).exists():
                    fault(at, f"mounts {source}, which does not exist")
                if mode != ["ro"]:
                    fault(at, f"mounts {source} writable")
            elif source in volumes:
                used_volumes.add(source)
            else:
                fault(at, f"volume {source} is not declared")
            if not target.startswith("/"):
                fault(at, f"volume target {target} is not absolute")
        for port in service.get("ports", []):
            if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port):
                fault(at, f"port {port} is not published on loopback alone")
        service["environment"] = {
            variable: interpolate(f"{at}: {variable}", value)
            for variable, value in (service.get("environment") or {}).items()
        }
    for volume in volumes.keys() - used_volumes:
        fault(where, f"volume {volume} is not used")
    plugin = shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True)
    if plugin and plugin.returncode == 0:
        run(where, ["docker", "compose", "-f", str(path), "config", "--quiet"], cwd=ROOT)
        passed(f"{where}: structure, docker compose config")
    else:
        passed(f"{where}: structure (docker compose is not installed: not asked)")
    return services


def settings():
    """Every variable that the router's settings name."""
    return set(re.findall(r'"((?:NATS|BEAMLINE|ROUTER)_[A-Z_]+)"', (ROOT / "src/config/keys.rs").read_text()))


def check_router_settings(services, image_env):
    known = settings()
    for variable in [*services["router"]["environment"], *image_env]:
        if not variable.startswith("OTEL_") and variable not in known:
            fault("router", f"{variable} is no setting of beamline-router")
    passed("router: every variable is a setting")


def variables_of(config):
    """What a configuration of nats-server reads from the environment, with the files that it includes."""
    lines = [line for line in config.read_text().splitlines() if not line.lstrip().startswith("#")]
    found = {variable for line in lines for variable in re.findall(r"[:\s]\$(NATS_\w+)", line)}
    included = [name for line in lines for name in re.findall(r'include "([^"]+)"', line)]
    return found.union(*(variables_of(config.parent / name) for name in included))


def check_nats(services):
    given = services["nats"]["environment"]
    router = services["router"]["environment"]
    if router["NATS_PASSWORD"] != given["NATS_ROUTER_PASSWORD"]:
        fault("docker-compose.yml", "the router's password is not the one that nats has for it")
    # The files that are included stand beside the one that includes them.
    if "./deploy/nats:/etc/nats:ro" not in services["nats"]["volumes"]:
        fault("docker-compose.yml", "nats does not get the folder deploy/nats")
    server = tool("nats-server")
    if not server:
        return fault("nats", "no nats-server to check with; run scripts/tools.py test")
    for config in (HERE / "nats" / "nats.conf", HERE / "nats" / "single-account.conf"):
        wanted = variables_of(config)
        if wanted != given.keys():
            fault(config.name, f"reads {sorted(wanted)}, and docker-compose.yml gives {sorted(given)}")
        run(config.name, [server, "-t", "-c", str(config)], env={**os.environ, **given})
        passed(f"{config.name}: nats-server -t, with the variables of docker-compose.yml")
    for check in ("check_permissions.py", "check_tenants.py"):
        done = run(check, [sys.executable, str(HERE / "nats" / check)])
        if done.returncode == 0:
            for line in done.stdout.strip().splitlines():
                passed(line)


def check_prometheus(services, port):
    where, path = "prometheus.yml", PROMETHEUS / "prometheus.yml"
    config = load(path)
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    discovered = jobs["beamline-router"]["dns_sd_configs"][0]
    if discovered["names"] != ["router"] or "router" not in services or discovered["port"] != port:
        fault(where, f"does not scrape the service router on port {port}")
    mounted = {v.split(":")[0] for v in services["prometheus"]["volumes"]}
    for name in ["prometheus.yml", *config["rule_files"]]:
        if f"./deploy/prometheus/{name}" not in mounted:
            fault(where, f"{name} is not mounted into prometheus")
    (alertmanagers,) = config["alerting"]["alertmanagers"]
    ((host, told),) = [t.split(":") for t in alertmanagers["static_configs"][0]["targets"]]
    if told not in [p.split(":")[2] for p in services.get(host, {}).get("ports", [])]:
        fault(where, f"tells {host}:{told} of alerts, which is no port of a service")
    ask(where, "promtool", "check", "config", str(path))
    ask("rules.yml", "promtool", "check", "rules", str(PROMETHEUS / "rules.yml"))
    for cases in sorted((PROMETHEUS / "tests").glob("*.yml")):
        ask(f"tests/{cases.name}", "promtool", "test", "rules", str(cases))
    ask("alertmanager.yml", "amtool", "check-config", str(HERE / "alertmanager" / "alertmanager.yml"))


def ask(where, name, *arguments):
    """Asks a program of Prometheus's, which a developer's machine may lack and CI's may not."""
    program = tool(name)
    if program:
        if run(where, [program, *arguments]).returncode == 0:
            passed(f"{where}: {name} {' '.join(arguments[:-1])}")
    elif os.environ.get("CI"):
        fault(where, f"no {name} to check with; run scripts/tools.py test")
    else:
        passed(f"{where}: NOT CHECKED by {name}, which is not installed")


def anchor(heading):
    """The anchor that a heading has on the pages of a repository."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def check_alerts():
    """What promtool does not: that an alert says what to do, and that its cases are not all of one kind."""
    where = "rules.yml"
    rules = [rule for group in load(PROMETHEUS / "rules.yml")["groups"] for rule in group["rules"]]
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", runbook, flags=re.MULTILINE)[1:]}
    for rule in (rule for rule in rules if "alert" in rule):
        name, notes = rule["alert"], rule["annotations"]
        if rule["labels"].get("severity") not in SEVERITIES:
            fault(where, f"{name} has no known severity")
        for note in ("summary", "description"):
            if not notes.get(note, "").strip():
                fault(where, f"{name} has no {note}")
        if notes.get("runbook_url") != f"docs/runbook.md#{anchor(name)}":
            fault(where, f"{name} does not link to its section of docs/runbook.md")
        for part in ("**What it means.**", "**Look at**", "**Do"):
            if part not in sections.get(name, ""):
                fault("runbook.md", f"the section {name} lacks {part}")
        if f"(#{anchor(name)})" not in runbook:
            fault("runbook.md", f"{name} is not in the list at the top")
    for section in sections.keys() - alerts:
        fault("runbook.md", f"the section {section} is of no alert")
    seen = {name: set() for name in alerts}
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for test in load(path)["tests"]:
            fired = set()
            for case in sorted(test.get("alert_rule_test", []), key=lambda case: seconds(case["eval_time"])):
                name = case["alertname"]
                if case["exp_alerts"]:
                    fired.add(name)
                    seen[name].add("firing")
                else:
                    seen[name].add("recovering" if name in fired else "not firing")
    for name, kinds in seen.items():
        for kind in {"firing", "not firing", "recovering"} - kinds:
            fault("prometheus/tests", f"no case of {name} {kind}")
    passed(f"rules.yml: {len(alerts)} alerts, each with its texts, its cases and its section in docs/runbook.md")
    return rules


def seconds(duration):
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))


def check_queries(rules, dashboard):
    """Each metric that is queried is one that the router has, or a rule records."""
    names = re.findall(r'"(router_\w+)"', (ROOT / "src/telemetry/names.rs").read_text())
    known = {*names, *(f"{name}_{part}" for name in names for part in ("bucket", "sum", "count"))}
    known |= {rule["record"] for rule in rules if "record" in rule}
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    variables = [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    queries = [*(rule["expr"] for rule in rules), *targets, *variables]
    for query in queries:
        # What stands in quotes is a label's value.
        for name in re.findall(r"[a-zA-Z_:]*router_[\w:]+", re.sub(r'"[^"]*"', '""', query)):
            if name not in known:
                fault("queries", f"{name} is no metric of the router, nor recorded: {query}")
    passed(f"rules and dashboard: {len(queries)} queries name what exists")


def check_collector(services):
    where, config = "otel-collector.yaml", load(HERE / "otel-collector.yaml")
    pipelines = config["service"]["pipelines"]
    for kind, known in COLLECTOR_COMPONENTS.items():
        defined = set(config[kind])
        used = {name for pipeline in pipelines.values() for name in pipeline[kind]}
        for name in defined | used:
            if name.split("/")[0] not in known:
                fault(where, f"{name} is no known one of the {kind}")
        for name in used - defined:
            fault(where, f"a pipeline names {name}, which is not defined")
        for name in defined - used:
            fault(where, f"{name} is in no pipeline")
    for key in config.keys() - {*COLLECTOR_COMPONENTS, "service", "extensions"}:
        fault(where, f"unknown section {key}")
    for name, pipeline in pipelines.items():
        if not re.fullmatch(r"(traces|metrics|logs)(/\w+)?", name):
            fault(where, f"{name} is no pipeline")
        if pipeline["processors"][:1] != ["memory_limiter"] or pipeline["processors"][-1:] != ["batch"]:
            fault(where, f"{name}: memory_limiter comes first, batch last")
    for name, exporter in config["exporters"].items():
        if exporter["endpoint"].rpartition(":")[0] not in services:
            fault(where, f"{name} sends to {exporter['endpoint']}, which is no service")
    listens = {p: c["endpoint"].rpartition(":")[2] for p, c in config["receivers"]["otlp"]["protocols"].items()}
    router = services["router"]["environment"]
    host, port = re.fullmatch(r"http://([\w-]+):(\d+)", router["OTEL_EXPORTER_OTLP_ENDPOINT"]).groups()
    if host != "otel-collector" or listens.get(router["OTEL_EXPORTER_OTLP_PROTOCOL"]) != port:
        fault(where, f"the router sends to {host}:{port}, where it does not listen for that protocol")
    passed("otel-collector.yaml: structure (no collector here to ask)")


def check_grafana(services):
    where, path = "grafana", HERE / "grafana/provisioning/datasources/prometheus.yaml"
    document = load(path)
    (source,) = document["datasources"]
    host, port = re.fullmatch(r"http://([\w-]+):(\d+)", source["url"]).groups()
    published = [p.split(":")[2] for p in services[host]["ports"]] if host in services else []
    if document["apiVersion"] != 1 or source["type"] != "prometheus" or port not in published:
        fault(where, f"{path.name}: version, type or address is wrong")
    provider = load(HERE / "grafana/provisioning/dashboards/beamline-router.yaml")["providers"][0]
    for folder, target in (("provisioning", "/etc/grafana/provisioning"), ("dashboards", provider["options"]["path"])):
        if f"./deploy/grafana/{folder}:{target}:ro" not in services["grafana"]["volumes"]:
            fault(where, f"{folder} is not mounted where Grafana looks")
    passed("grafana: provisioning")
    dashboard = json.loads((HERE / "grafana/dashboards/beamline-router.json").read_text())
    check_dashboard(dashboard, source)
    return dashboard


def check_dashboard(dashboard, source):
    where, panels = "dashboard", dashboard["panels"]
    if dashboard["schemaVersion"] < 39 or not re.fullmatch(r"[\w-]{1,40}", dashboard["uid"]):
        fault(where, "schemaVersion or uid")
    variables = {v["name"]: v for v in dashboard["templating"]["list"]}
    if variables.keys() != {"datasource", "job", "tenant", "provider"}:
        fault(where, f"variables are {sorted(variables)}")
    if variables["datasource"]["current"]["value"] != source["uid"]:
        fault(where, "the data source that it begins with is not the provisioned one")
    ids = [panel["id"] for panel in panels]
    if len(ids) != len(set(ids)):
        fault(where, "two panels have one id")
    titles = {panel["title"] for panel in panels}
    for title in DASHBOARD_TITLES - titles:
        fault(where, f"no panel {title}")
    taken = {}
    for panel in panels:
        at, place = f"{where}: {panel['title']}", panel["gridPos"]
        if place["x"] + place["w"] > 24:
            fault(at, "is wider than the page")
        cells = itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        for other in {taken.setdefault(cell, panel["title"]) for cell in cells} - {panel["title"]}:
            fault(at, f"overlaps {other}")
        if panel["type"] == "row":
            continue
        if panel["type"] not in PANEL_TYPES:
            fault(at, f"unknown type {panel['type']}")
        if not panel.get("description", "").strip():
            fault(at, "no description")
        if panel["type"] not in ("table", "state-timeline") and "unit" not in panel["fieldConfig"]["defaults"]:
            fault(at, "no unit")
        refs = [target["refId"] for target in panel["targets"]]
        if len(refs) != len(set(refs)) or not refs:
            fault(at, "its queries do not have an id each")
        for target in panel["targets"]:
            if target["datasource"]["uid"] != "${datasource}":
                fault(at, "does not ask the chosen data source")
            for name in re.findall(r"\$\{?(\w+)", target["expr"]):
                if name not in variables and name not in ("__rate_interval", "__range"):
                    fault(at, f"${name} is no variable")
    passed(f"dashboard: structure of {len(panels)} panels and rows")


def instructions(path):
    """The Dockerfile's instructions, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def check_dockerfile(path):
    where, steps = path.name, instructions(path)
    stages = [rest.split() for verb, rest in steps if verb == "FROM"]
    if len(stages) < 2:
        fault(where, "one stage: the compiler would be in the image")
    for stage in stages:
        if not pinned(stage[0]):
            fault(where, f"{stage[0]} is not pinned")
    context = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for name in ("Cargo.toml", "Cargo.lock", "LICENSE", "build.rs", "crates", "proto", "src"):
        if name not in context:
            fault(where, f".dockerignore keeps {name} out, which the build needs")
        elif not (ROOT / name).exists():
            fault(where, f"needs {name}, which does not exist")
    for verb, rest in steps:
        sources = rest.split()[:-1]
        if verb == "COPY" and sources != ["."] and not sources[0].startswith("--from="):
            for source in sources:
                if source.split("/")[0] not in context:
                    fault(where, f"copies {source}, which .dockerignore keeps out")
    users = [rest for verb, rest in steps if verb == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        fault(where, "the last USER is not a number above 0: it may be root")
    image_env = dict(rest.split("=", 1) for verb, rest in steps if verb == "ENV")
    port = int(image_env["BEAMLINE_HTTP_ADDR"].rpartition(":")[2])
    if ("EXPOSE", str(port)) not in steps:
        fault(where, f"does not expose {port}")
    (health,) = [rest for verb, rest in steps if verb == "HEALTHCHECK"]
    try_health_check(where, json.loads(health[health.index("CMD ") + 4:]))
    passed("Dockerfile: structure; health check run against a server")
    return image_env, port


def try_health_check(where, command):
    """Runs the image's health check against servers on this machine's loopback."""
    def outcome(port):
        environment = {**os.environ, "BEAMLINE_HTTP_ADDR": f"0.0.0.0:{port}"}
        return subprocess.run(command, env=environment, capture_output=True, timeout=10).returncode == 0

    class Ready(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        status = 200

        def do_GET(self):
            status = self.status if self.path == "/readyz" else 404
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for status, healthy in ((200, True), (503, False), (404, False)):
            Ready.status = status
            if outcome(port) != healthy:
                fault(where, f"the health check takes a {status} for {'un' if healthy else ''}healthy")
        server.shutdown()
    if outcome(port):
        fault(where, "the health check takes a closed port for healthy")


def main():
    services = check_compose(ROOT / "docker-compose.yml")
    image_env, port = check_dockerfile(ROOT / "Dockerfile")
    check_router_settings(services, image_env)
    check_prometheus(services, port)
    rules = check_alerts()
    check_collector(services)
    check_queries(rules, check_grafana(services))
    check_nats(services)
    for text in faults:
        print(f"deploy: FAULT: {text}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
