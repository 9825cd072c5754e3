"""The programs of "Push what must not be missed", as they stand there: a publisher, and a page in Node."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from portico.wire.codes import CloseCode
from tests.gateways import ROOT, clean_environment, gateway
from tests.test_docs_tutorial import NODE, node

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "how-to" / "durable-events.md").read_text()

# A browser's part, and what happens to it. What it says is compared with what is expected, line by line.
DRIVER = """
import { spawnSync } from "node:child_process";
import { follow } from "./durable.mjs";

const [url, python] = process.argv.slice(2);
const items = new Map();
const storage = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
const sockets = [];
class Counted extends WebSocket { constructor(url) { super(url); sockets.push(this); } }
globalThis.WebSocket = Counted;

let said = [], registered = 0, woken = () => {};
const say = (line) => { said.push(line); woken(); };
const identity = { user_id: "u1", client_id: "page" };
const open = () => follow({
  url, identity, storage, onEvent: (push) => say(push.order ?? push.type), onGap: (streams) => say(`gap ${streams}`),
});
const until = async (count) => { while (said.length < count) await new Promise((wake) => (woken = wake)); };
const shipped = (...orders) => {
  const done = spawnSync(python, ["-c", `import order_shipped as o\\nfor n in ${JSON.stringify(orders)}: ` +
    "o.order_shipped('u1', n)"], { stdio: "inherit" });
  if (done.status !== 0) process.exit(1);
};
const isRegistered = async () => {
  while (!items.get("portico:u1:page") || sockets.at(-1).readyState !== 1) await new Promise((w) => setTimeout(w, 20));
};

let end = open();
await isRegistered();
shipped(1, 1);                      // the same id twice
await until(1);
sockets.at(-1).close();             // the network: it comes back by itself
shipped(2, 3);
await until(3);
end();                              // the page is closed …
shipped(4);
end = open();                       // … and loaded again
await until(4);
end();
shipped(5, 6, 7, 8, 9);             // more than the history keeps
end = open();
await until(5);
shipped(10);
await until(6);
end();
console.log(JSON.stringify(said));
process.exit(0);
"""


def sample(name: str) -> str:
    """A program of the page, by the comment in its first line."""
    (found,) = re.findall(rf"```\w+\n(?:#|//) {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.mark.skipif(NODE is None, reason="needs Node")
def test_a_page_resumes_over_a_cut_and_a_reload_and_is_told_of_a_gap(tmp_path: Path) -> None:
    (tmp_path / "order_shipped.py").write_text(sample("order_shipped.py"))
    (tmp_path / "durable.mjs").write_text(sample("durable.js"))
    (tmp_path / "driver.mjs").write_text(DRIVER)
    (tmp_path / "gateway").mkdir()
    with gateway(tmp_path / "gateway", mode="integrated", settings={"PORTICO_HISTORY_LENGTH": 3}) as running:
        ended = subprocess.run(
            [*node(tmp_path / "driver.mjs"), f"{running.websocket_url}/api/websocket", sys.executable],
            cwd=tmp_path,
            env=clean_environment(GATEWAY_URL=running.base_url),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == '[1,2,3,4,"gap user:u1",10]'


def test_the_page_of_the_how_to_uses_what_it_told_to_paste() -> None:
    page, module = sample("page.js"), sample("durable.js")
    given = set(re.findall(r"^  (\w+):", page, re.MULTILINE))
    (taken,) = re.findall(r"export function follow\(\{ (.*?) \}\)", module)
    assert given == {name.partition(" ")[0] for name in taken.split(", ")} - {"storage"}
    assert PAGE.count("```") == 6
    (listed,) = re.findall(r"dontComeBack = (\[.*?\])", module)
    assert json.loads(listed) == [int(code) for code in CloseCode if code.advice.value == "no"]
