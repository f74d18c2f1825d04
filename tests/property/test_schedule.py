"""The reconciler's state machine: whatever happens in whatever order, nobody is forgotten, doubled or hurried."""

import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import ConfigurationError
from fluxsrc.events import Failure, Stage
from fluxsrc.managed import ManagedSource
from fluxsrc.memory import MemorySource
from fluxsrc.reconcile import Policy, Schedule

NAMES = "abcdef"
SOURCE = MemorySource({})
DICE = st.floats(0, 1)


def key(name):
    return SourceKey("memory", "default", name)


def managed(name, **options):
    return ManagedSource(name=name, source=SOURCE, **options)


def failure(stage=Stage.FETCH, **options):
    return Failure(stage=stage, reason="X", message="x", **options)


FAILURES = st.builds(
    failure,
    st.sampled_from([Stage.FETCH, Stage.CONTENT, Stage.STORAGE, Stage.CONFIGURATION, Stage.BUG]),
    retryable=st.booleans(),
    retry_after=st.none() | st.floats(0, 5000),
)


class ScheduleMachine(RuleBasedStateMachine):
    """A model beside it: who was applied, who runs and since when, who must not run again yet."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.policy = Policy(concurrency=2, patience=20.0, overtime=2)
        self.schedule = Schedule(self.policy)
        self.wanted = {}
        self.running = {}  # of ours: key -> since when; None: lost
        self.stalled = set()
        self.turn = None  # who may still begin in this round; None: there is none

    @rule(
        names=st.sets(st.sampled_from(NAMES)), suspended=st.sets(st.sampled_from(NAMES)), generation=st.integers(1, 3)
    )
    def apply(self, names, suspended, generation):
        fresh = {}
        for name in sorted(names):
            depends = (key(NAMES[NAMES.index(name) - 1]),) if name in "bd" else ()
            fresh[key(name)] = managed(name, suspend=name in suspended, generation=generation, depends_on=depends)
        self.stalled -= {each for each, new in fresh.items() if self.wanted.get(each) != new}
        self.wanted = fresh
        self.schedule.apply(fresh.values(), self.now)

    @rule(name=st.sampled_from(NAMES))
    def request(self, name):
        known = self.schedule.request(key(name), self.now)
        assert known == (key(name) in self.wanted and not self.wanted[key(name)].suspend)
        if known:
            self.stalled.discard(key(name))

    @rule()
    def begin_round(self):
        self.schedule.begin_round(self.now)
        self.turn = {each for each, source in self.wanted.items() if not source.suspend}
        self.stalled -= self.turn

    @rule()
    def end_round(self):
        self.schedule.end_round()
        self.turn = None

    @rule(seconds=st.floats(0, 1000))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(at_most=st.none() | st.integers(1, 2))
    def start(self, at_most):
        begun = self.schedule.start(self.now, at_most=at_most)
        assert at_most is None or len(begun) <= at_most
        if at_most is None:
            assert self.schedule.start(self.now) == [], "it was not all that could begin"
        for each in begun:
            if self.turn is not None:
                assert each.key in self.turn, "it had its turn in this round"
                self.turn.remove(each.key)
            assert each.key not in self.running, "it runs already"
            assert self.wanted[each.key] == each
            assert not each.suspend
            assert each.key not in self.stalled
            assert self.schedule.missing(each.key) is None
            self.running[each.key] = self.now
        held = [self.now - since for since in self.running.values() if since is not None]
        assert len(held) <= self.policy.concurrency + self.policy.overtime
        assert sum(seconds < self.policy.patience for seconds in held) <= self.policy.concurrency

    @precondition(lambda self: self.running)
    @rule(data=st.data(), dice=DICE)
    def succeed(self, data, dice):
        each = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[each]
        self.schedule.succeeded(each, self.now, dice)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), dice=DICE, failed=FAILURES)
    def fail(self, data, dice, failed):
        each = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[each]
        delay = self.schedule.failed(each, failed, self.now, dice)
        if delay is None and each in self.wanted and not self.wanted[each].suspend:
            assert failed.stage is Stage.CONFIGURATION
            self.stalled.add(each)
        elif delay:
            assert delay <= max(self.policy.max_delay, failed.retry_after or 0)
            assert delay >= (failed.retry_after or 0)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def leave_slot(self, data):
        each = data.draw(st.sampled_from(sorted(self.running)))
        self.schedule.leave_slot(each)
        self.running[each] = None

    @invariant()
    def slots_are_counted_right(self):
        busy = [each for each, since in self.running.items() if since is not None]
        assert self.schedule.running == len(busy) <= self.policy.concurrency + self.policy.overtime

    @invariant()
    def whoever_is_slow_or_hangs_delays_nobody(self):
        """While there is room in overtime, a slot is there at the latest when the longest look has lost patience."""
        held = sorted(since for since in self.running.values() if since is not None)
        slot = self.schedule.slot_at()
        if slot is None:
            assert len(held) == self.policy.concurrency + self.policy.overtime
        elif len(held) >= self.policy.concurrency:
            assert slot <= held[-self.policy.concurrency] + self.policy.patience

    @invariant()
    def nobody_is_forgotten(self):
        """Whoever is neither running, stalled, suspended nor without its dependencies is woken some day."""
        if self.schedule.running >= self.policy.concurrency + self.policy.overtime:
            return
        idle = [
            each
            for each, source in self.wanted.items()
            if each not in self.running and each not in self.stalled and not source.suspend
            if self.turn is None or each in self.turn
        ]
        assert (self.schedule.wake_at() is not None) == bool(idle)


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(failures=st.integers(1, 2000), dice=DICE, retryable=st.booleans())
def test_patience_grows_with_each_failure_and_has_a_bound(failures, dice, retryable):
    """Never less than half of the first delay, never more than the longest, never less than before."""
    policy = Policy()
    failed = failure(retryable=retryable)
    delay = policy.delay(failed, failures, dice)
    first = policy.min_delay if retryable else policy.slow_delay
    assert first / 2 <= delay <= policy.max_delay
    assert policy.delay(failed, failures + 1, dice) >= delay


@given(seconds=st.floats(0.1, 1e6), dice=DICE)
def test_the_interval_varies_by_no_more_than_the_jitter(seconds, dice):
    """Five of a hundred, either way."""
    assert seconds * 0.95 - 1e-6 <= Policy().interval(seconds, dice) <= seconds * 1.05 + 1e-6


def schedule_of(*sources, **policy):
    schedule = Schedule(Policy(**policy))
    schedule.apply(sources, 0)
    return schedule


def names(begun):
    return [each.name for each in begun]


def test_all_that_are_due_begin_in_the_order_of_their_times_as_far_as_there_are_slots():
    """The longest due first, so that nobody starves."""
    schedule = schedule_of(*(managed(name) for name in "abc"), concurrency=2, overtime=0)
    assert names(schedule.start(0)) == ["a", "b"]
    assert schedule.wake_at() is None
    schedule.succeeded(key("a"), 1, 0.5)
    assert names(schedule.start(1)) == ["c"]


def test_success_comes_back_at_the_interval_and_failure_earlier():
    """Five minutes; three quarters of a second, then twice that."""
    schedule = schedule_of(managed("a"), managed("b"))
    schedule.start(0)
    schedule.succeeded(key("a"), 0, 0.5)
    assert schedule.failed(key("b"), failure(retryable=True), 0, 1.0) == 0.75
    assert names(schedule.start(0.75)) == ["b"]
    assert schedule.failed(key("b"), failure(retryable=True), 0.75, 1.0) == 1.5
    assert names(schedule.start(299)) == ["b"]
    assert names(schedule.start(300)) == ["a"]


def test_a_mistake_in_the_configuration_waits_for_somebody_to_mend_it():
    """Not for the interval: for a change, or a request."""
    schedule = schedule_of(managed("a"))
    schedule.start(0)
    assert schedule.failed(key("a"), failure(Stage.CONFIGURATION), 0, 0.5) is None
    assert schedule.wake_at() is None
    schedule.apply([managed("a", generation=2)], 10)
    assert names(schedule.start(10)) == ["a"]


def test_a_request_is_handled_at_once_also_while_the_source_runs():
    """By annotation or by call; the same annotation only once."""
    schedule = schedule_of(managed("a", requested_at="1"))
    schedule.start(0)
    schedule.apply([managed("a", requested_at="2")], 1)
    schedule.succeeded(key("a"), 2, 0.5)
    assert names(schedule.start(2)) == ["a"]
    schedule.succeeded(key("a"), 3, 0.5)
    schedule.apply([managed("a", requested_at="2")], 4)
    assert schedule.start(4) == []
    assert schedule.request(key("a"), 5)
    assert names(schedule.start(5)) == ["a"]


def test_a_suspended_source_rests_and_wakes_when_it_is_resumed():
    """A request does not wake it."""
    schedule = schedule_of(managed("a", suspend=True))
    assert schedule.start(1e9) == []
    assert not schedule.request(key("a"), 0)
    schedule.apply([managed("a")], 5)
    assert names(schedule.start(5)) == ["a"]


def test_a_dependent_begins_when_what_it_needs_is_there():
    """Not before, and not a moment later."""
    schedule = schedule_of(managed("b", depends_on=(key("a"),)), managed("a"))
    assert names(schedule.start(0)) == ["a"]
    assert schedule.missing(key("b")) == key("a")
    schedule.succeeded(key("a"), 1, 0.5)
    assert names(schedule.start(1)) == ["b"]


def test_a_circle_is_refused_and_changes_nothing():
    """Nobody in it could ever begin."""
    schedule = schedule_of(managed("a"))
    with pytest.raises(ConfigurationError, match="depends on"):
        schedule.apply([managed("a", depends_on=(key("b"),)), managed("b", depends_on=(key("a"),))], 0)
    assert names(schedule.start(0)) == ["a"]


def test_in_a_round_each_begins_once_and_the_rest_goes_on_after_it():
    """Whatever time passes, and whatever is asked for meanwhile; a failure's next time is kept."""
    schedule = schedule_of(managed("a"), managed("b"), managed("c", suspend=True))
    schedule.start(0)
    schedule.succeeded(key("a"), 0, 0.5)
    schedule.succeeded(key("b"), 0, 0.5)
    schedule.begin_round(10)
    assert names(schedule.start(10, at_most=1)) == ["a"]
    assert schedule.failed(key("a"), failure(retryable=True), 11, 1.0) == 0.75
    schedule.request(key("a"), 12)
    schedule.apply([managed("a"), managed("b"), managed("c"), managed("d")], 13)
    assert names(schedule.start(1000)) == ["b"]
    assert schedule.wake_at() is None
    schedule.succeeded(key("b"), 1000, 0.5)
    schedule.end_round()
    assert names(schedule.start(1000)) == ["a", "c", "d"]
    assert schedule.wake_at() == 1300


