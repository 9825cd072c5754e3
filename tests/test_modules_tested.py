"""Every module of `service` and `portico` has a test file of its own name, in the folder of its own name: what is in
`service/core/push/delivery.py` is tested in `tests/core/push/test_delivery.py`, and what is in `portico/wire/codes.py`
in `tests/portico/wire/test_codes.py`. Those that are tested elsewhere are listed here, with where, and why.
"""

from pathlib import Path

from tests.gateways import ROOT

ELSEWHERE = {
    # Entry points, which are tested as processes.
    "service/__main__.py": "cli/test_main.py",
    "service/asgi.py": "transports/test_asgi.py",
    "service/assembly.py": "test_app.py",
    "service/cli/__main__.py": "cli/test_main.py",
    "service/serving.py": "test_app.py",
    "service/settings/__main__.py": "settings/test_shown.py",
    # Ports, which do nothing: one suite runs over all that implement them.
    "service/core/audit.py": "test_audit.py",
    "service/core/cluster/backplane.py": "backplane/contract.py",
    "service/core/ports.py": "transports/contract.py",
    "service/core/push/login_store.py": "backplane/login_contract.py",
    "service/core/connections/registrant.py": "core/connections/test_registration.py",
    # Tables, whose rows are compared with what they are about, and values.
    "service/backplane/redis/metrics.py": "backplane/test_deployment.py",
    "service/asgi_types.py": "transports/test_asgi_connection.py",
    "service/core/dialects/envelope_parts.py": "core/dialects/test_envelope.py",
    "service/http/forms.py": "http/test_openapi.py",
    "service/http/table.py": "http/test_reference.py",
    "service/transports/connection_rules.py": "transports/test_connection.py",
    "service/transports/connection_state.py": "transports/test_connection.py",
    # Siblings, or two sides of one exchange, which one suite runs over.
    "service/core/dispatch/guests.py": "core/dispatch/test_remote_dispatch.py",
    "portico/publisher/asynchronous.py": "portico/publisher/test_publishers.py",
    "portico/publisher/blocking.py": "portico/publisher/test_publishers.py",
    "portico/wire/dialects/c_client.py": "portico/wire/dialects/test_decoders.py",
    "portico/wire/dialects/envelope.py": "portico/wire/dialects/test_decoders.py",
    "portico/wire/dialects/requester.py": "portico/wire/dialects/test_decoders.py",
    "portico/wire/dialects/user.py": "portico/wire/dialects/test_forms.py",
    # What every test of their packages uses.
    "portico/version.py": "portico/test_portico.py",
    "portico/wire/faults.py": "portico/wire/dialects/test_decoders.py",
}

ROOMS = {
    # An app in it, and what the app may do wrong.
    "service/own_app": "own_app/test_own_app.py",
    # A worker against an API, from the request to what the page gets.
    "service/chat": "chat/test_completions.py",
    "service/cli/chat.py": "chat/test_completions.py",
}
"""What one suite runs through as a whole, whether or not single modules have tests of their own besides."""


def own_test(module: Path) -> Path:
    """Where a reader looks for the tests of a module, below `tests`."""
    package, *folders = module.parent.parts
    return Path(*([package] if package == "portico" else []), *folders, f"test_{module.stem}.py")


def test_every_module_has_a_test_of_its_own_name() -> None:
    modules = [
        path.relative_to(ROOT)
        for package in ("service", "portico")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert len(modules) > 200
    without = {
        str(module)
        for module in modules
        if not (ROOT / "tests" / own_test(module)).is_file()
        and ROOMS.keys().isdisjoint(map(str, (module, *module.parents)))
    }
    assert without - ELSEWHERE.keys() == set(), "write the tests, or say above where they are"
    assert ELSEWHERE.keys() - without == set(), "these have one, or are gone"
    missing = {test for test in (*ELSEWHERE.values(), *ROOMS.values()) if not (ROOT / "tests" / test).is_file()}
    assert missing == set()
