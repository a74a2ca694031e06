"""Decides about Git mirrors in the order in which a run does, from what a test says was found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mirrord.model.plan import Plan
from mirrord.syncer.values import Mirror
from mirrord.syncers.git.names import spec_of
from mirrord.syncers.git.plan import accident as accidents
from mirrord.syncers.git.plan import steps
from mirrord.syncers.git.plan.survey import GitSurvey, choose
from mirrord.syncers.git.spec import ALL_REFS
from mirrord.wire.git.refs import Refs

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def found(upstream: Refs, served: Refs | None = None, **more: Any) -> GitSurvey:
    """Return what was found, as if all of it were mirrored."""
    return GitSurvey(upstream, choose(ALL_REFS, upstream, more.get("held_back", {})), served, **more)


def chosen(mirror: Mirror, survey: GitSurvey) -> GitSurvey:
    """Return the same with what the mirror selects of it."""
    return replace(survey, choice=choose(spec_of(mirror).refs, survey.upstream, survey.held_back))


def accident(mirror: Mirror, survey: GitSurvey) -> str:
    """Return what the guard says."""
    return accidents.guard(mirror, chosen(mirror, survey))


def plan(mirror: Mirror, survey: GitSurvey) -> Plan:
    """Return the plan, after the guard has spoken."""
    survey = replace(chosen(mirror, survey), accident=accident(mirror, survey))
    return steps.plan(mirror, survey, NOW)
