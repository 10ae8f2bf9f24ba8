"""What a universe contains, drawn from its seed.

Everything that happens follows from the plan: the programs, the faults of the server in the order
of its requests, the kills. A plan is plain data, so that it can be printed, and made smaller.
"""

import random

import attrs

#: How a caller breaks off what it waits for.
WRAPS = ("cancel", "cancel often", "timeout", "scope", "move_on", "fail_after", "sibling")

#: What may become of a submit; see `server`.
SUBMIT_FAULTS = (
    "refused connection", "no route", "lost before", "lost after", "silent", "silent and charged",
    "cut short", "cut short unseen", "400", "401", "402", "403", "404", "422", "429", "429 later",
    "503 later", "408", "409", "499", "500", "502", "503", "504", "302", "html", "slow",
    "very slow", "error with charge", "429 with charge", "not a success", "nested id", "no id",
    "another id", "no charge told", "odd charge", "trace id", "echo", "escaped echo",
    "hangs up with key", "exit",
)  # fmt: skip

#: What may become of a query or a cancellation.
QUERY_FAULTS = (
    "refused connection", "lost before", "silent", "404", "401", "403", "429", "429 later", "500",
    "503", "unknown status", "queued again", "another id", "cut short", "html", "echo", "slow",
)  # fmt: skip

#: What may become of a callback.
CALLBACK_FAULTS = (
    "lost",
    "late",
    "very late",
    "doubled",
    "another id",
    "forged",
    "garbage",
    "early",
)


@attrs.frozen
class Item:
    """One video that somebody wants."""

    prompt: str
    key: str | None = None
    duration: int = 5
    ratio: str | None = None


@attrs.frozen
class Op:
    """One step of a program; see `program`."""

    kind: str
    items: tuple[int, ...] = ()
    wrap: str | None = None
    after: float = 0.0  # seconds until the wrap strikes
    retries: int = 0
    again: str = "request"  # how what failed is tried again: by request, by key, or everything
    take: int = 1  # jobs that are looked at before a loop is left


@attrs.frozen
class Life:
    """One run of the program, in a process of its own.

    Attributes:
        ops: what it does.
        together: whether it does all of them at once.
        loose: whether it then leaves the session without waiting for them.
        leave: how it leaves the session: "wait", "error", "cancel".
        kill: ("effect" | "turn" | "time", when), or None.
        stop: when it is stopped, and for how long, or None.
        close: when its loop is closed in the middle, as a kill, or None.
        disk_full: from when to when it can write nothing, or None.
        resubmit: the session's `resubmit_uncertain`.
        second: another process at the same time, or None; it may have one, too.
        starts: seconds after the first process.
        place: where its process runs: only there one can see whether it is alive.
        pause: seconds until the next life.
    """

    ops: tuple[Op, ...]
    together: bool = False
    loose: bool = False
    leave: str = "wait"
    kill: tuple[str, float] | None = None
    stop: tuple[float, float] | None = None
    close: tuple[str, float] | None = None
    disk_full: tuple[float, float] | None = None
    resubmit: bool = False
    second: "Life | None" = None
    starts: float = 0.0
    place: str = "here"
    pause: float = 1.0

    @property
    def at_once(self):
        """This run and those at the same time."""
        return (self, *(() if self.second is None else self.second.at_once))


@attrs.frozen
class Plan:
    """A universe before it begins."""

    seed: int
    items: tuple[Item, ...]
    lives: tuple[Life, ...]
    submit_faults: tuple[str | None, ...] = ()
    query_faults: tuple[str | None, ...] = ()
    callback_faults: tuple[str | None, ...] = ()
    journal: bool = True
    shared: bool = False
    limit: int | None = None
    prices: tuple[int, ...] = (40,)  # the n-th is that of the n-th charge; the last one stays
    ratio_costs: bool = False
    webhooks: bool = False
    reports_sending: bool = True
    max_in_flight: int = 3
    max_uncertain: int = 10
    events: bool = False
    quick: bool = True  # whether retries give up soon


