#!/bin/sh
# What the image of PostgreSQL does when it starts, as far as compose.yaml relies on it.
set -e
if [ "$(id -u)" = 0 ]; then
  chown postgres: "$PGDATA"
  chmod 0700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  (umask 077 && printf %s "${POSTGRES_PASSWORD:?}" >"$PGDATA.password")
  initdb --username="${POSTGRES_USER:=postgres}" --pwfile="$PGDATA.password" --auth-host=scram-sha-256 >/dev/null
  rm "$PGDATA.password"
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  # This server is not reached over the network yet.
  pg_ctl --options="-c listen_addresses=" --wait start
  createdb --username="$POSTGRES_USER" "${POSTGRES_DB:-$POSTGRES_USER}"
  pg_ctl --mode=fast --wait stop
fi
exec postgres -c listen_addresses='*'
