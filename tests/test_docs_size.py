"""The program in size-a-deployment.md: users stay in their shard, and one shard more moves few."""

import re
from collections import Counter
from pathlib import Path
from textwrap import dedent

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "size-a-deployment.md"
USERS = [f"u{number}" for number in range(3000)]


def test_the_choice_of_a_shard() -> None:
    [program] = re.findall(r"^ *```python\n(.*?)^ *```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(dedent(program), names)
    shard_of = names["shard_of"]
    assert callable(shard_of)
    three = ["https://a.example.com", "https://b.example.com", "https://c.example.com"]
    four = [*three, "https://d.example.com"]
    before = {user: shard_of(user, three) for user in USERS}
    after = {user: shard_of(user, four) for user in USERS}
    assert all(abs(count - 1000) < 150 for count in Counter(before.values()).values())
    assert before == {user: shard_of(user, three[::-1]) for user in USERS}
    moved = [user for user in USERS if before[user] != after[user]]
    assert {after[user] for user in moved} == {"https://d.example.com"}
    assert abs(len(moved) - 750) < 120
