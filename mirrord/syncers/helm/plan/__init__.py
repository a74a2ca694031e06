"""What a chart mirror found, and what it decides from that. Pure."""

from mirrord.syncers.helm.plan.choice import Choice, choose, concerns, ripe, selected
from mirrord.syncers.helm.plan.listing import listing, published
from mirrord.syncers.helm.plan.notices import lacking, problems, remarks
from mirrord.syncers.helm.plan.steps import INDEX_ITEM, LACKING, plan
from mirrord.syncers.helm.plan.survey import HelmSurvey, Shelf
from mirrord.syncers.helm.plan.trouble import Trouble, Troubles, again, provenance_of, told, wrong_upstream

__all__ = [
    "INDEX_ITEM", "LACKING", "Choice", "HelmSurvey", "Shelf", "Trouble", "Troubles", "again", "choose", "concerns",
    "lacking", "listing", "plan", "problems", "provenance_of", "published", "remarks", "ripe", "selected", "told",
    "wrong_upstream",
]  # fmt: skip
