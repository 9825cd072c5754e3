"""What is installed: the wheel in an environment of its own, `make run` in a clone, and the lock files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.backplane.redis_server import redis_server
from tests.gateways import ROOT, clean_environment

PACKAGES = ("compat", "loadtest", "portico", "service")
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)
TEST_TOOLS = {"pytest", "pytest-trio", "hypothesis", "locust", "playwright", "ruff", "mypy", "import-linter", "uv"}
PATIENCE = 600
"""Seconds for pip to install everything anew, however slow the machine and its network are."""


def tracked() -> list[str]:
    """The files of the project as they are now, with those that were not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def clone(folder: Path) -> Path:
    """A clean copy of the project."""
    for name in tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
        target.chmod((ROOT / name).stat().st_mode)
    return folder


def locked(name: str) -> dict[str, str]:
    """The versions in a lock file."""
    return dict(LOCKED.findall((ROOT / name).read_text()))


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=outside(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    return done.stdout


def outside(**settings: object) -> dict[str, str]:
    """The environment of somebody who is in no clone."""
    environment = clean_environment(**settings)
    return {
        name: value for name, value in environment.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS")
    }


def installed(python: Path) -> set[str]:
    """The names of what is installed in an environment, besides what Python itself brought."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", cwd=python.parent))
    return {package["name"].lower().replace("_", "-") for package in listed} - {"pip", "setuptools"}


@contextmanager
def serving(command: list[str], cwd: Path, **settings: object) -> Iterator[str]:
    """A gateway's base URL while it runs, as its banner says it; then Ctrl-C, and it ends by itself."""
    log = cwd / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=outside(HOST="127.0.0.1", WORKER_PORT="off", WEBSOCKET_PORT="same", **settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)  # there is no event for what another process writes
        yield found[0]
        # As Ctrl-C does: make, if it is there, hears of it too, and ends by it.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) in (0, -signal.SIGINT, 2), log.read_text()
        assert "stopped" in log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def try_it(base_url: str, *, durable: bool, key: str = "") -> None:
    """The page with all its parts, and a push to a client that is connected."""
    page = httpx.get(base_url + "/", trust_env=False)
    assert page.status_code == 200
    parts = {name for name in tracked() if name.startswith("service/pages/") and not name.endswith(".html")}
    assert any(name.removeprefix("service/") in page.text for name in parts)
    for name in parts:
        part = httpx.get(f"{base_url}/{name.removeprefix('service/')}", trust_env=False)
        assert part.content == (ROOT / name).read_bytes()
    with connect(base_url.replace("http", "ws", 1)) as client:
        client.send(json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "ann"}))
        assert json.loads(client.recv(30))["type"] == "registration_success"
        push = {"target": {"user_id": "ann"}, "type": "hello", "data": {"n": 1}, "durable": durable}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        answer = httpx.post(f"{base_url}/api/notifications", json=push, headers=headers, trust_env=False)
        assert answer.status_code == 202, answer.text
        assert json.loads(client.recv(30))["n"] == 1


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a clean copy."""
    copy = clone(tmp_path_factory.mktemp("clone"))
    # With the setuptools that is locked: nothing is asked for.
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", ".", cwd=copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_its_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = next(archive.read(name).decode() for name in names if name.endswith("METADATA"))
    assert {name for name in names if ".dist-info/" not in name} == {
        name for name in tracked() if name.startswith(tuple(f"{package}/" for package in PACKAGES))
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "License-Expression: Apache-2.0" in metadata
    assert "URL" not in metadata.partition("\n\n")[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `make run` has run: what it installed is in its .venv."""
    copy = clone(tmp_path_factory.mktemp("make-run") / "clone")
    make = ["make", "--no-print-directory", f"PYTHON={sys.executable}", "run"]
    # With PORT the environment would be production, without any keys.
    with serving(make, copy, PORT=0, ENVIRONMENT="development") as base_url:
        try_it(base_url, durable=False)
        assert run(copy / ".venv" / "bin" / "portico", "--version", cwd=copy.parent).startswith("portico ")
    return copy


@pytest.fixture(scope="module")
def runtime(made: Path) -> Path:
    """The Python of an environment with what requirements.txt locks, and nothing else: that of `make run`, without the
    clone."""
    python = made / ".venv" / "bin" / "python"
    (link,) = (made / ".venv").glob("lib/python*/site-packages/portico-clone.pth")
    link.unlink()
    (python.parent / "portico").unlink()
    assert not installed(python) & TEST_TOOLS
    run(python, "-c", "import importlib.util as u; raise SystemExit(u.find_spec('service'))", cwd=made.parent)
    return python