def make_plan(seed):
    """The plan of a seed; one in twenty is a scene, which would hardly ever happen by chance."""
    maker = _Maker(random.Random(seed))
    return maker.scene(seed) if seed % 20 == 11 else maker.plan(seed)


class _Maker:
    def __init__(self, rng):
        self.rng = rng
        self.many = rng.random() < 0.15

    def chance(self, share):
        return self.rng.random() < share

    def plan(self, seed):
        rng = self.rng
        items = self._items()
        journal, lives = self.chance(0.85), rng.choice((1, 2, 2, 3))
        limited, shared = self.chance(0.3), journal and self.chance(0.35)
        return Plan(
            seed=seed,
            items=items,
            lives=tuple(
                self._life(len(items), last=number == lives - 1, others=2 * shared)
                for number in range(lives)
            ),
            submit_faults=self._faults(SUBMIT_FAULTS, 12),
            query_faults=self._faults(QUERY_FAULTS, 20),
            callback_faults=self._faults(CALLBACK_FAULTS, 8),
            journal=journal,
            shared=shared,
            limit=rng.choice((40, 100, 150, 200, 400, 1500, 4000)) if limited else None,
            prices=self._prices(),
            ratio_costs=self.chance(0.2),
            webhooks=self.chance(0.3),
            reports_sending=not self.chance(0.1),
            max_in_flight=rng.choice((1, 2, 3, 5, 10)),
            max_uncertain=rng.choice((2, 3, 10)),
            events=self.chance(0.2),
            quick=self.chance(0.7),
        )

    def scene(self, seed):
        """Something that takes several processes and the right moment."""
        return self.rng.choice((self.revival, self.doubt))(seed)

    def revival(self, seed):
        """A process is stopped as it submits, and wakes while another is about to do it instead.

        The other one has found it dead, and waits where a submit of its own was refused.
        """
        stopped, asleep = self.rng.uniform(0.0, 0.2), 310.0
        first = Life(ops=(Op("submit", (0,)),), stop=(stopped, asleep), place="there")
        starts = stopped + asleep - self.rng.uniform(0.0, 7.0)
        other = self.rng.choice((self._held_back(), Life(ops=(Op("submit", (0,)),))))
        other = attrs.evolve(other, starts=starts, resubmit=True)
        refusal = self.rng.choice(("429 soon", "429 later"))
        return self._shared(seed, ("slow", refusal), attrs.evolve(first, second=other))

    def doubt(self, seed):
        """A process waits to submit what was refused; another does, and gets no answer."""
        quick = Life(ops=(Op("submit", (0,)),), starts=self.rng.uniform(4.0, 10.0))
        other = attrs.evolve(self._held_back(), starts=2.0, second=quick)
        first = Life(ops=(Op("submit", (0,)),), second=other)
        return self._shared(seed, ("422", "429 soon", "lost after"), first)

    def _held_back(self):
        """Its first submit is refused for a time, and so it waits with the second one."""
        refused = Op("submit", (1,), wrap="timeout", after=self.rng.uniform(0.5, 3.0))
        return Life(ops=(refused, Op("submit", (0,))))

    def _shared(self, seed, faults, life):
        return Plan(
            seed=seed,
            items=(Item("prompt 0 of a video"), Item("prompt 1 of a video")),
            lives=(life,),
            submit_faults=(*faults, *self._faults(SUBMIT_FAULTS, 6)),
            shared=True,
            quick=False,
        )

    def _items(self):
        rng, items = self.rng, []
        for number in range(rng.choice((6, 9, 12)) if self.many else rng.randint(1, 4)):
            if items and self.chance(0.2):
                items.append(rng.choice(items))  # the same once more
                continue
            if items and items[-1].key is not None and self.chance(0.3):
                items.append(attrs.evolve(items[-1], prompt=f"prompt {number} with an old key"))
                continue
            keyed = self.chance(0.25)
            items.append(
                Item(
                    prompt=f"prompt {number} of a video" + (" with a key" if keyed else ""),
                    key=f"shot-{number}" if keyed else None,
                    duration=rng.choice((5, 5, 5, 10)),
                    ratio=rng.choice((None, "16:9", "1:1")),
                )
            )
        return tuple(items)

    def _prices(self):
        rng = self.rng
        return rng.choice(
            ((40,), (40,), (0, 40), (40, 40, 90), (40, 60, 40, 300), (10, 20, 30, 40, 50), (100, 1))
        )

    def _faults(self, kinds, count):
        """A few kinds, so that each universe has a character."""
        rate = self.rng.choice((0.0, 0.1, 0.4, 0.4, 0.8))
        menu = self.rng.sample(kinds, self.rng.randint(1, 4))
        if self.chance(0.2) and "another id" in kinds:
            menu.append("another id")  # the worst of all
        if self.chance(0.2) and "lost after" in kinds:
            menu += ["lost after", "lost after"]
        return tuple(
            self.rng.choice(menu) if self.chance(rate) else None
            for _ in range(count if rate else 0)
        )

    def _life(self, items, *, last, others=0, second=False):
        rng = self.rng
        quiet = last and self.chance(0.3)  # the last often only looks at what is there
        kill = None if quiet or not self.chance(0.4) else self._kill()
        return Life(
            ops=self._ops(items),
            together=self.chance(0.4),
            loose=self.chance(0.1),
            leave=rng.choice(("wait", "wait", "wait", "error", "cancel")),
            kill=kill,
            stop=(self._moment(), rng.choice((10.0, 130.0, 4000.0))) if self.chance(0.15) else None,
            close=("effect", rng.randint(1, 20)) if self.chance(0.08) else None,
            disk_full=(self._moment(), self._moment() + 20) if self.chance(0.06) else None,
            resubmit=self.chance(0.1),
            second=self._second(items, others=others, second=second),
            starts=self._moment() if second else 0.0,
            place=rng.choice(("here", "here", "there")),
            pause=rng.choice((0.0, 5.0, 300.0)),
        )

    def _second(self, items, *, others, second):
        """Others go on at the same time, most often, if the journal can be shared with them."""
        if others > 0 and self.chance(0.7):
            return self._life(items, last=False, others=others - 1, second=True)
        if second or others or not self.chance(0.1):
            return None
        return self._life(items, last=False, second=True)

    def _kill(self):
        how = self.rng.choice(("effect", "effect", "turn", "time"))
        if how == "effect":
            return how, self.rng.randint(1, 60)
        if how == "turn":
            return how, self.rng.randint(1, 300)
        return how, self._moment()

    def _moment(self):
        """Seconds: the beginning is where most happens."""
        return self.rng.choice((0.0, 0.01, 0.3, 1.0, 5.0, 60.0)) * self.rng.random()

    def _ops(self, items):
        rng, ops = self.rng, []
        for _ in range(rng.randint(1, 4)):
            kind = rng.choice(
                (
                    "submit",
                    "submit",
                    "submit",
                    "run",
                    "run",
                    "generate",
                    "stream",
                    "attach",
                    "cancel",
                )
            )
            wrapped = kind != "attach" and self.chance(0.4)
            count = (
                1 if kind in ("submit", "generate", "attach", "cancel") else rng.randint(1, items)
            )
            ops.append(
                Op(
                    kind=kind,
                    items=tuple(rng.sample(range(items), count)),
                    wrap=rng.choice(WRAPS) if wrapped else None,
                    after=self._moment(),
                    retries=rng.choice((0, 1, 1, 3)),
                    again=rng.choice(("request", "request", "key", "everything")),
                    take=rng.randint(1, 4),
                )
            )
        return tuple(ops)
