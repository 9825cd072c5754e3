"""How many connections a user may have, on one node and over several."""

from tests.fakes import stages

LIMIT = 2


def test_one_too_many_on_one_node_is_refused_before_it_registers() -> None:
    [at] = stages(1, max_connections_per_user=LIMIT)
    peers = [at.client(client_id=f"c{n}", user_id="u1")[1] for n in range(LIMIT)]
    session, peer = at.connect("/ws")
    at.say(session, {"type": "c_client_register", "client_id": "c9", "user_id": "u1"})
    [answer] = peer.take()
    assert (answer["type"], answer["reason"], answer["client_id"]) == ("registration_rejected", "rate_limited", "c9")
    assert "2 connections" in answer["message"]
    assert (peer.close_code, [other.close_code for other in peers]) == (1013, [None, None])
    assert session not in at.gateway.hub
    # Others, and connections of nobody, are not concerned.
    at.client(client_id="c9", user_id="u2")
    for n in range(LIMIT + 1):
        at.client(client_id=f"n{n}")


def test_a_client_that_comes_back_takes_its_own_place() -> None:
    a, b = stages(2, max_connections_per_user=1)
    _, first = a.client(client_id="c1", user_id="u1")
    a.clock.move(1)
    _, second = a.client(client_id="c1", user_id="u1")
    a.clock.move(1)
    _, third = b.client(client_id="c1", user_id="u1")
    assert [peer.close_code for peer in (first, second, third)] == [4009, 4009, None]


def test_a_client_may_say_who_it_is_again() -> None:
    [at] = stages(1, max_connections_per_user=1)
    session, peer = at.client(client_id="c1", user_id="u1")
    [answer] = at.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u1", "username": "ann"})
    assert (answer["type"], peer.close_code) == ("registration_success", None)


def test_the_limit_counts_over_all_nodes_and_dialects_and_the_newest_goes() -> None:
    a, b, c = stages(3, max_connections_per_user=LIMIT)
    _, first = a.client(client_id="c1", user_id="u1")
    a.clock.move(1)
    _, second = b.connect("/ws/u1")
    a.clock.move(1)
    _, third = c.client(client_id="c3", user_id="u1")
    _, fourth = c.connect("/ws/u1")
    assert [peer.close_code for peer in (first, second, third, fourth)] == [None, None, 1013, 1013]
    assert third.closes[0][1] == "this user is at the limit of connections"
    assert c.gateway.user_limit.refused == 2


def test_where_one_goes_another_may_come() -> None:
    a, b = stages(2, max_connections_per_user=1)
    session, first = a.client(client_id="c1", user_id="u1")
    a.close(session)
    a.clock.move(1)
    _, second = b.client(client_id="c2", user_id="u1")
    assert (first.close_code, second.close_code) == (None, None)


def test_a_node_that_says_nothing_shuts_nobody_out() -> None:
    a, b = stages(2, max_connections_per_user=1)
    a.client(client_id="c1", user_id="u1")
    a.gateway.cluster_messages.heard = lambda *_: None  # type: ignore[method-assign]
    a.clock.move(1)
    _, second = b.client(client_id="c2", user_id="u1")
    b.pass_time(5)
    assert second.close_code is None


def test_without_a_limit_nobody_is_asked() -> None:
    a, b = stages(2)
    for n in range(5):
        a.client(client_id=f"c{n}", user_id="u1")
        b.client(client_id=f"d{n}", user_id="u1")
    assert len(a.gateway.hub) + len(b.gateway.hub) == 10
