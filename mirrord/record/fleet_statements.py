"""The statements of PostgreSQL about replicas and leases; times are those of the database, in seconds."""

from __future__ import annotations

from typing import Final

HELD: Final = "leases.boot <> '' AND leases.until >= now()"
"""The condition that somebody has a lease."""
_CUT_OFF: Final = """
json_build_object('mirror', mirror, 'trigger', trigger, 'began', began,
  'seen', until - make_interval(secs => %(stale)s), 'replica', replica) AS cut_off
"""
TAKE: Final = f"""
WITH before AS (
  SELECT fence, {_CUT_OFF} FROM leases WHERE mirror = %(mirror)s AND boot <> %(boot)s AND trigger <> '')
INSERT INTO leases (mirror, replica, boot, fence, until, doubt, trigger, began)
VALUES (
  %(mirror)s, %(replica)s, %(boot)s, 1, now() + make_interval(secs => %(stale)s), now(), %(trigger)s, %(began)s)
ON CONFLICT (mirror) DO UPDATE SET replica = excluded.replica, boot = excluded.boot, fence = leases.fence + 1,
  until = excluded.until, trigger = excluded.trigger, began = excluded.began,
  doubt = CASE WHEN leases.boot IN ('', excluded.boot) THEN leases.doubt
          ELSE now() + make_interval(secs => %(doubt)s) END
WHERE leases.boot = excluded.boot OR NOT ({HELD})
RETURNING fence, doubt > now() AS doubtful, doubt = now() + make_interval(secs => %(doubt)s) AS taken_over,
  (SELECT cut_off FROM before WHERE before.fence = leases.fence - 1) AS cut_off
"""  # noqa: S608 - no text of others
KEEP: Final = """
UPDATE leases SET until = now() + make_interval(secs => %(stale)s)
WHERE mirror = %(mirror)s AND fence = %(fence)s AND boot = %(boot)s RETURNING 1
"""
RELEASE: Final = """
UPDATE leases SET boot = '', until = now(), trigger = ''
WHERE mirror = %(mirror)s AND fence = %(fence)s AND boot = %(boot)s
"""
DOUBTED: Final = "UPDATE leases SET doubt = now() + make_interval(secs => %(doubt)s) WHERE mirror = ANY(%(mirrors)s)"
BEAT: Final = """
INSERT INTO replicas (replica, boot, version, started, seen, running, configuration)
VALUES (%(replica)s, %(boot)s, %(version)s, now(), now(), %(running)s, %(configuration)s)
ON CONFLICT (replica) DO UPDATE SET boot = excluded.boot, version = excluded.version, seen = now(),
  running = excluded.running, configuration = excluded.configuration,
  started = CASE WHEN replicas.boot = excluded.boot THEN replicas.started ELSE now() END
"""
KEEP_ALL: Final = """
UPDATE leases SET until = now() + make_interval(secs => %(stale)s)
WHERE boot = %(boot)s AND mirror = ANY(%(mirrors)s) RETURNING mirror, fence, cancel
"""
ENDED: Final = f"""
WITH freed AS (
  UPDATE leases SET boot = '', doubt = now() + make_interval(secs => %(doubt)s)
  WHERE replica = %(replica)s AND boot NOT IN ('', %(boot)s) RETURNING *)
SELECT {_CUT_OFF} FROM freed WHERE trigger <> ''
"""  # noqa: S608 - no text of others
NAMESAKE: Final = """
SELECT seen FROM replicas
WHERE replica = %(replica)s AND boot <> %(boot)s AND seen >= now() - make_interval(secs => %(beats)s)
"""
GONE: Final = """
WITH freed AS (
  UPDATE leases SET boot = '', doubt = now() + make_interval(secs => %(doubt)s) WHERE boot = %(boot)s)
DELETE FROM replicas WHERE replica = %(replica)s AND boot = %(boot)s
"""
FORGET: Final = "DELETE FROM replicas WHERE seen < now() - make_interval(secs => %(forgotten)s)"
HOLDER: Final = f"""
SELECT replica, running -> %(mirror)s::text AS run FROM leases LEFT JOIN replicas USING (replica)
WHERE mirror = %(mirror)s AND {HELD}
"""  # noqa: S608 - no text of others
CANCEL: Final = f"""
UPDATE leases SET cancel = fence WHERE mirror = %(mirror)s AND boot <> %(boot)s AND {HELD} RETURNING replica, fence
"""  # noqa: S608 - no text of others
CANCELLING: Final = """
SELECT until >= now() AS alive FROM leases
WHERE mirror = %(mirror)s AND fence = %(fence)s AND cancel = fence AND boot <> ''
"""
NOT_CANCELLED: Final = """
UPDATE leases SET cancel = 0 WHERE mirror = %(mirror)s AND fence = %(fence)s AND boot = %(boot)s
"""
REPLICAS: Final = f"""
SELECT replica, boot, version, started, seen, running, configuration,
  seen >= now() - make_interval(secs => %(stale)s) AS alive,
  EXISTS (SELECT 1 FROM leases WHERE mirror = %(lead)s AND leases.boot = replicas.boot AND {HELD}) AS leads
FROM replicas WHERE seen >= now() - make_interval(secs => %(forgotten)s) ORDER BY replica
"""  # noqa: S608 - no text of others
WAITING: Final = "SELECT count(*) AS count, min(at) AS since FROM queued_runs WHERE state = 'queued'"
RAN_LAST: Final = """
SELECT leases.replica FROM leases JOIN replicas USING (replica)
WHERE mirror = %(mirror)s AND seen >= now() - make_interval(secs => %(stale)s)
"""
