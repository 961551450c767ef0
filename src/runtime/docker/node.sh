# The first process of a replab node. A job that was laid in runs once, in place of the server. Nothing else lives in a
# container that has just started, so a postmaster.pid left there by a kill is stale; it names process 1, which programs
# like pg_rewind would take for a running server. The server itself knows better and needs no help.
# Programs here start with few files to open: in a layered file system each name that is looked up can cost the reading of its whole
# folder. Messages are in English either way (the template's lc_messages).
export LC_ALL=C TZ=UTC0
set -- -D /replab/data -c listen_addresses='*' -c port=5432 -c unix_socket_directories=/replab/private
# Held: the server will be stopped, worked on and started again soon, and a container's start costs more than all of that. What is to be
# done comes by standard input. Nothing is served when it breaks off: whoever held it may have been half-way.
serve() {
  trap '[ -z "$server" ] || kill -INT "$server"' INT
  postgres "$@" </dev/null &
  server=$!
  # A signal ends the waiting, and not the server.
  while :; do
    wait "$server"
    code=$?
    kill -0 "$server" 2>/dev/null || break
  done
  server=
  # One that comes too late would end the reading of what is to be done.
  trap '' INT
  echo "ended $code"
}
if [ -s /replab/held ]; then
  rm -f /replab/held /replab/data/postmaster.pid || exit 126
  umask 077
  server=
  serve "$@"
  while :; do
    told=
    while :; do
      IFS= read -r line || exit 125
      [ "$line" != '# replab: that is all' ] || break
      told="$told$line
"
    done
    eval "$told"
  done
fi
if [ -s /replab/job ]; then
  mv /replab/job /replab/job.taken && rm -f /replab/data/postmaster.pid || exit 126
  exec /bin/sh /replab/job.taken >/replab/job.out 2>&1 </dev/null
fi
# A copy of the template begins with its own files, told through standard input: the engine takes an eighth of a second to
# put files into a container, and each program run in a fresh one costs another hundredth. Without the last of them, a standby
# would come up as a primary.
if [ ! -e /replab/laid ]; then
  umask 077
  told=
  while IFS= read -r line; do
    told="$told$line
"
  done
  eval "$told"
  [ -e /replab/laid ] || exit 125
fi
exec postgres "$@" </dev/null