def test_a_source_taken_away_and_brought_back_while_it_runs_does_not_run_twice():
    """It begins again when the first look came back."""
    schedule = schedule_of(managed("a"))
    schedule.start(0)
    schedule.apply([], 1)
    schedule.apply([managed("a")], 2)
    assert schedule.start(2) == []
    schedule.succeeded(key("a"), 3, 0.5)
    assert names(schedule.start(3)) == ["a"]


def test_whoever_takes_long_goes_on_beside_the_others_and_no_more_than_so_many():
    """After five seconds the slot is another's, if anybody needs it; in the end all wait for somebody to come back."""
    schedule = schedule_of(*(managed(name, interval=1000) for name in "abcd"), concurrency=1, patience=5, overtime=2)
    assert names(schedule.start(0)) == ["a"]
    assert schedule.wake_at() == 5
    assert schedule.start(4.9) == []
    assert names(schedule.start(5)) == ["b"]
    assert schedule.wake_at() == 10
    assert names(schedule.start(12)) == ["c"]
    assert (schedule.running, schedule.wake_at()) == (3, None)
    assert schedule.start(100) == []
    schedule.succeeded(key("a"), 100, 0.5)
    assert schedule.wake_at() == 17
    assert names(schedule.start(100)) == ["d"]


def test_a_slot_that_nobody_needs_stays_whose_it_is():
    """Nobody is in overtime before somebody else begins: so one that took long is back in no time."""
    schedule = schedule_of(managed("a"), managed("b"), concurrency=2, patience=5, overtime=1)
    assert names(schedule.start(0)) == ["a", "b"]
    assert schedule.start(100) == []
    assert schedule.slot_at() == 5
    schedule.succeeded(key("b"), 100, 0.5)
    assert schedule.slot_at() == -math.inf


