#!/bin/bash
# Starts PostgreSQL in a container as the official image does: an empty PGDATA is initialised first, guided by
# POSTGRES_* variables; the server then runs as postgres, in this process. Written for replab's own image.
set -Eeo pipefail

say() { printf 'docker-entrypoint: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# NAME or, when NAME_FILE is set, the content of that file; both at once is a mistake. $2 is the default.
from_env_or_file() {
  local name=$1 file="${1}_FILE" value=${2-}
  if [ -n "${!name-}" ] && [ -n "${!file-}" ]; then
    die "$name and $file are both set; set one of them"
  fi
  if [ -n "${!name-}" ]; then
    value=${!name}
  elif [ -n "${!file-}" ]; then
    [ -r "${!file}" ] || die "$file: cannot read ${!file}"
    value=$(<"${!file}")
  fi
  export "$name=$value"
  unset "$file"
}

# Does this command only print something? Then there is nothing to initialise.
only_prints() {
  local arg
  for arg; do
    case $arg in '-?' | --help | --describe-config | -V | --version) return 0 ;; esac
  done
  return 1
}

# The directories the server needs. As root they are also handed to postgres; unprivileged, what can't be done is
# left as it is, and the server says what it misses.
make_directories() {
  local wal=${POSTGRES_INITDB_WALDIR-}
  mkdir -p "$PGDATA" ${wal:+"$wal"} || die "cannot make $PGDATA"
  chmod 0700 "$PGDATA" 2>/dev/null || :
  mkdir -p /var/run/postgresql 2>/dev/null || :
  chmod 3777 /var/run/postgresql 2>/dev/null || :
  if [ "$(id -u)" = 0 ]; then
    find "$PGDATA" /var/run/postgresql ${wal:+"$wal"} ! -user postgres -exec chown -h postgres {} + ||
      die "cannot give $PGDATA to postgres: start the container as postgres, or leave it the capability CHOWN"
  fi
}

require_password() {
  case "$POSTGRES_HOST_AUTH_METHOD:$POSTGRES_PASSWORD" in
    trust:*)
      say 'warning: POSTGRES_HOST_AUTH_METHOD=trust lets anyone who reaches the port in, without a password' ;;
    *:)
      die "PGDATA is empty and no superuser password is given.
  Set one:              docker run -e POSTGRES_PASSWORD=... ...
  or do without, where nobody else reaches the port: docker run -e POSTGRES_HOST_AUTH_METHOD=trust ..." ;;
  esac
}

# initdb wants its user to have a name. A container run as some other number has none, so it is given one.
name_this_user() {
  getent passwd "$(id -u)" >/dev/null && return
  local wrapper
  for wrapper in /usr/lib/*/libnss_wrapper.so; do
    [ -s "$wrapper" ] || continue
    NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp)
    printf 'postgres:x:%s:%s:PostgreSQL:%s:/bin/false\n' "$(id -u)" "$(id -g)" "$PGDATA" >"$NSS_WRAPPER_PASSWD"
    printf 'postgres:x:%s:\n' "$(id -g)" >"$NSS_WRAPPER_GROUP"
    export LD_PRELOAD=$wrapper NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
    return
  done
}

forget_this_user() {
  [ -n "${NSS_WRAPPER_PASSWD-}" ] || return 0
  rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
  unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
}

# The password goes through a pipe: on the command line every process of the machine could read it.
init_database() {
  name_this_user
  local args=(--no-instructions --username="$POSTGRES_USER" --pgdata="$PGDATA")
  [ -z "$POSTGRES_INITDB_WALDIR" ] || args+=(--waldir="$POSTGRES_INITDB_WALDIR")
  [ -z "$POSTGRES_PASSWORD" ] || args+=(--pwfile=/dev/fd/3)
  eval 'initdb "${args[@]}" '"${POSTGRES_INITDB_ARGS-}" 3< <(printf '%s\n' "$POSTGRES_PASSWORD")
  forget_this_user
  local method=$POSTGRES_HOST_AUTH_METHOD
  [ -n "$method" ] || method=$(postgres -C password_encryption -D "$PGDATA")
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

# A server for the set-up only: not on the network, so that nobody takes it for the real one.
start_temporary() {
  NOTIFY_SOCKET='' "$@" -c listen_addresses='' -p 5432 &
  temporary=$!
  local pidfile=$PGDATA/postmaster.pid
  until [ "$(sed -n '1p;8p' "$pidfile" 2>/dev/null | tr -d ' \n')" = "${temporary}ready" ]; do
    kill -0 "$temporary" 2>/dev/null || die 'the server for the set-up did not start; its messages are above'
    sleep 0.02
  done
  socket_dir=$(sed -n 5p "$pidfile")
  [ -n "$socket_dir" ] || die 'the set-up needs a Unix socket; leave unix_socket_directories set'
}

stop_temporary() {
  [ -n "${temporary-}" ] || return 0
  kill -INT "$temporary" 2>/dev/null || :
  wait "$temporary" || :
  temporary=''
}

run_sql() { psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password -U "$POSTGRES_USER" "$@"; }

make_database() {
  [ "$POSTGRES_DB" != postgres ] || return 0
  run_sql -d postgres -q -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
}

run_init_files() {
  local file
  for file; do
    case $file in
      *.sh)
        if [ -x "$file" ]; then
          say "running $file"
          "$file"
        else
          say "sourcing $file"
          # shellcheck disable=SC1090
          . "$file"
        fi ;;
      *.sql) say "running $file"; run_sql -d "$POSTGRES_DB" -f "$file" ;;
      *.sql.gz) say "running $file"; gunzip -c "$file" | run_sql -d "$POSTGRES_DB" ;;
      *) say "ignoring $file" ;;
    esac
  done
}

use_temporary() {
  local -x PGHOST=$socket_dir PGPORT=5432
  make_database
  run_init_files "$@"
}

# Everything an empty PGDATA needs. The temporary server is spared when there is nothing for it to do.
set_up() {
  from_env_or_file POSTGRES_PASSWORD
  from_env_or_file POSTGRES_USER postgres
  from_env_or_file POSTGRES_DB "$POSTGRES_USER"
  from_env_or_file POSTGRES_INITDB_ARGS
  : "${POSTGRES_HOST_AUTH_METHOD:=}" "${POSTGRES_INITDB_WALDIR:=}"
  require_password
  trap 'say "the set-up did not finish; empty $PGDATA before the next start"; stop_temporary' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  init_database
  shopt -s nullglob
  local files=(/docker-entrypoint-initdb.d/*)
  shopt -u nullglob
  if [ "$POSTGRES_DB" != postgres ] || [ "${#files[@]}" -gt 0 ]; then
    start_temporary "$@"
    use_temporary "${files[@]}"
    stop_temporary
  fi
  trap - EXIT INT TERM
  say 'PostgreSQL init process complete; ready for start up.'
}

main() {
  if [ $# -eq 0 ] || [ "${1:0:1}" = - ]; then
    set -- postgres "$@"
  fi
  if [ "$1" = postgres ] && ! only_prints "$@"; then
    make_directories
    if [ "$(id -u)" = 0 ]; then
      exec gosu postgres "${BASH_SOURCE[0]}" "$@"
    fi
    if [ -s "$PGDATA/PG_VERSION" ]; then
      say "$PGDATA holds a database already; not initialising"
    else
      set_up "$@"
    fi
  fi
  exec "$@"
}

main "$@"
