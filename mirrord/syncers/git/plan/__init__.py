"""What a Git mirror found, and what it decides from that. Pure."""

from mirrord.syncers.git.plan.guard import accident, guard
from mirrord.syncers.git.plan.losses import Loss, losses
from mirrord.syncers.git.plan.steps import DEFAULT_BRANCH, EVERYTHING, GROUP, LARGE, plan
from mirrord.syncers.git.plan.survey import GitSurvey, questions, strangers, wanted

__all__ = [
    "DEFAULT_BRANCH", "EVERYTHING", "GROUP", "LARGE", "GitSurvey", "Loss", "accident", "guard", "losses", "plan",
    "questions", "strangers", "wanted",
]  # fmt: skip
