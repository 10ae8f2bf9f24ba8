"""What jobs are expected to cost, by what was charged and by what the server lists."""

from seedance_async import GenerationRequest
from seedance_async.api.models import ModelInfo
from seedance_async.journal import kind_text
from seedance_async.session.credit_limit import PriceTable
from seedance_async.session.estimate import Cost, cost_of, learn_charges
from tests.support.for_each import for_each

PRICES = {"unit": "credits_per_second", "480p": 4, "1080p": 15.5}


def listed(*, durations=(4, 10), resolutions=("480p", "1080p"), pricing=PRICES):
    table = PriceTable()
    table.list_models([ModelInfo("seedance-2.0", durations, (), resolutions, pricing, {})])
    return table


def cost(table, **fields):
    return cost_of(GenerationRequest("a river", **fields).kind, table)


@for_each(
    ("fields", "expected"),
    [
        ({"duration": 5, "resolution": "480p"}, Cost(20)),
        ({"duration": 5, "resolution": "1080p"}, Cost(78)),
        ({"duration": 5}, Cost(78, is_ceiling=True)),
        ({"resolution": "480p"}, Cost(40, is_ceiling=True)),
        ({}, Cost(155, is_ceiling=True)),
        ({"duration": -1, "resolution": "480p"}, Cost(40, is_ceiling=True)),
        ({"duration": 5, "resolution": "4k"}, Cost(None)),
        ({"model": "another"}, Cost(None)),
    ],
)
def test_a_listed_price_is_a_ceiling_where_the_request_leaves_things_to_the_server(
    fields, expected
):
    assert cost(listed(), **fields) == expected


@for_each(
    "gaps",
    [{"durations": ()}, {"resolutions": ()}, {"resolutions": ("480p", "4k")}, {"pricing": 7}],
)
def test_a_list_with_gaps_tells_no_ceiling(gaps):
    assert cost(listed(**gaps)) == Cost(None)


def test_what_was_charged_comes_first_and_what_was_listed_before_what_is_similar():
    table = listed()
    request = GenerationRequest("a fox", duration=4, resolution="480p")
    learn_charges(table, {kind_text(request): 7})
    assert cost(table, duration=4, resolution="480p") == Cost(7)
    assert cost(table, duration=8, resolution="480p") == Cost(32), "as listed"
    assert cost(table, duration=8, resolution="480p", model="another") == Cost(14), "as similar"
    assert cost(table, model="another") == Cost(None)
