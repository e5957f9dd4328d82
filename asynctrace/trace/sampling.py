"""The SDK's own samplers, decided without asking them.

`should_sample` of the SDK's samplers looks up the current span, copies attributes and builds a
result object to say what is a comparison of two numbers. For exactly the SDK's types that
comparison is made from a table, `Rules`; any other sampler is asked, with all that it may want.
"""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

LOW_64_BITS = TraceIdRatioBased.TRACE_ID_LIMIT

Rule = Decision | int
"""A decision, or the bound that the low 64 bits of a sampled trace id stay below."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a sampler decides for each kind of parent."""

    root: Rule
    remote_sampled: Rule
    remote_not_sampled: Rule
    local_sampled: Rule
    local_not_sampled: Rule

    @classmethod
    def of(cls, sampler: Sampler) -> Rules | None:
        """The rules of one of the SDK's own samplers; None for any other, which has to be asked.

        Each table is tried against the sampler itself before it is trusted, so that an SDK whose
        samplers learn something new (a tracestate entry, an attribute) is asked as well.
        """
        try:
            rules = _rules(sampler)
            return rules if rules is not None and _hold(rules, sampler) else None
        except Exception:  # an SDK that moved its fields, or a sampler half built: ask it
            return None


def decide(rule: Rule, trace_id: int) -> Decision:
    """The decision that `rule` makes for a trace."""
    if isinstance(rule, Decision):
        return rule
    return Decision.RECORD_AND_SAMPLE if trace_id & LOW_64_BITS < rule else Decision.DROP


def _rules(sampler: Sampler) -> Rules | None:
    if isinstance(sampler, StaticSampler) and _is_sdk(sampler, StaticSampler):
        decision = sampler.should_sample(Context(), 1, "").decision
        return Rules(decision, decision, decision, decision, decision)
    if isinstance(sampler, TraceIdRatioBased) and _is_sdk(sampler, TraceIdRatioBased):
        bound = sampler.bound
        return Rules(bound, bound, bound, bound, bound)
    if isinstance(sampler, ParentBased) and _is_sdk(sampler, ParentBased):
        return _rules_by_parent(sampler)
    return None


def _is_sdk(sampler: Sampler, base: type[Sampler]) -> bool:
    """Whether `sampler` is of a class of the SDK itself, which inherits its decision from `base`.

    A subclass of the user's has to be asked, even when it does not override `should_sample` today.
    """
    cls = type(sampler)
    return cls.__module__ == base.__module__ and cls.should_sample is base.should_sample


def _rules_by_parent(sampler: ParentBased) -> Rules | None:
    delegates = [_rules(delegate) for delegate in _delegates(sampler)]
    match delegates:
        # A delegate may itself go by the parent: it is then asked about the same kind of parent.
        case [
            Rules() as root,
            Rules() as remote,
            Rules() as remote_not,
            Rules() as local,
            Rules() as local_not,
        ]:
            return Rules(
                root.root,
                remote.remote_sampled,
                remote_not.remote_not_sampled,
                local.local_sampled,
                local_not.local_not_sampled,
            )
    return None


def _delegates(sampler: ParentBased) -> tuple[Sampler, Sampler, Sampler, Sampler, Sampler]:
    """The samplers that a `ParentBased` goes by. An `AttributeError` means: they moved, ask it."""
    return (
        sampler._root,
        sampler._remote_parent_sampled,
        sampler._remote_parent_not_sampled,
        sampler._local_parent_sampled,
        sampler._local_parent_not_sampled,
    )


_PROBE_STATE = TraceState([("vendor", "probe")])
_PROBE_IDS = (1, LOW_64_BITS, LOW_64_BITS >> 1, (1 << 127) + 1)


def _hold(rules: Rules, sampler: Sampler) -> bool:
    """Whether `rules` and the sampler agree, for every kind of parent and a few trace ids."""
    parents = [
        (rules.root, None),
        (rules.remote_sampled, _probe_parent(is_remote=True, flags=1)),
        (rules.remote_not_sampled, _probe_parent(is_remote=True, flags=0)),
        (rules.local_sampled, _probe_parent(is_remote=False, flags=1)),
        (rules.local_not_sampled, _probe_parent(is_remote=False, flags=0)),
    ]
    return all(
        _agrees(
            decide(rule, trace_id), _ask(sampler, parent, trace_id), has_parent=parent is not None
        )
        for rule, parent in parents
        for trace_id in _PROBE_IDS
    )


def _probe_parent(*, is_remote: bool, flags: int) -> SpanContext:
    return SpanContext(1, 1, is_remote, TraceFlags(flags), _PROBE_STATE)


def _ask(sampler: Sampler, parent: SpanContext | None, trace_id: int) -> SamplingResult:
    context = Context()
    if parent is not None:
        context = set_span_in_context(NonRecordingSpan(parent), context)
    return sampler.should_sample(context, trace_id, "probe", attributes={"probe": True})


def _agrees(decision: Decision, result: SamplingResult, *, has_parent: bool) -> bool:
    """A table can neither change the tracestate nor the attributes."""
    if result.decision is not decision:
        return False
    if result.trace_state is not (_PROBE_STATE if has_parent else None):
        return False
    return decision is Decision.DROP or dict(result.attributes or {}) == {"probe": True}
