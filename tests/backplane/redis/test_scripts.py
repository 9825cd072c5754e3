"""Every script is a file, and every file a script."""

from pathlib import Path

from service.backplane.redis import scripts
from service.redis.scripts import Script


def test_every_file_is_a_script_and_every_script_a_file() -> None:
    folder = Path(scripts.__file__).parent
    found = {name: one for name, one in vars(scripts).items() if isinstance(one, Script)}
    assert {f"{name.lower()}.lua" for name in found} == {file.name for file in folder.glob("*.lua")}
    assert set(scripts.ORDERED) <= set(found.values())
