"""The API fuzzed from its own description: whatever is sent, it is never the server's fault."""

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # now, at rest: Python 3.11 may fail to parse it deep within a test (python/cpython#106905)
from hypothesis import HealthCheck, given, settings

FAST = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SLOW = settings(FAST, max_examples=300, derandomize=False)


def fuzz(app, how):
    described = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) >= 11
    for operation in operations:

        @how
        @given(operation.as_strategy())
        def send(case):
            assert case.call(headers={"Host": "localhost"}).status_code < 500

        send()


def test_nothing_that_is_sent_makes_a_server_error(service, build):
    fuzz(build(service), FAST)


@pytest.mark.slow
def test_nothing_of_very_much_makes_a_server_error(service, build):
    fuzz(build(service), SLOW)
