"""`Schedule`: what happens next. A state machine without clock, network and threads: time comes in, decisions go out.

A source is *waiting* for its time, *running* in a slot, *in overtime* (running for so long that somebody else was given its
slot), *out of its slot* (running, but back or given up: it does not start again before it is told how it ended), *stalled*
(somebody has to change something) or *suspended*.
"""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import ConfigurationError
from fluxsrc.events import Failure, Stage
from fluxsrc.managed import ManagedSource

__all__ = ["Policy", "Schedule"]


def _positive(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not value > 0:
        raise ConfigurationError(f"Policy.{attribute.name} must be positive, not {value!r}")


def _not_negative(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not value >= 0:
        raise ConfigurationError(f"Policy.{attribute.name} must not be negative, not {value!r}")


@attrs.frozen(kw_only=True)
class Policy:
    """How often, how many at once, how patiently. The defaults of times are those of Flux's source-controller.

    Attributes:
        concurrency: Sources that are looked at at the same time, without those in overtime.
        patience: Seconds that a look has a slot for itself. One that takes longer goes on in overtime, beside the others, as
            soon as somebody needs its slot: whoever is slow or hangs must not delay them.
        overtime: Looks that may be in overtime at the same time, four for each slot if it is not given. 0 makes
            `concurrency` strict.
        jitter: Share of the interval by which it varies, either way: sources made together do not stay together.
        min_delay: Seconds after the first failure that may pass by itself; doubled by each further one.
        slow_delay: The same, of a failure that more likely needs somebody: a wrong password, a missing tag, bad content.
        max_delay: Seconds that are never exceeded, except where a remote asks for more patience.
        dependency_delay: Seconds after which a missing dependency is looked for again, should nobody tell.
        grace: Seconds beyond its own timeout after which a source that does not come back is given up.
    """

    concurrency: int = attrs.field(default=8, validator=_positive)
    patience: float = attrs.field(default=5.0, validator=_positive)
    overtime: int = attrs.field(validator=_not_negative)
    jitter: float = attrs.field(
        default=0.05, validator=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.lt(1))
    )
    min_delay: float = attrs.field(default=0.75, validator=_positive)
    slow_delay: float = attrs.field(default=10.0, validator=_positive)
    max_delay: float = attrs.field(default=900.0, validator=_positive)
    dependency_delay: float = attrs.field(default=30.0, validator=_positive)
    grace: float = attrs.field(default=10.0, validator=_positive)

    @overtime.default
    def _overtime(self) -> int:
        return 4 * self.concurrency

    def delay(self, failure: Failure, failures: int, dice: float) -> float | None:
        """Seconds until the next attempt; None if there is none before something changed.

        Args:
            failure: What failed.
            failures: How often in a row, this one included.
            dice: From 0 to 1: where in the spread.
        """
        if failure.stage is Stage.CONFIGURATION:
            return None
        first = self.min_delay if failure.retryable else self.slow_delay
        # Half of it is certain, half is chance: sources that failed together do not come back together.
        pause = min(self.max_delay, first * 2.0 ** min(failures - 1, 60)) * (0.5 + dice / 2)
        return max(pause, failure.retry_after or 0.0)

    def interval(self, seconds: float, dice: float) -> float:
        """An interval with its jitter."""
        return seconds * (1 + self.jitter * (2 * dice - 1))


@attrs.define(eq=False)
class _State:
    managed: ManagedSource
    due: float | None
    """When it is its turn; None: not before something happens."""
    ticket: int = 0
    """Of its entry in the queue; older entries are void."""
    running: bool = False
    again: bool = False
    """Something changed while it ran: it is its turn again at once."""
    removed: bool = False
    """It ran when it was taken away."""
    failures: int = 0


@attrs.define(eq=False)
class Schedule:
    """Which source is looked at next, and when.

    Not thread-safe: one runner owns it. Times are seconds of any clock that does not go backwards.
    """

    policy: Policy = attrs.field(factory=Policy)
    _states: dict[SourceKey, _State] = attrs.field(factory=dict, init=False)
    _queue: list[tuple[float, int, SourceKey]] = attrs.field(factory=list, init=False)
    _tickets: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _dependents: dict[SourceKey, set[SourceKey]] = attrs.field(factory=dict, init=False)
    _ready: set[SourceKey] = attrs.field(factory=set, init=False)
    """Who has an artifact that others may depend on."""
    _slots: dict[SourceKey, float] = attrs.field(factory=dict, init=False)
    """Who has one, and since when: the longest first."""
    _overtime: set[SourceKey] = attrs.field(factory=set, init=False)
    _round: set[SourceKey] | None = attrs.field(default=None, init=False)
    """Who is still to begin in this round; None outside of one."""

    def apply(self, sources: Iterable[ManagedSource], now: float, *, ready: Iterable[SourceKey] = ()) -> None:
        """These sources, and no others. New and changed ones are due now; the others keep their times.

        Args:
            sources: All of them.
            now: The time.
            ready: Who has an artifact already: what depends on them need not wait.

        Raises:
            ConfigurationError: Two have one key, or they depend on each other in a circle. Nothing is changed then.
        """
        wanted = {}
        for managed in sources:
            if managed.key in wanted:
                raise ConfigurationError(f"{managed.key} is there twice")
            wanted[managed.key] = managed
        _check_circles(wanted)
        for key in [key for key in self._states if key not in wanted]:
            state = self._states[key]
            if state.running:
                state.removed, state.due = True, None  # until it comes back: it must not run twice
            else:
                del self._states[key]
        self._ready = (self._ready & wanted.keys()) | set(ready)
        self._dependents = {}
        for key, managed in wanted.items():
            for dependency in managed.depends_on:
                self._dependents.setdefault(dependency, set()).add(key)
            self._update(key, managed, now)

    def _update(self, key: SourceKey, managed: ManagedSource, now: float) -> None:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(managed, None)
            self._wake(key, state, now)
            return
        before, state.managed = state.managed, managed
        if state.removed:
            state.removed = False
            before = attrs.evolve(managed, generation=-1)
        same = attrs.evolve(before, requested_at=managed.requested_at) == managed
        asked = managed.requested_at is not None and managed.requested_at != before.requested_at
        if not same:
            state.failures = 0
        if not same or asked:
            self._wake(key, state, now)

    def request(self, key: SourceKey, now: float) -> bool:
        """Look at a source now, whatever its time; if it runs, again afterwards. False if it is unknown or suspended."""
        state = self._states.get(key)
        if state is None or state.removed or state.managed.suspend:
            return False
        self._wake(key, state, now)
        return True

    def begin_round(self, now: float) -> None:
        """Each source is due now, and begins once until `end_round`, whatever becomes of it; suspended ones do not."""
        self.end_round()  # whoever came during an earlier one has a place in the queue
        self._round = {key for key, state in self._states.items() if not (state.removed or state.managed.suspend)}
        for key, state in self._states.items():
            if key in self._round:
                self._wake(key, state, now)

    def end_round(self) -> None:
        """From here on each begins when its time comes."""
        self._round = None
        self._queue = [(state.due, state.ticket, key) for key, state in self._states.items() if state.due is not None]
        heapq.heapify(self._queue)

    def start(self, now: float, *, at_most: int | None = None) -> list[ManagedSource]:
        """The sources to begin with now, longest due first, no more than there are slots. They count as running.

        Args:
            now: The time.
            at_most: And no more than these, if given.
        """
        begun: list[ManagedSource] = []
        while self._queue and (at_most is None or len(begun) < at_most):
            due, _, key = self._queue[0]
            valid, slot = self._is_valid(self._queue[0]), self.slot_at()
            if valid and (due > now or slot is None or slot > now):
                break
            heapq.heappop(self._queue)
            if not valid:
                continue
            state = self._states[key]
            if self.missing(key) is not None:
                self._at(key, state, now + self.policy.dependency_delay)
                continue
            state.running, state.due, state.again = True, None, False
            if self._round is not None:
                self._round.discard(key)
            self._take_slot(key, now)
            begun.append(state.managed)
        return begun

    def succeeded(self, key: SourceKey, now: float, dice: float) -> None:
        """A source is up to date; next time at its interval. What waits for it may begin."""
        state = self._ended(key)
        if state is None:
            return
        state.failures = 0
        self._next(key, state, now, self.policy.interval(state.managed.interval, dice))
        if key not in self._ready:
            self._ready.add(key)
            for dependent in sorted(self._dependents.get(key, ())):
                self._wake(dependent, self._states[dependent], now)

    def failed(self, key: SourceKey, failure: Failure, now: float, dice: float) -> float | None:
        """A source failed.

        Returns:
            Seconds until it is tried again; None if not before something changes.
        """
        state = self._ended(key)
        if state is None:
            return None
        state.failures += 1
        delay = self.policy.delay(failure, state.failures, dice)
        self._next(key, state, now, delay)
        return 0.0 if state.due == now else delay

    def leave_slot(self, key: SourceKey) -> None:
        """A running source needs its slot no more: it is back, or will not be in time. It runs until it is told how it ended."""
        state = self._states.get(key)
        if state is not None and state.running:
            self._leave(key)

    def missing(self, key: SourceKey) -> SourceKey | None:
        """The first of a source's dependencies that has no artifact yet."""
        for dependency in self._states[key].managed.depends_on:
            if dependency not in self._ready:
                return dependency
        return None

    def wake_at(self) -> float | None:
        """When `start` is worth calling again, if nothing happens before; None: never."""
        slot = self.slot_at()
        while slot is not None and self._queue:
            if self._is_valid(self._queue[0]):
                return max(slot, self._queue[0][0])
            heapq.heappop(self._queue)
        return None

    def slot_at(self) -> float | None:
        """When there is a slot if nothing ends before: one that is free, or whose owner is in overtime then; None: never."""
        if len(self._slots) < self.policy.concurrency:
            return -math.inf
        if len(self._overtime) >= self.policy.overtime:
            return None
        return next(iter(self._slots.values())) + self.policy.patience

    @property
    def running(self) -> int:
        """How many have a slot or are in overtime."""
        return len(self._slots) + len(self._overtime)

    def known(self, key: SourceKey) -> ManagedSource | None:
        """The source of this key, as it was applied last."""
        state = self._states.get(key)
        return None if state is None or state.removed else state.managed

    def _ended(self, key: SourceKey) -> _State | None:
        state = self._states.get(key)
        if state is None or not state.running:
            return None
        self._leave(key)
        state.running = False
        if state.removed:
            del self._states[key]
            return None
        return state

    def _take_slot(self, key: SourceKey, now: float) -> None:
        """A free one, or that of whoever has had its own for longest."""
        if len(self._slots) >= self.policy.concurrency:
            longest = next(iter(self._slots))
            del self._slots[longest]
            self._overtime.add(longest)
        self._slots[key] = now

    def _leave(self, key: SourceKey) -> None:
        self._slots.pop(key, None)
        self._overtime.discard(key)

    def _next(self, key: SourceKey, state: _State, now: float, delay: float | None) -> None:
        if state.managed.suspend:
            state.due = None
        elif state.again:
            self._at(key, state, now)
        elif delay is None:
            state.due = None
        else:
            self._at(key, state, now + delay)

    def _wake(self, key: SourceKey, state: _State, now: float) -> None:
        if state.running:
            state.again = True
        elif state.managed.suspend:
            state.due = None
        elif state.due is None or state.due > now:
            self._at(key, state, now)  # else it keeps its place: asked for often enough, it would never have its turn

    def _at(self, key: SourceKey, state: _State, due: float) -> None:
        state.due, state.ticket = due, next(self._tickets)
        if self._round is not None and key not in self._round:
            return  # it had its turn in this round
        heapq.heappush(self._queue, (due, state.ticket, key))
        if len(self._queue) > 2 * len(self._states) + 64:
            # Void entries go when their time comes, and that may be long; requests make new ones faster.
            self._queue = [each for each in self._queue if self._is_valid(each)]
            heapq.heapify(self._queue)

    def _is_valid(self, entry: tuple[float, int, SourceKey]) -> bool:
        _, ticket, key = entry
        state = self._states.get(key)
        return state is not None and state.ticket == ticket and state.due is not None


_WHITE: Final = 0
_GREY: Final = 1
_BLACK: Final = 2


def _check_circles(wanted: dict[SourceKey, ManagedSource]) -> None:
    colour = dict.fromkeys(wanted, _WHITE)
    for root, managed in wanted.items():
        if colour[root] != _WHITE:
            continue
        colour[root] = _GREY
        path = [(root, iter(managed.depends_on))]
        while path:
            key, rest = path[-1]
            following = next((each for each in rest if each in wanted and colour[each] != _BLACK), None)
            if following is None:
                colour[key] = _BLACK
                path.pop()
            elif colour[following] == _GREY:
                raise ConfigurationError(f"{key} depends on {following}, and that depends on {key}")
            else:
                colour[following] = _GREY
                path.append((following, iter(wanted[following].depends_on)))
