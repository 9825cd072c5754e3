"""Every code that a peer may act on, against the table in the protocol reference."""

import pytest

from portico.wire.codes import ABNORMAL, Advice, CloseCode, ErrorCode, advice_for, close_label

CLOSE_CODES = {
    1000: Advice.AS_IT_LIKES,
    1001: Advice.AS_IT_LIKES,
    1002: Advice.NO,
    1003: Advice.NO,
    1007: Advice.NO,
    1008: Advice.NO,
    1009: Advice.NO,
    1011: Advice.BACK_OFF,
    1012: Advice.SPREAD,
    1013: Advice.BACK_OFF,
    4000: Advice.YES,
    4001: Advice.NO,
    4003: Advice.NO,
    4008: Advice.RESUME,
    4009: Advice.NO,
    4010: Advice.NO,
    4029: Advice.BACK_OFF,
}
ERROR_CODES = {
    "bad_json",
    "not_an_object",
    "binary_not_supported",
    "missing_field",
    "bad_field",
    "unknown_type",
    "unknown_dialect",
    "not_registered",
    "unknown_request",
    "too_large",
    "rate_limited",
    "unauthorized",
    "forbidden",
    "not_found",
    "unavailable",
    "internal",
}


def test_the_catalogue_is_the_reference_s() -> None:
    assert {int(code): code.advice for code in CloseCode} == CLOSE_CODES
    assert {code.value for code in ErrorCode} == ERROR_CODES


@pytest.mark.parametrize("code", list(CLOSE_CODES))
def test_advice_for_a_code_of_ours(code: int) -> None:
    assert advice_for(code) is CLOSE_CODES[code]
    (member,) = (member for member in CloseCode if member == code)
    assert member.meaning


@pytest.mark.parametrize("code", [ABNORMAL, 1005, 1014, 3000, 4999])
def test_a_foreign_code_was_the_network_s_doing(code: int) -> None:
    assert advice_for(code) is Advice.BACK_OFF


@pytest.mark.parametrize(
    ("code", "label"),
    [(1000, "1000"), (1006, "1006"), (4029, "4029"), (3000, "other"), (4999, "other")],
)
def test_what_a_client_makes_up_is_one_label(code: int, label: str) -> None:
    assert close_label(code) == label
