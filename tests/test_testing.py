"""The pytest plugin, used by a plain and an async test as an application would."""

import asyncio

import pytest

from seedance_async import Backoff, GenerationRequest, SeedanceSession, SubmitUncertainError

REQUEST = GenerationRequest("A river in autumn", duration=4)


def test_the_fixture_works_in_a_plain_test(seedance_emulator):
    async def application():
        async with SeedanceSession(poll=Backoff(initial=0.05, maximum=0.2)) as session:
            return await session.generate(REQUEST)

    assert asyncio.run(application()).status == "succeeded"
    assert seedance_emulator.ledger.charged_prompts() == {"A river in autumn": 1}


@pytest.mark.seedance_emulator(submit_faults={"drop_after_accept": 1.0})
async def test_the_marker_sets_the_emulators_options_for_an_async_test(seedance_emulator):
    async with SeedanceSession() as session:
        with pytest.raises(SubmitUncertainError):
            await session.generate(REQUEST)
    assert len(seedance_emulator.ledger.charged) == 1


def test_an_emulator_that_cannot_start_fails_the_test_with_its_reason(pytester):
    pytester.makeconftest('pytest_plugins = ["seedance_async.testing"]')
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.seedance_emulator(host="no such host")
        def test_never(seedance_emulator):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    assert "no such host" in result.stdout.str() or "gaierror" in result.stdout.str()
