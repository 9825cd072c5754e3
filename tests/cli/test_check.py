"""`portico check`: what it prints, and that its exit code is what `serve` would do."""

from pathlib import Path

import pytest

from tests.cli.running import portico


async def test_check_prints_what_is_in_force_and_masks_secrets(tmp_path: Path) -> None:
    code, out, err = await portico("check", cwd=tmp_path, WEBSOCKET_HANDSHAKE_KEY="sesame-open-now", PORT="3000")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "3000" in rows["PORT"]
    assert "environment" in rows["PORT"]
    assert "sesame" not in out


@pytest.mark.parametrize("command", ["check", "serve"])
async def test_bad_settings_are_a_sentence_each_and_exit_code_2(command: str, tmp_path: Path) -> None:
    code, out, err = await portico(command, cwd=tmp_path, PORT="many", PORTICO_QUEUE_LIMTI="5")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 2
    assert all(line.startswith("portico: ") for line in err.splitlines())
    assert "PORTICO_QUEUE_LIMIT" in err