def test_a_lost_source_gives_its_slot_back_and_waits_for_its_own_return():
    """Another one takes the slot."""
    schedule = schedule_of(managed("a"), managed("b"), concurrency=1)
    assert names(schedule.start(0)) == ["a"]
    schedule.leave_slot(key("a"))
    assert names(schedule.start(0)) == ["b"]
    schedule.succeeded(key("b"), 1, 0.5)
    assert schedule.start(200) == []
    schedule.failed(key("a"), failure(retryable=True), 200, 1.0)
    assert names(schedule.start(201)) == ["a"]


def test_policies_that_make_no_sense_are_refused():
    """No slot at all, or a wait that is none."""
    for options in ({"concurrency": 0}, {"min_delay": 0}, {"max_delay": -1}, {"overtime": -1}):
        with pytest.raises(ConfigurationError):
            Policy(**options)
    with pytest.raises(ConfigurationError):
        attrs.evolve(managed("a"), interval=0)


def test_who_is_asked_for_again_and_again_keeps_its_place():
    """The longest due goes first, and a request makes nobody's turn later."""
    schedule = Schedule(Policy(concurrency=1, overtime=0))
    schedule.apply([managed(name, interval=1) for name in "abc"], 0.0)
    begun = []
    for now in range(1, 7):
        begun += schedule.start(now)
        schedule.request(key("c"), now)
        schedule.succeeded(begun[-1].key, now, 0.5)
    assert "".join(source.name for source in begun) == "abcabc"
