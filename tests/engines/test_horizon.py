"""How far back a reader of rows looks: never past one that may still come, and no further."""

from hypothesis import given
from hypothesis import strategies as st

from seedance_async.engines.dbos.horizon import OVERLAP, Horizon


def test_what_stands_still_is_not_read_again():
    now = 0.0
    horizon = Horizon(lambda: now)
    assert horizon.since is None
    horizon.saw([50_000, 20_000, None])
    assert horizon.since == 40_000
    now = OVERLAP
    horizon.saw([50_000])
    assert horizon.since == 50_000
    now = 1000.0
    horizon.saw([50_000, 51_000])
    assert horizon.since == 50_000


def test_where_nothing_is_all_is_asked_for():
    horizon = Horizon()
    horizon.saw([])
    assert horizon.since is None


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, int(OVERLAP)))),
    st.sampled_from([0.5, 1.0, 3.7, 12.0]),
)
def test_every_row_is_read_however_late_it_is_committed(rows, pause):
    """Rows by the time of their creation, and by how much later they can be seen."""
    now = 0.0
    horizon, read = Horizon(lambda: now), set()
    while now < 100 + 2 * OVERLAP:
        found = {
            number: 1000 * created
            for number, (created, late) in enumerate(rows)
            if created + late <= now and 1000 * created >= (horizon.since or 0)
        }
        read |= found.keys()
        horizon.saw(found.values())
        now += pause
    assert read == set(range(len(rows)))
