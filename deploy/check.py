#!/usr/bin/env python3
"""Checks the deploy files without an image: each with its own tool where there is one, else by its structure.

    nats/nats.conf                nats-server -t, then check_permissions.py against a running server
    prometheus/prometheus.yml     promtool check config
    otel-collector.yaml           structure: what pipelines name is defined, what is defined is used
    grafana/provisioning          structure
    ../docker-compose.yml         structure; docker compose config too, where that plugin is installed
    ../Dockerfile                 structure; its health check is run against a server that is ready, and ones
                                  that are not

And what must agree between them: hosts are services, ports are those that are listened on, variables are those
that the router or nats.conf reads. Needs what "scripts/tools.py test" fetches.
"""

import http.server
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


def check_nats(services):
    where, config = "nats.conf", HERE / "nats" / "nats.conf"
    wanted = {
        variable
        for line in config.read_text().splitlines() if not line.lstrip().startswith("#")
        for variable in re.findall(r"[:\s]\$(NATS_\w+)", line)
    }
    given = services["nats"]["environment"]
    if wanted != given.keys():
        fault(where, f"reads {sorted(wanted)}, and docker-compose.yml gives {sorted(given)}")
    router = services["router"]["environment"]
    if router["NATS_PASSWORD"] != given["NATS_ROUTER_PASSWORD"]:
        fault("docker-compose.yml", "the router's password is not the one that nats has for it")
    server = tool("nats-server")
    if not server:
        return fault(where, "no nats-server to check with; run scripts/tools.py test")
    run(where, [server, "-t", "-c", str(config)], env={**os.environ, **given})
    passed("nats.conf: nats-server -t, with the variables of docker-compose.yml")
    done = run("check_permissions.py", [sys.executable, str(HERE / "nats" / "check_permissions.py")])
    if done.returncode == 0:
        passed(done.stdout.strip())


def check_prometheus(services, port):
    where, path = "prometheus.yml", HERE / "prometheus" / "prometheus.yml"
    jobs = {job["job_name"]: job for job in load(path)["scrape_configs"]}
    discovered = jobs["beamline-router"]["dns_sd_configs"][0]
    if discovered["names"] != ["router"] or "router" not in services or discovered["port"] != port:
        fault(where, f"does not scrape the service router on port {port}")
    promtool = tool("promtool")
    if promtool:
        run(where, [promtool, "check", "config", str(path)])
        passed("prometheus.yml: promtool check config")
    elif os.environ.get("CI"):
        fault(where, "no promtool to check with; run scripts/tools.py test")
    else:
        passed("prometheus.yml: NOT CHECKED by promtool, which is not installed")


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
    mounts = [v for v in services["grafana"]["volumes"] if v.startswith("./deploy/grafana/provisioning:")]
    if mounts != ["./deploy/grafana/provisioning:/etc/grafana/provisioning:ro"]:
        fault(where, "the provisioning folder is not mounted where Grafana looks")
    passed("grafana: structure")


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
    for name in ("Cargo.toml", "Cargo.lock", "LICENSE", "build.rs", "proto", "src"):
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
    check_collector(services)
    check_grafana(services)
    check_nats(services)
    for text in faults:
        print(f"deploy: FAULT: {text}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
