#!/bin/bash
# Does an image keep the contract that replab and the official postgres image's users rely on?
#
#   check.sh TAG
#
# Prints one line for each promise; exits 1 when one is broken, 2 when it could not be checked. Everything it starts
# carries a label of its own and is removed on the way out.
set -uo pipefail
shopt -s extglob

[ $# -eq 1 ] || { echo 'usage: check.sh TAG, such as: check.sh replab/postgres:17' >&2; exit 2; }
tag=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
label=replab.check=$$-$RANDOM
failed=0 passed=0
files=$(mktemp -d) || exit 2
export PGPASSWORD=''

clean_up() {
  local status=$?
  trap '' INT TERM
  docker ps -aq --filter "label=$label" | xargs -r docker rm -fv >/dev/null 2>&1
  docker volume ls -q --filter "label=$label" | xargs -r docker volume rm >/dev/null 2>&1
  rm -rf "$files"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

docker image inspect "$tag" >/dev/null 2>&1 || { echo "no image $tag, or no Docker engine" >&2; exit 2; }

# ---- tools ------------------------------------------------------------------------------------------------------

# check WHAT GOT WANTED, where WANTED is a pattern.
check() {
  # shellcheck disable=SC2053
  if [[ $2 == $3 ]]; then
    passed=$((passed + 1))
    printf 'ok    %s\n' "$1"
  else
    failed=$((failed + 1))
    printf 'FAIL  %s\n      got:    %s\n      wanted: %s\n' "$1" "${2//$'\n'/$'\n              '}" "$3"
  fi
}

config() { docker image inspect --format "{{$1}}" "$tag"; }
create() { docker create --label "$label" "$@"; }
start() { docker run -d --label "$label" "$@"; }
once() { docker run --rm --label "$label" "$@" 2>&1; }
running() { [ "$(docker inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }
logs() { docker logs "$1" 2>&1; }

# Until the server answers on the network, as a client would see it; 30 s at most, or until the container ends.
await() {
  local tries=0
  until docker exec -u postgres "$1" pg_isready -q -h 127.0.0.1 2>/dev/null; do
    running "$1" && [ "$tries" -lt 150 ] || { logs "$1" | tail -n 5; return 1; }
    tries=$((tries + 1))
    sleep 0.2
  done
}

# inside COMMAND: in the image, in a container that does nothing else and shares this machine's network.
inside() { docker exec "$client" sh -c "$1" 2>&1; }

# sql CONTAINER PASSWORD USER DB SQL: through the port published on this machine, as a client on it would.
sql() {
  local port
  port=$(docker port "$1" 5432/tcp | sed -n 's/^127\.0\.0\.1://p')
  PGPASSWORD=$2 docker exec -e PGPASSWORD "$client" psql -XAtw -h 127.0.0.1 -p "$port" -U "$3" -d "$4" -c "$5" 2>&1
}

# ---- what the image says of itself ------------------------------------------------------------------------------

major=$(config 'index .Config.Labels "replab.postgres"')
if [ "$major" -ge 18 ] 2>/dev/null; then
  data=/var/lib/postgresql/$major/docker volume=/var/lib/postgresql
else
  data=/var/lib/postgresql/data volume=/var/lib/postgresql/data
fi
env=$(config 'range .Config.Env}}{{println .}}{{end')
check 'label replab.image' "$(config 'index .Config.Labels "replab.image"')" 1
check 'label replab.postgres' "$major" '1[789]'
check 'label replab.recipe is this recipe' "$(config 'index .Config.Labels "replab.recipe"')" "$("$here/build.sh" --recipe)"
check 'entry point' "$(config 'json .Config.Entrypoint')" '\["docker-entrypoint.sh"\]'
check 'command' "$(config 'json .Config.Cmd')" '\["postgres"\]'
check 'stop signal' "$(config '.Config.StopSignal')" SIGINT
check 'port' "$(config 'json .Config.ExposedPorts')" '{"5432/tcp":{}}'
check 'volume' "$(config 'json .Config.Volumes')" "{\"$volume\":{}}"
check 'PGDATA' "$env" "*PGDATA=$data*"
check 'PG_MAJOR' "$env" "*PG_MAJOR=$major*"
check 'LANG' "$env" '*LANG=*[uU][tT][fF]*8*'

# ---- what is in it ----------------------------------------------------------------------------------------------

client=$(start --network host "$tag" sleep 900)
check 'user and group postgres' "$(inside 'echo $(id -u postgres):$(id -g postgres):$(getent passwd postgres | cut -d: -f6)')" \
  '999:999:/var/lib/postgresql'
for program in postgres initdb psql pg_ctl pg_basebackup pg_rewind pg_controldata pg_receivewal pg_isready pg_dump \
  pg_recvlogical pg_waldump pg_verifybackup pg_resetwal pg_createsubscriber pgbench; do
  check "$program on the PATH" "$(inside "command -v $program; $program --version")" \
    "/usr/lib/postgresql/$major/bin/$program?*PostgreSQL) $major[.rb]*"
done
check '/var/run/postgresql' "$(inside 'stat -L -c "%U %a" /var/run/postgresql')" 'postgres [13]777'
check 'a directory for set-up files' "$(inside 'ls -A /docker-entrypoint-initdb.d && echo there')" there
check 'no cluster inside' "$(inside 'find / -xdev -name PG_VERSION; ls -A /etc/postgresql 2>/dev/null')" ''
check 'nothing left of the machine that built it' \
  "$(inside 'cat /etc/machine-id; find /tmp /var/lib/apt/lists /var/log -mindepth 1')" ''
check 'other commands run as they are' "$(once "$tag" echo 'hello  there')" 'hello  there'
check 'root stays root for other commands' "$(once "$tag" id -u)" 0
check 'postgres --version starts nothing' "$(once "$tag" postgres --version)" "postgres (PostgreSQL) $major[.rb]*"

# ---- servers, all started at once -------------------------------------------------------------------------------

secret='s3 cr"et'"'"'\$x'
publish=(-p 127.0.0.1::5432)
plain=$(start "${publish[@]}" -e POSTGRES_PASSWORD="$secret" "$tag" -c max_connections=42)
bound=$(start "${publish[@]}" -e POSTGRES_PASSWORD="$secret" --user postgres --cap-drop ALL \
  --security-opt no-new-privileges --read-only --tmpfs /tmp --tmpfs /var/run/postgresql "$tag")
trusting=$(start "${publish[@]}" -e POSTGRES_HOST_AUTH_METHOD=trust "$tag")
numbered=$(start "${publish[@]}" -e POSTGRES_PASSWORD="$secret" -e PGDATA=/var/lib/postgresql/mine/data --user 12345:12345 \
  --tmpfs /var/lib/postgresql/mine:mode=1777 "$tag")

# docker cp, not a bind mount: the engine may be on another machine.
set_up=$(create "${publish[@]}" -e POSTGRES_USER=ann -e POSTGRES_DB='shop two' -e POSTGRES_PASSWORD_FILE=/run/secret \
  -e POSTGRES_INITDB_ARGS='--wal-segsize=1 --set "cluster_name=two words"' -e PGDATA=/srv/elsewhere/data "$tag")
mkdir "$files/init"
printf '%s' "$secret" >"$files/secret"
echo 'create table t (n int);' >"$files/init/10-table.sql"
echo 'insert into t values (1);' | gzip >"$files/init/20-row.sql.gz"
printf '#!/bin/sh\npsql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "insert into t values (2)"\n' >"$files/init/30-run.sh"
printf 'words=(insert into t values "(3)")\npsql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "${words[*]}"\n' \
  >"$files/init/40-source.sh"
chmod 755 "$files/init" "$files/init/30-run.sh"
chmod 644 "$files/secret" "$files"/init/*.sql* "$files/init/40-source.sh"
docker cp "$files/init/." "$set_up:/docker-entrypoint-initdb.d/" >/dev/null
docker cp "$files/secret" "$set_up:/run/secret" >/dev/null
docker start "$set_up" >/dev/null

broken=$(create -e POSTGRES_PASSWORD="$secret" "$tag")
echo 'select 1/0;' >"$files/init/50-broken.sql"
docker cp "$files/init/50-broken.sql" "$broken:/docker-entrypoint-initdb.d/" >/dev/null
docker start "$broken" >/dev/null

answer=$(once "$tag"); status=$?
check 'no password: an error' "$status" 1
check 'no password: it says what to do' "$answer" '*POSTGRES_PASSWORD=*POSTGRES_HOST_AUTH_METHOD=trust*'
check 'no password: nothing is initialised' "$answer" '!(*initdb*)'
answer=$(once -e POSTGRES_PASSWORD_FILE=/nowhere "$tag"); status=$?
check 'a password file that is not there: an error' "$status $answer" '1 *cannot read /nowhere'
answer=$(once -e POSTGRES_PASSWORD=a -e POSTGRES_PASSWORD_FILE=/etc/hostname "$tag"); status=$?
check 'two passwords: an error' "$status $answer" '1 *both set*'

# ---- a plain server ---------------------------------------------------------------------------------------------

check 'starts' "$(await "$plain")" ''
check 'the password opens it, through the published port' "$(sql "$plain" "$secret" postgres postgres 'select 6 * 7')" 42
check 'another password does not' "$(sql "$plain" wrong postgres postgres 'select 1')" '*password authentication failed*'
check 'no password does not' "$(sql "$plain" '' postgres postgres 'select 1')" '*no password supplied*'
check 'the password is kept as scram' \
  "$(sql "$plain" "$secret" postgres postgres "select left(rolpassword, 13) from pg_authid where rolname = 'postgres'")" SCRAM-SHA-256
check 'the rule for the network' "$(docker exec "$plain" tail -n 1 "$data/pg_hba.conf")" 'host all all all scram-sha-256'
check 'arguments that start with - go to postgres' "$(sql "$plain" "$secret" postgres postgres 'show max_connections')" 42
check 'UTF-8' "$(sql "$plain" "$secret" postgres postgres 'show server_encoding')" UTF8
check 'postgres is the first process, and not root' \
  "$(docker exec "$plain" sh -c 'echo $(cat /proc/1/comm) $(stat -c %U /proc/1)')" 'postgres postgres'
check 'the data directory is private' "$(docker exec "$plain" stat -c '%U %a' "$data")" 'postgres 700'
check 'a base backup' \
  "$(docker exec -u postgres "$plain" sh -c 'pg_basebackup -c fast -D /tmp/copy && pg_verifybackup -q /tmp/copy' 2>&1)" ''
sql "$plain" "$secret" postgres postgres 'create table kept as select 17 as n' >/dev/null
began=$SECONDS
docker stop -t 20 "$plain" >/dev/null
check 'stops within 5 s' "$((SECONDS - began))" '[0-5]'
check 'stops cleanly' "$(docker inspect --format '{{.State.ExitCode}}' "$plain")" 0
check 'stops by a fast shutdown' "$(logs "$plain")" '*received fast shutdown request*database system is shut down*'
docker start "$plain" >/dev/null
check 'starts again' "$(await "$plain")" ''
check 'keeps its data' "$(sql "$plain" "$secret" postgres postgres 'table kept')" 17
check 'initialises once' "$(logs "$plain" | grep -c 'init process complete')" 1

# ---- the others -------------------------------------------------------------------------------------------------

check 'starts as postgres, without capabilities, on a read-only root' "$(await "$bound")" ''
check '... and answers' "$(sql "$bound" "$secret" postgres postgres 'select 6 * 7')" 42
check '... and stops cleanly' "$(docker stop -t 20 "$bound" >/dev/null; docker inspect --format '{{.State.ExitCode}}' "$bound")" 0
check 'starts with trust' "$(await "$trusting")" ''
check '... and asks for no password' "$(sql "$trusting" '' postgres postgres 'select 6 * 7')" 42
check '... and warns' "$(logs "$trusting")" '*warning: POSTGRES_HOST_AUTH_METHOD=trust*'
check 'starts as a user without a name' "$(await "$numbered")" ''
check '... and answers' "$(sql "$numbered" "$secret" postgres postgres 'select 6 * 7')" 42
check 'starts with set-up files' "$(await "$set_up")" ''
check '... in the user and database asked for, password from a file, all files run in order' \
  "$(sql "$set_up" "$secret" ann 'shop two' "select string_agg(n::text, ' ') from t")" '1 2 3'
check '... with the arguments for initdb' \
  "$(sql "$set_up" "$secret" ann 'shop two' "select current_setting('wal_segment_size'), current_setting('cluster_name')")" '1MB|two words'
check '... in the directory asked for' "$(sql "$set_up" "$secret" ann 'shop two' 'show data_directory')" /srv/elsewhere/data
check '... and the set-up is not on the network' "$(logs "$set_up" | grep -c 'listening on IPv4')" 1
check 'a set-up file that fails ends the start' "$(docker wait "$broken")" '[1-9]*'
check '... and it says so' "$(logs "$broken")" '*division by zero*set-up did not finish*'

echo "$tag: $passed kept, $failed broken, in $SECONDS s"
[ "$failed" -eq 0 ]
