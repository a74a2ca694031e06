"""What all Git mirrors of one process share; it lasts as long as the services do, whatever is reloaded."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from mirrord.keyedlock import KeyedLock
from mirrord.syncer.values import Services
from mirrord.syncers.git.kept.known import Recent
from mirrord.wire.git.command import Git
from mirrord.wire.http.client import Http


class GitRuntime:
    """Locks, what was read last, and what starts git.

    Attributes:
        locks: for each cache and each destination.
        recent: what was read of notes last.
    """

    def __init__(self, services: Services) -> None:
        """Share nothing yet."""
        self.locks, self.recent = KeyedLock(), Recent()
        self._home = services.scratch / "git-home"
        self._by_http: WeakKeyDictionary[Http, Git] = WeakKeyDictionary()

    def git(self, http: Http) -> Git:
        """Return what starts git by the rules of one configuration, the same for all runs with it."""
        found = self._by_http.get(http)
        if found is None:
            found = self._by_http[http] = Git(self._home, http.book)
        return found


def git_of(services: Services) -> Git:
    """Return what starts git for runs with these services."""
    return services.once(GitRuntime).git(services.http)
