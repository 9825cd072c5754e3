"""The programs of "Push from Django, Celery and Express", as they stand there, against one gateway; Django is served by
it as well, as "Serve your own app" says.

Express is the real one where it is installed (`make express`), else a stand-in for the few of its functions that the
sample uses, on Node's own http: to install it takes a network and longer than all of this file.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.gateways import ROOT, Running, clean_environment, free_ports, gateway

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs/how-to/push-from-django-celery-express.md").read_text()
EXPRESS = Path(__file__).parent / "portico" / "publisher" / "express"
KEY = "a-key-of-sixteen-characters-or-more"

PROJECT = {
    "shop/__init__.py": "",
    "shop/settings.py": """
SECRET_KEY = "of-the-test"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
""",
    "shop/urls.py": """
from django.contrib.auth import get_user_model, login
from django.http import HttpResponse
from django.urls import path

from shop.views import add_to_cart


def log_in(request):
    login(request, get_user_model().objects.get(username="ann"))
    return HttpResponse("in")


urlpatterns = [path("login", log_in), path("cart", add_to_cart)]
""",
    "shop/wsgi.py": """
import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
application = get_wsgi_application()
call_command("migrate", verbosity=0)
from django.contrib.auth import get_user_model

get_user_model().objects.get_or_create(username="ann")
""",
}

STAND_IN = """
import { createServer } from "node:http";

/** The little of Express that the sample uses. */
export default function express() {
  const routes = [];
  let onError = null;
  const answer = async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    request.body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
    response.status = (code) => Object.assign(response, { statusCode: code });
    response.json = (value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));
    for (const { pattern, handler } of routes) {
      const match = request.method === "POST" && pattern.exec(request.url);
      if (!match) continue;
      request.params = { ...match.groups };
      try {
        await handler(request, response);
      } catch (error) {
        onError(error, request, response, () => {});
      }
      return;
    }
    response.status(404).end();
  };
  return {
    use(handler) {
      if (handler.length === 4) onError = handler;
    },
    post(path, handler) {
      routes.push({ pattern: new RegExp(`^${path.replace(/:(\\w+)/g, "(?<$1>[^/]+)")}$`), handler });
    },
    listen(port, ready) {
      return createServer(answer).listen(port, ready);
    },
  };
}
express.json = () => (request, response, next) => next();
"""


def sample(name: str) -> str:
    (code,) = re.findall(rf"```(?:python|js)\n(?:#|//) {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with the Django project in it."""
    folder = tmp_path_factory.mktemp("gateway")
    for name, source in {**PROJECT, **{n: sample(n) for n in ("shop/live.py", "shop/views.py")}}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source)
    port = free_ports(1)[0]
    settings = {
        "PORTICO_APP": "shop.wsgi:application",
        "PORTICO_API_KEYS": KEY,
        "GATEWAY_API_KEY": KEY,
        "GATEWAY_URL": f"http://127.0.0.1:{port}",
    }
    with gateway(folder, mode="integrated", port=port, settings=settings) as gate:
        yield gate


@contextmanager
def registered(running: Running, **more: str) -> Iterator[ClientConnection]:
    with connect(f"{running.websocket_url}/ws", proxy=None, open_timeout=60) as client:
        client.send(json.dumps({"type": "c_client_register", "user_id": "ann", **more}))
        assert json.loads(client.recv(60))["type"] == "registration_success"
        yield client


def environment(running: Running, **more: str) -> dict[str, str]:
    return clean_environment(GATEWAY_URL=running.base_url, GATEWAY_API_KEY=KEY, **more)


def test_django(running: Running) -> None:
    with (
        httpx.Client(base_url=running.base_url, trust_env=False, timeout=60) as browser,
        registered(running) as page,
    ):
        assert browser.get("/cart").status_code == 405
        assert browser.post("/cart").status_code == 302  # to the login
        assert browser.get("/login").text == "in"
        for items in (1, 2):
            assert browser.post("/cart").json() == {"items": items}
            assert json.loads(page.recv(60)) == {"type": "cart_updated", "items": items}


def test_celery(running: Running, tmp_path: Path) -> None:
    """A real worker, which takes the task from a broker in memory, and so has to be in the same process."""
    (tmp_path / "tasks.py").write_text(sample("tasks.py"))
    (tmp_path / "program.py").write_text(
        "from celery.contrib.testing.worker import start_worker\n"
        "import tasks\n"
        "with start_worker(tasks.app, pool='solo', perform_ping_check=False, shutdown_timeout=60):\n"
        "    tasks.make_report.delay('ann', 7)\n"
        "    input()\n"  # its end is the test's: to stop a worker takes Celery three seconds
    )
    with registered(running) as page:
        program = subprocess.Popen(
            [sys.executable, "program.py"],
            cwd=tmp_path,
            env=environment(running, BROKER_URL="memory://"),
            stdin=subprocess.PIPE,
        )
        try:
            events = [json.loads(page.recv(60)) for _ in range(3)]
        finally:
            program.kill()
            program.communicate()
    for event in events:
        event.pop("stream", None)
        event.pop("offset", None)
    assert events[:2] == [{"type": "report_progress", "number": 7, "percent": percent} for percent in (0, 50)]
    assert (events[2]["type"], events[2]["number"]) == ("report_ready", 7)


def test_express(running: Running, tmp_path: Path) -> None:
    where = tmp_path / "node_modules"
    if (EXPRESS / "node_modules").exists():
        where.symlink_to(EXPRESS / "node_modules")
    else:
        (where / "express").mkdir(parents=True)
        (where / "express" / "package.json").write_text('{"name": "express", "type": "module", "main": "index.js"}')
        (where / "express" / "index.js").write_text(STAND_IN)
    shutil.copy(ROOT / "portico/js/publisher.mjs", tmp_path)
    (tmp_path / "server.mjs").write_text(sample("server.mjs"))
    with registered(running) as page:
        program = subprocess.Popen(
            ["node", "server.mjs"], cwd=tmp_path, env=environment(running, PORT="0"), stdout=subprocess.PIPE
        )
        try:
            assert program.stdout is not None
            port = int(program.stdout.readline().split()[-1])
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as caller:
                assert caller.post("/cart/ann", json={"items": 3}).json() == {"connections": 1}
                assert json.loads(page.recv(60)) == {"type": "cart_updated", "items": 3}
                refused = caller.post(f"/cart/{'x' * 300}", json={"items": 3})
                assert refused.status_code == 502
                assert "user_id" in refused.json()["error"]
        finally:
            program.kill()
            program.communicate()


def test_every_sample_is_run() -> None:
    names = re.findall(r"```\w+\n(?:#|//) (\S+)\n", PAGE)
    assert names == ["shop/live.py", "shop/views.py", "tasks.py", "server.mjs"]
    assert PAGE.count("```") == 2 * len(names)
