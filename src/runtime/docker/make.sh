# The rest of the job that makes a template; `set -eu` and the call of initdb stand before it.
# Sets the new cluster up with a temporary server that only its private socket reaches, and stops it cleanly.
say() { printf 'replab: %s\n' "$*"; }
say 'settings'
# After a crash the server first makes everything it finds durable. File by file, in a container's layered file system, that takes
# most of a second; at one go a tenth of that (manual, recovery_init_sync_method). Before the lab's own lines, so that those win.
printf '%s\n' 'recovery_init_sync_method = syncfs' >>/replab/data/postgresql.conf
# From 18 on processes of their own read and write: three by default (19: two, and more as they are needed), in each of many small
# servers.
for workers in io_workers io_min_workers; do
  if postgres -D /replab/data -C "$workers" >/dev/null 2>&1; then
    printf '%s = 1\n' "$workers" >>/replab/data/postgresql.conf
  fi
done
cat /replab/make/conf >>/replab/data/postgresql.conf
cat /replab/make/hba >/replab/data/pg_hba.conf
printf 'local all all trust\n' >/replab/make/trust
if [ -s /replab/make/sql ]; then
  say 'SQL'
  pg_ctl -D /replab/data -w -t 60 -l /replab/make/log start -o "-c listen_addresses= -c port=5432 \
    -c unix_socket_directories=/replab/make -c hba_file=/replab/make/trust -c fsync=off -c synchronous_standby_names=" ||
    { cat /replab/make/log; exit 1; }
  psql -X -q -v ON_ERROR_STOP=1 -h /replab/make -p 5432 -U postgres -d postgres -f /replab/make/sql || failed=1
  pg_ctl -D /replab/data -w -t 60 -m fast stop
  [ -z "${failed-}" ] || exit 1
fi
# Hints of where there is room and what everybody sees, a quarter of all files. A server makes them anew as it needs them, and without
# one it looks for itself (manual, "Free Space Map", "Visibility Map"); a copy is the quicker without. And what every start throws away.
for folder in /replab/data/global /replab/data/base/*; do
  rm -f "$folder"/*_fsm "$folder"/*_vm "$folder"/pg_internal.init
done
# What making it has counted: a copy would read it, and take it away, at its first start.
rm -f /replab/data/pg_stat/pgstat.stat
rm -rf /replab/make /replab/data/postmaster.opts
say "version $(postgres --version)"
