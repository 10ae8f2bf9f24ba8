"""A table of checks: every row is checked, and the one that fails is named."""

import pytest

from tests.support.for_each import for_each


def test_every_row_is_checked_with_every_row_of_another_table():
    checked = []

    @for_each("a", [1, 2])
    @for_each(("b", "c"), [(3, 4), (5, 6)])
    def check(a, b, c):
        checked.append((a, b, c))

    check()
    assert checked == [(1, 3, 4), (1, 5, 6), (2, 3, 4), (2, 5, 6)]


def test_the_row_that_fails_is_in_the_message(pytester):
    pytester.makepyfile(
        """
        import pytest
        from tests.support.for_each import for_each

        @for_each("value", ["good", "bad"])
        def test_it(value, tmp_path):
            assert tmp_path.is_dir()
            assert value == "good"

        @for_each("value", [1, 10**5000])
        def test_nothing_is_raised(value):
            with pytest.raises(ValueError):
                repr(value) if value == 1 else repr([value])
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:asyncio")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*in row 1 of the table: value='bad'", "*in row 0 of *value=1"])


def test_a_table_needs_rows_of_the_right_length():
    with pytest.raises(ValueError, match="without rows"):
        for_each("value", [])
    with pytest.raises(ValueError, match="zip"):
        for_each(("a", "b"), [(1,)])(lambda a, b: None)()


def test_a_row_that_cannot_be_shown_is_told_by_its_number_and_kind():
    @for_each("value", [10**5000])
    def check(value):
        raise LookupError

    with pytest.raises(LookupError) as caught:
        check()
    assert caught.value.__notes__ == [
        "in row 0 of the table: value=<int>",
    ]