def pip_install(python: Path) -> tuple[str | Path, ...]:
    return (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")


@pytest.mark.live
def test_what_the_dockerfile_copies_serves_with_what_it_installs(runtime: Path, tmp_path: Path) -> None:
    lines = [line.partition(" ") for line in (ROOT / "Dockerfile").read_text().splitlines()]
    for source, target in (rest.split() for word, _, rest in lines if word == "COPY"):
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        (tmp_path / target).parent.mkdir(exist_ok=True)
        copy(ROOT / source, tmp_path / target)
    (variables,) = (dict([rest.split("=")]) for word, _, rest in lines if word == "ENV")
    said = {word: rest for word, _, rest in lines}
    entry = str(tmp_path / json.loads(said["ENTRYPOINT"])[0].removeprefix(f"{said['WORKDIR']}/"))
    path = f"{runtime.parent}{os.pathsep}{os.environ['PATH']}"
    assert run("env", f"PATH={path}", entry, "--version", cwd=tmp_path).startswith("portico ")
    key = "a-key-of-the-test-s-own"
    settings = {"PORT": 0, "PORTICO_API_KEYS": key, "PORTICO_LOG_FORMAT": "console", "PORTICO_DRAIN_SECONDS": 0.1}
    with serving([entry, *json.loads(said["CMD"])], tmp_path, PATH=path, **settings, **variables) as base_url:
        try_it(base_url, durable=False, key=key)


@pytest.mark.live
def test_the_wheel_serves_in_an_environment_that_has_nothing_else(wheel: Path, runtime: Path, tmp_path: Path) -> None:
    run(*pip_install(runtime), wheel, cwd=tmp_path)
    try:
        run(runtime, "-m", "pip", "check", cwd=tmp_path)
        portico = str(runtime.parent / "portico")
        version = run(portico, "--version", cwd=tmp_path)
        assert wheel.name.startswith(f"portico-{version.split()[1]}-")
        with serving([portico, "serve", "--port", "0"], tmp_path) as base_url:
            try_it(base_url, durable=False)
            run(runtime, "-m", "compat", "--base-url", base_url, "--help", cwd=tmp_path)
        # With a Redis, whose scripts are files of the package.
        with (
            redis_server(tmp_path / "redis") as redis,
            serving([portico, "serve", "--port", "0"], tmp_path, REDIS_URL=redis.url) as base_url,
        ):
            try_it(base_url, durable=True)
    finally:
        run(runtime, "-m", "pip", "uninstall", "--quiet", "--yes", "portico", cwd=tmp_path)


@pytest.mark.live
def test_make_run_installs_what_running_needs_and_no_more(made: Path) -> None:
    copy = made
    runtime = {name.lower().replace("_", "-") for name in locked("requirements.txt")}
    assert installed(copy / ".venv" / "bin" / "python") <= runtime
    # The second time nothing is installed, and a stamp says so.
    assert "pip" not in run("make", "-n", "run", cwd=copy)
    assert "requirements.lock" in run("make", "-n", "setup", cwd=copy)
    # A newer lock file is installed; what the tests need is no concern of `run`.
    os.utime(copy / "requirements.lock", (time.time() + 60, time.time() + 60))
    assert "pip" not in run("make", "-n", "run", cwd=copy)
    os.utime(copy / "requirements.txt", (time.time() + 60, time.time() + 60))
    assert "requirements.txt" in run("make", "-n", "run", cwd=copy)


def test_after_setup_nothing_is_left_to_install_for_run(tmp_path: Path) -> None:
    copy = clone(tmp_path / "clone")
    for name in (".venv/bin/python", ".venv/.runs", ".venv/.installed"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    assert "pip" not in run("make", "-n", "run", cwd=copy)
    assert "pip" not in run("make", "-n", "setup", cwd=copy)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements.lock", "requirements-bench.lock", ".ci/pip.lock"])
def test_a_lock_file_has_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text)
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert LOCKED.match(entry), entry
        assert "--hash=sha256:" in entry, entry


def test_what_runs_is_what_is_tested() -> None:
    runtime, everything = locked("requirements.txt"), locked("requirements.lock")
    assert runtime.items() <= everything.items()
    assert not runtime.keys() & TEST_TOOLS


def test_the_license_is_the_whole_one_and_the_metadata_invents_no_hosts() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "urls" not in project
    assert {"authors", "classifiers", "description", "keywords", "readme", "requires-python"} <= project.keys()


def test_a_script_beside_the_clones_folder_finds_the_package(tmp_path: Path) -> None:
    """The clone's own folder is named `portico` too; to a script beside it that folder must not be the package."""
    (tmp_path / "portico").mkdir()
    script = tmp_path / "counting_worker.py"
    script.write_text("from portico import Client, Publisher, Requester, Worker\n")
    run(sys.executable, script, cwd=tmp_path)
