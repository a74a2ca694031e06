"""What a chart mirror found, and what it decides from that. Pure."""

from mirrord.syncers.helm.plan.choice import Choice, choose, ripe
from mirrord.syncers.helm.plan.listing import listing, published
from mirrord.syncers.helm.plan.steps import INDEX_ITEM, plan
from mirrord.syncers.helm.plan.survey import HelmSurvey, Shelf

__all__ = ["INDEX_ITEM", "Choice", "HelmSurvey", "Shelf", "choose", "listing", "plan", "published", "ripe"]
