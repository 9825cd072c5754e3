"""The model of what connections cost: exact where figures are exact, never below nothing, and what follows from it."""

from pathlib import Path

import msgspec
import pytest

from service.cli.capacity_model import (
    DELIVERY_SECONDS,
    HEARTBEAT_SECONDS,
    BadReport,
    Demand,
    Measured,
    Model,
    Stair,
    choose,
    documented,
    fit,
    read,
    size,
)

RECORDED = Path(__file__).parent / "recorded"


def _stair(connections: int, heartbeats: float, deliveries: float, model: Model) -> Stair:
    return Stair(
        connections, heartbeats, deliveries, model.memory(connections), model.processor(heartbeats, deliveries)
    )


TRUTH = Model("serve", 1, 80e6, 1300, 0.02, 30e-6, 15e-6, "itself")


def test_a_fit_finds_what_the_figures_were_made_from() -> None:
    stairs = [
        _stair(connections, heartbeats, deliveries, TRUTH)
        for connections, heartbeats, deliveries in ((100, 20, 900), (500, 100, 50), (1000, 400, 700), (5000, 100, 8000))
    ]
    model = fit(Measured("serve", 1, tuple(stairs)), "here")
    assert model.apart
    assert [model.a, model.b, model.c, model.d, model.e] == pytest.approx([80e6, 1300, 0.02, 30e-6, 15e-6])


def test_where_heartbeats_and_deliveries_grow_together_their_ratio_is_the_documented_one() -> None:
    stairs = [_stair(n, n / 5, n / 2, TRUTH) for n in (100, 300, 600, 1000)]
    model = fit(Measured("serve", 1, tuple(stairs)), "here")
    assert not model.apart
    assert model.d / model.e == pytest.approx(HEARTBEAT_SECONDS / DELIVERY_SECONDS)
    for stair in stairs:
        assert model.processor(stair.heartbeats, stair.deliveries) == pytest.approx(stair.processor)


def test_no_coefficient_is_below_nothing() -> None:
    falling = (Stair(100, 20, 50, 90e6, 0.5), Stair(1000, 200, 500, 80e6, 0.1))
    model = fit(Measured("serve", 1, falling), "here")
    assert min(model.a, model.b, model.c, model.d, model.e) >= 0
    assert model.b == 0
    rising = (Stair(100, 20, 50, 1e6, 0.01), Stair(1000, 200, 500, 80e6, 0.9))
    assert fit(Measured("serve", 1, rising), "here").a == 0


def test_only_stairs_that_held_count_and_the_mode_is_chosen() -> None:
    [mode] = read(RECORDED / "capacity-every-5-s.json")
    assert [stair.connections for stair in mode.stairs] == [100, 300, 600]
    split = Measured("split", 3, mode.stairs)
    short = Measured("workers", 2, mode.stairs[:1])
    assert choose([mode, split, short], None) is split
    assert choose([mode, short], None) is mode
    assert choose([mode, split], "serve") is mode
    with pytest.raises(BadReport, match=r"2 stairs of mode 'workers' that held.*serve \(3\), workers \(1\)"):
        choose([mode, short], "workers")


def test_a_stair_that_did_not_hold_or_was_not_measured_is_left_out(tmp_path: Path) -> None:
    report = msgspec.json.decode((RECORDED / "capacity-every-5-s.json").read_bytes())
    first, second, _ = report["modes"][0]["result"]["stages"]
    first["verdict"], second["server"] = "invalid", None
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(report))
    [mode] = read(tmp_path / "report.json")
    assert [stair.connections for stair in mode.stairs] == [600]


def _demand(connections: int, *, broadcast_rate: float = 0, per_node: int = 10_000, durable_rate: float = 0) -> Demand:
    return Demand(connections, 2000, broadcast_rate, durable_rate, 30, 200, 0.5, per_node)


def test_the_nodes_are_what_connections_or_processor_need_and_one_more() -> None:
    by_connections = size(documented(), _demand(1_000_000))
    assert (by_connections.needed_by_connections, by_connections.nodes) == (100, 101)
    by_processor = size(documented(), _demand(1_000_000, broadcast_rate=10))
    work = 1e6 / 30 * HEARTBEAT_SECONDS + (2000 + 1e7) * DELIVERY_SECONDS
    assert by_processor.needed_by_processor == -(-work // 0.5)
    assert by_processor.nodes == by_processor.needed_by_processor + 1
    assert by_processor.processor_per_node_one_missing <= 0.5
    assert by_processor.processor_per_node < by_processor.processor_per_node_one_missing
    assert by_processor.deliveries_per_second == 10_002_000
    assert by_processor.network_out_bits_per_second > 8 * 200 * 10_002_000
    assert size(documented(), _demand(100)).nodes == 2


def test_the_constant_part_of_a_process_is_what_it_does_not_have_for_others() -> None:
    several = Model("split", 3, 240e6, 3000, 0.6, 1e-5, 1e-5, "here")
    sized = size(several, _demand(20_000, per_node=20_000))
    assert sized.memory_per_node == 80e6 + 3000 * 20_000
    assert sized.processor_per_node_one_missing == pytest.approx(0.2 + 20_000 / 30 * 1e-5 + 2000 * 1e-5)
    with pytest.raises(BadReport, match=r"at rest takes 0.60 of a core, and may take 0.5"):
        size(Model("serve", 1, 80e6, 1000, 0.6, 1e-5, 1e-5, "here"), _demand(100))


def test_durable_pushes_cost_redis_shards() -> None:
    assert size(documented(), _demand(1000)).redis_shards == 1
    assert size(documented(), _demand(1000, durable_rate=23_500)).redis_shards == 3
