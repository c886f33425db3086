# Makes the database the first time, runs what lies in /docker-entrypoint-initdb.d, then serves it.
set -eu
if [ ! -d "$PGDATA" ]; then
  # Beside its place: a start that is cut short leaves nothing that looks complete.
  rm -rf "$PGDATA.new"
  initdb --pgdata="$PGDATA.new" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync
  echo 'host all all all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
  # Nobody outside reaches it before it is complete.
  pg_ctl --pgdata="$PGDATA.new" --wait --options="-c listen_addresses=''" start
  psql="psql --username=$POSTGRES_USER --set=ON_ERROR_STOP=1 --no-psqlrc"
  $psql --dbname=postgres --command="CREATE DATABASE \"$POSTGRES_DB\""
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [ ! -f "$file" ] || $psql --dbname="$POSTGRES_DB" --file="$file"
  done
  pg_ctl --pgdata="$PGDATA.new" --wait stop
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -c listen_addresses='*' "$@"
