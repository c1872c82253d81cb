"""The API fuzzed from its own description: whatever is sent, it is never the server's fault."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

schema = schemathesis.pytest.from_fixture("described")
FAST = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SLOW = settings(FAST, max_examples=300, derandomize=False)


@pytest.fixture
def described(service, build):
    return schemathesis.openapi.from_asgi("/openapi.json", build(service), headers={"Host": "localhost"})


@schema.parametrize()
@FAST
def test_nothing_that_is_sent_makes_a_server_error(case):
    assert case.call(headers={"Host": "localhost"}).status_code < 500


@pytest.mark.slow
@schema.parametrize()
@SLOW
def test_nothing_of_very_much_makes_a_server_error(case):
    assert case.call(headers={"Host": "localhost"}).status_code < 500
