#!/bin/bash
# Makes a PostgreSQL image from Debian's own packages, for machines that reach no image registry.
#
#   build.sh MAJOR TAG     MAJOR is 17, 18 or 19; TAG is the image's name, such as replab/postgres:17
#   build.sh --recipe      prints the recipe's hash, which the image carries as the label replab.recipe
#
# Needs root on a Debian-like system and a Docker engine; debootstrap is installed when missing.
# Progress goes to stderr as lines `replab-image: phase ...`; at the end the image's id is printed on stdout.
#
#   REPLAB_DEBIAN_MIRROR=URL     a Debian mirror, instead of the one in apt's sources
#   REPLAB_ALLOW_UNSIGNED=1      go on when no key on this machine can check the mirror's signature
#   REPLAB_BUILD_COMMAND=WORDS   how messages name the way to run this again; replab sets it
#   TMPDIR=DIR                   where to work (1000 MB; not mounted noexec or nodev); /var/tmp if unset
#
# Exit status: 0 made; 1 failed; 2 wrong use; 3 this version can't be had; 4 the person has to do something first,
# and the message says what; 130 or 143 interrupted.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
apt_helper=/usr/lib/apt/apt-helper
locks=/run/replab-image
uid=999
# Found out on the way, and global because they are still needed when the script is on its way out.
major='' tag='' again='' slug='' suite='' over='' mirror='' work='' root='' child=''

say() { printf 'replab-image: %s\n' "$*" >&2; }
phase() { say "phase $*"; }
die() { local status=$1; shift; say "error: $*"; exit "$status"; }
recipe() { cat "$here/build.sh" "$here/docker-entrypoint.sh" | sha256sum | cut -d' ' -f1; }

# ---- what to make -----------------------------------------------------------------------------------------------

# Which Debian release carries which version. forky is not released yet and may move on to a newer one. What Debian tries out
# is in experimental, which is no release by itself but lies over sid.
choose_suite() {
  case $major in
    17) suite=trixie ;;
    18) suite=forky ;;
    19) suite=sid over=experimental ;;
    *) die 3 "PostgreSQL $major can't be had this way; these can: 17 (Debian trixie), 18 (Debian forky) and 19 (Debian sid" \
      'with experimental)' ;;
  esac
}

read_arguments() {
  [ "${1-}" != --recipe ] || { recipe; exit 0; }
  [ $# -eq 2 ] && [ -n "$2" ] || die 2 'usage: build.sh MAJOR TAG, such as: build.sh 17 replab/postgres:17'
  major=$1 tag=$2
  choose_suite
  [[ $tag =~ ^[a-z0-9][a-zA-Z0-9._/:-]*$ ]] || die 2 "'$tag' is no image name; such as: replab/postgres:$major"
  [[ ${tag##*/} == *:* ]] || tag=$tag:latest
  again=${REPLAB_BUILD_COMMAND:-$here/build.sh $major $tag}
}

# ---- what it needs ----------------------------------------------------------------------------------------------

require_root() {
  [ "$(id -u)" = 0 ] && return
  die 4 "this needs root. Run: sudo $again"
}

require_docker() {
  command -v docker >/dev/null || die 4 'the docker command is missing. Run: apt-get install -y docker.io'
  docker version >/dev/null 2>&1 || die 4 'no Docker engine answers. Run: systemctl start docker'
}

require_debootstrap() {
  local missing=()
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  command -v gpgv >/dev/null || command -v sqv >/dev/null || missing+=(gpgv)
  [ -e "$keyring" ] || missing+=(debian-archive-keyring)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null ||
    die 4 "needs ${missing[*]}, and this system has no apt-get. Install them with its package manager," \
      'and name a Debian mirror in REPLAB_DEBIAN_MIRROR'
  phase "install ${missing[*]}"
  flock "$locks/apt" apt-get update >"$work/apt.log" 2>&1 ||
    say 'warning: apt-get update had errors; going on with what apt knows'
  DEBIAN_FRONTEND=noninteractive flock "$locks/apt" \
    apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}" >>"$work/apt.log" 2>&1 || {
    tail -n 5 "$work/apt.log" >&2
    die 4 "apt-get could not install ${missing[*]}. Run: apt-get update && apt-get install -y ${missing[*]}"
  }
}

# ---- where the packages come from -------------------------------------------------------------------------------

# Prints the archives apt is set up with, from sources.list and .sources files alike, whether their lists are
# fetched or not. A list of mirrors in a file (mirror+file:) counts as its first entry.
apt_archives() {
  command -v apt-get >/dev/null || return 0
  apt-get -o Debug::NoLocking=1 --print-uris update 2>/dev/null |
    sed -n "s,^'\([^']*\)/dists/.*,\1,p" | awk '!seen[$0]++' |
    while read -r uri; do
      case $uri in
        mirror+file:*)
          list=$(printf '%s' "${uri#mirror+file:}" | sed 's,^/*,/,')
          awk '/^(https?|file):/ { print $1; exit }' "$list" || : ;;
        http:* | https:* | file:*) printf '%s\n' "$uri" ;;
      esac
    done
}

fetch() { "$apt_helper" download-file "$1" "$2" >/dev/null 2>&1; }

# Sets `mirror` to the first that is Debian's own archive and has the release. The signature is checked later.
find_mirror() {
  local archive archives
  if [ -n "${REPLAB_DEBIAN_MIRROR-}" ]; then
    mirror=${REPLAB_DEBIAN_MIRROR%/}
    return
  fi
  archives=$(apt_archives)
  for archive in $archives; do
    mirror=${archive%/}
    fetch "$mirror/dists/$suite/InRelease" "$work/InRelease" || continue
    ! grep -qx 'Label: Debian' "$work/InRelease" || return 0
  done
  archives=$(printf '%s ' ${archives:-none} | without_secrets)
  die 4 "no archive that apt is set up with gives Debian $suite, or none can be reached (${archives% })." \
    "Name a mirror: REPLAB_DEBIAN_MIRROR=URL $again"
}

# A mirror's address may hold a user and a password.
without_secrets() { sed 's,//[^/@ ]*@,//,g'; }

# debootstrap fetches by itself and doesn't know apt's proxy.
use_apt_proxy() {
  local http='' https=''
  command -v apt-config >/dev/null || return 0
  eval "$(apt-config shell http Acquire::http::Proxy https Acquire::https::Proxy)"
  [ -z "$http" ] || [ "$http" = DIRECT ] || export http_proxy="${http_proxy:-$http}"
  [ -z "$https" ] || [ "$https" = DIRECT ] || export https_proxy="${https_proxy:-$https}"
}

# The keys apt trusts for any archive, or keeps as Debian's, in one file: some systems have a newer Debian key there than
# in the keyring package.
apt_keys() {
  local file
  for file in /etc/apt/trusted.gpg /etc/apt/{trusted.gpg.d/,keyrings/debian}*.gpg /usr/share/keyrings/debian-archive-*.gpg; do
    case $file in *removed*) continue ;; esac
    [ ! -s "$file" ] || cat "$file"
  done
  for file in /etc/apt/{trusted.gpg.d/,keyrings/debian}*.asc; do
    [ ! -s "$file" ] || sed -n '/^-----BEGIN/,/^-----END/{/^-----/d;/:/d;/^=/d;/^$/d;p}' "$file" | base64 -d || :
  done
}

# ---- the file system --------------------------------------------------------------------------------------------

# Runs a command so that it can be stopped with all it started and mounted, and follows what it says.
run_apart() {
  local apart=(setsid) inner=(unshare --mount --pid --fork --kill-child)
  ! "${inner[@]}" true 2>/dev/null || apart+=("${inner[@]}")
  local status=0 follower
  rm -f "$work/lines"
  mkfifo "$work/lines"
  follow <"$work/lines" &
  follower=$!
  "${apart[@]}" "$@" </dev/null >"$work/lines" 2>&1 &
  child=$!
  wait "$child" || status=$?
  child=''
  wait "$follower" || :
  return "$status"
}

# Turns debootstrap's many lines into few.
follow() {
  local line last='' now
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$work/log"
    case $line in
      *'Retrieving InRelease'* | *'Retrieving Release'*) now="check Debian $suite" ;;
      *': Retrieving Packages'* | *': Validating Packages'* | *'Resolving dependencies'* | *'Checking component'*) now='choose packages' ;;
      *': Retrieving '* | *': Validating '*) now='download packages' ;;
      *'Extracting '*) now='unpack the base system' ;;
      *'Installing core'* | *'required packages'* | *'base packages'*) now='install packages' ;;
      *'Configuring postgresql'* | 'Setting up postgresql'*) now="configure PostgreSQL $major" ;;
      Get:*) now="download packages of ${over:-$suite}" ;;
      'Unpacking '*) now="unpack packages of ${over:-$suite}" ;;
      *) continue ;;
    esac
    [ "$now" = "$last" ] || phase "$now"
    last=$now
  done
}

# debootstrap may not know a release yet; Debian's releases are all set up as sid is.
bootstrap_with() {
  local scripts=/usr/share/debootstrap/scripts
  local packages=gosu,libnss-wrapper
  [ -n "$over" ] || packages=postgresql-$major,$packages
  local args=("$@" --variant=minbase "--include=$packages" "$suite" "$root" "$mirror")
  [ -e "$scripts/$suite" ] || args+=("$scripts/sid")
  rm -rf --one-file-system "$root"
  mkdir -m 755 "$root"
  : >"$work/log"
  DEBIAN_FRONTEND=noninteractive DPKG_FORCE=unsafe-io run_apart debootstrap "${args[@]}"
}

# What debootstrap says when it lacks the key, and when the signature is wrong. Its sqv variant doesn't tell one from the other.
no_key() { grep -qE '^E: (Release signed by unknown key|Error executing .* signature|.*keyring)' "$work/log"; }
refused() { no_key || grep -q '^E: Invalid Release signature' "$work/log"; }

# A signature that no key here can check is no reason to do without: who stands between this machine and the mirror could
# have put it there. So that is left to the person. A wrong signature is an error whatever the person says.
bootstrap() {
  ! bootstrap_with --keyring="$keyring" --force-check-gpg || return 0
  refused || explain_failure
  say "warning: $suite could not be checked with the Debian keyring; trying the keys that apt trusts"
  apt_keys >"$work/keys.gpg"
  ! bootstrap_with --keyring="$work/keys.gpg" --force-check-gpg || return 0
  no_key || explain_failure
  [ "${REPLAB_ALLOW_UNSIGNED-}" = 1 ] ||
    die 4 "no key on this machine can check Debian $suite." \
      'Run: apt-get update && apt-get install -y debian-archive-keyring.' \
      "If that doesn't help and you trust the mirror and the way to it: REPLAB_ALLOW_UNSIGNED=1 $again"
  say 'warning: the packages are NOT checked against a signature (REPLAB_ALLOW_UNSIGNED=1)'
  bootstrap_with --no-check-gpg || explain_failure
}

# PostgreSQL from what lies over the release, and nothing else of it, by the new system's own apt, which checks it with the keys
# that came with the release. Debian gives its lists a date until which they are good; whether that counts is what this
# machine's apt says.
install_over() {
  [ -n "$over" ] || return 0
  printf 'deb %s %s main\n' "$mirror" "$over" >>"$root/etc/apt/sources.list"
  printf 'Package: postgresql-%s postgresql-*-%s libpq*\nPin: release a=%s\nPin-Priority: 500\n' "$major" "$major" "$over" \
    >"$root/etc/apt/preferences.d/replab"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  cp /etc/hosts "$root/etc/hosts"
  local trusted=/etc/ssl/certs/ca-certificates.crt dated=true
  [ ! -e "$trusted" ] || cp "$trusted" "$root/tmp/trusted.crt"
  ! command -v apt-config >/dev/null || eval "$(apt-config shell dated Acquire::Check-Valid-Until)"
  # shellcheck disable=SC2016
  DEBIAN_FRONTEND=noninteractive run_apart sh -ec '
    mount -t proc proc "$1/proc"
    status=0
    chroot "$1" sh -ec "
      here=\"-q -o Acquire::https::CaInfo=/tmp/trusted.crt -o Acquire::Check-Valid-Until=$3 -o Dpkg::Use-Pty=0\"
      apt-get \$here update
      apt-get \$here -y --no-install-recommends install $2" || status=$?
    umount "$1/proc"
    exit "$status"' sh "$root" "postgresql-$major" "$dated" || explain_failure
  rm "$root/usr/sbin/policy-rc.d" "$root/etc/apt/preferences.d/replab"
}

# If the release no longer has this version, the lists that were fetched tell which it has.
explain_failure() {
  local has
  has=$(cat "$root"/var/lib/apt/lists/*_Packages 2>/dev/null |
    sed -n 's/^Package: postgresql-\([0-9][0-9]*\)$/\1/p' | sort -un | tr '\n' ' ') || :
  if [ -n "$has" ] && [[ " $has" != *" $major "* ]]; then
    die 3 "Debian $suite${over:+ with $over} has no PostgreSQL $major any more; it has: $has"
  fi
  say 'the last lines of the installation:'
  tail -n 12 "$work/log" >&2
  [ ! -s "$root/debootstrap/debootstrap.log" ] || tail -n 12 "$root/debootstrap/debootstrap.log" >&2
  die 1 'the packages could not be installed'
}

# ---- from Debian's layout to the official image's ---------------------------------------------------------------

# A free id below 1000, for whoever has 999 already.
free_id() {
  local id=998
  while cut -d: -f3 "$root/etc/passwd" "$root/etc/group" | grep -qx "$id"; do id=$((id - 1)); done
  echo "$id"
}

# renumber passwd|group NAME ID: in the file, and on everything that belongs to it.
renumber() {
  local file=$root/etc/$1 name=$2 new=$3 old
  old=$(awk -F: -v n="$name" '$1 == n { print $3 }' "$file")
  [ -n "$old" ] || die 1 "the packages made no $name in $1"
  [ "$old" != "$new" ] || return 0
  local holder
  holder=$(awk -F: -v i="$new" '$3 == i { print $1 }' "$file")
  [ -z "$holder" ] || renumber "$1" "$holder" "$(free_id)"
  if [ "$1" = passwd ]; then
    find "$root" -xdev -uid "$old" -exec chown -h "$new" {} +
    awk -F: -v OFS=: -v n="$name" -v i="$new" '$1 == n { $3 = i } { print }' "$file" >"$work/ids"
  else
    find "$root" -xdev -gid "$old" -exec chgrp -h "$new" {} +
    awk -F: -v OFS=: -v o="$old" -v i="$new" '$4 == o { $4 = i } { print }' "$root/etc/passwd" >"$work/ids"
    cat "$work/ids" >"$root/etc/passwd"
    awk -F: -v OFS=: -v n="$name" -v i="$new" '$1 == n { $3 = i } { print }' "$file" >"$work/ids"
  fi
  cat "$work/ids" >"$file"
}

# Debian makes a cluster when the package is installed; here the entry point makes one, from the container's settings.
drop_debian_cluster() {
  rm -rf "$root/etc/postgresql" "${root:?}/var/lib/postgresql" "$root/var/log/postgresql"
  mkdir -p "$root/etc/postgresql-common"
  printf 'create_main_cluster = false\n' >"$root/etc/postgresql-common/createcluster.conf"
}

lay_out() {
  renumber group postgres "$uid"
  renumber passwd postgres "$uid"
  drop_debian_cluster
  install -d -o "$uid" -g "$uid" -m 1777 "$root/var/lib/postgresql"
  if [ "$major" -ge 18 ]; then
    install -d -o "$uid" -g "$uid" "$root/var/lib/postgresql/$major"
  else
    install -d -o "$uid" -g "$uid" -m 1777 "$root/var/lib/postgresql/data"
  fi
  install -d -o "$uid" -g "$uid" -m 3777 "$root/run/postgresql"
  install -d "$root/docker-entrypoint-initdb.d"
  install -m 755 "$here/docker-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
  sed -ri "s/^#?(listen_addresses) *=.*/\1 = '*'/" "$root/usr/share/postgresql/$major/postgresql.conf.sample"
}

# Neither what only a person at a terminal would read, nor what the machine that built it left behind. The just-in-time
# compiler goes too, which one of Debian's two versions ships apart anyway: 150 MB, and no plan needs it.
slim() {
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/var/log/* \
    "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* "$root"/usr/share/i18n/* \
    "$root"/usr/share/lintian "$root"/usr/share/bug "$root"/usr/lib/postgresql/*/lib/llvmjit* \
    "$root"/usr/lib/postgresql/*/lib/bitcode "$root"/usr/lib/*/libLLVM* "$root"/usr/lib/llvm-* "$root"/usr/lib/*/libz3.so* \
    "$root"/debootstrap "$root"/etc/{hostname,hosts,resolv.conf} "$root"/etc/{passwd,group,shadow,gshadow}- \
    "$root"/var/lib/dbus/machine-id
  find "$root/tmp" "$root/var/tmp" -mindepth 1 -delete
  : >"$root/etc/machine-id"
  find "$root/usr/share/doc" -type f ! -name copyright -delete
  find "$root/usr/share/doc" -type d -empty -delete
  without_secrets <"$root/etc/apt/sources.list" >"$work/sources"
  cat "$work/sources" >"$root/etc/apt/sources.list"
}

# ---- the image --------------------------------------------------------------------------------------------------

# Debian's name for the machine, as Docker calls it.
architecture() {
  local arch
  arch=$(chroot "$root" dpkg --print-architecture)
  case $arch in armel | armhf) echo arm ;; i386) echo 386 ;; ppc64el) echo ppc64le ;; *) echo "$arch" ;; esac
}

# What the engine is to know about the image, as the official image tells it. docker import can't set a stop signal,
# so the image is written in the form that docker save has, and loaded.
image_config() {
  local now data=/var/lib/postgresql/data volume=/var/lib/postgresql/data
  if [ "$major" -ge 18 ]; then
    data=/var/lib/postgresql/$major/docker volume=/var/lib/postgresql
  fi
  now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  cat <<JSON
{ "architecture": "$(architecture)", "os": "linux", "created": "$now",
  "config": {
    "Env": [ "PATH=/usr/lib/postgresql/$major/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
             "LANG=C.UTF-8", "PG_MAJOR=$major", "PG_VERSION=$1", "PGDATA=$data" ],
    "Entrypoint": [ "docker-entrypoint.sh" ], "Cmd": [ "postgres" ], "StopSignal": "SIGINT",
    "ExposedPorts": { "5432/tcp": {} }, "Volumes": { "$volume": {} },
    "Labels": { "replab.image": "1", "replab.postgres": "$major", "replab.recipe": "$(recipe)" } },
  "rootfs": { "type": "layers", "diff_ids": [ "sha256:$2" ] },
  "history": [ { "created": "$now", "created_by": "replab", "comment": "PostgreSQL $1 from Debian $suite${over:+ with $over}" } ] }
JSON
}

pack() {
  local out=$work/image version sum
  mkdir "$out"
  version=$(awk -v p="Package: postgresql-$major" '$0 == p { on = 1 } on && /^Version: / { print $2; exit }' \
    "$root/var/lib/dpkg/status")
  tar -C "$root" --numeric-owner --one-file-system --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' \
    -cf "$out/layer.tar" .
  sum=$(sha256sum "$out/layer.tar" | cut -d' ' -f1)
  image_config "$version" "$sum" >"$out/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$tag" >"$out/manifest.json"
  tar -C "$out" -cf - manifest.json config.json layer.tar | docker load -q >/dev/null
}

image_id() { docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null || :; }
image_recipe() { docker image inspect --format '{{index .Config.Labels "replab.recipe"}}' "$tag" 2>/dev/null || :; }

# The image that had the tag before, if it is one of ours and nothing uses it.
drop_replaced() {
  [ -n "$1" ] && [ "$1" != "$(image_id)" ] || return 0
  [ "$(docker image inspect --format '{{index .Config.Labels "replab.image"}} {{len .RepoTags}}' "$1" 2>/dev/null)" = '1 0' ] || return 0
  docker image rm "$1" >/dev/null 2>&1 || :
}

# ---- from start to end ------------------------------------------------------------------------------------------

stop_child() {
  [ -n "$child" ] || return 0
  kill -TERM -- "-$child" 2>/dev/null || :
  local tries=0
  while kill -0 -- "-$child" 2>/dev/null && [ "$tries" -lt 10 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL -- "-$child" 2>/dev/null || :
}

# Nothing mounted may be left below a directory that is about to be removed.
remove_work() {
  local mounted
  awk -v w="$1/" 'index($2, w) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mounted; do umount -l "$mounted" || :; done
  rm -rf --one-file-system "$1"
}

clean_up() {
  local status=$?
  trap '' INT TERM HUP
  stop_child
  [ -z "$work" ] || remove_work "$work"
  exit "$status"
}

# One build of a tag at a time. Whoever waited and finds the image made by then has nothing left to do.
take_turn() {
  mkdir -p "$locks"
  exec 9>>"$locks/$slug.lock"
  flock -n 9 && return
  phase "wait for another build of $tag"
  flock 9
  [ "$(image_recipe)" = "$(recipe)" ] || return 0
  say "the other build made $tag"
  image_id
  exit 0
}

# A directory of its own, after removing what a killed build of the same tag may have left.
make_work() {
  local base=${TMPDIR:-/var/tmp} left free
  for left in "$base/replab-image.$slug".*; do
    [ ! -O "$left" ] || remove_work "$left"
  done
  free=$(df -Pm "$base" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge 1000 ] ||
    die 4 "needs 1000 MB in $base, where $free are free. Name another place: TMPDIR=DIR $again"
  work=$(mktemp -d "$base/replab-image.$slug.XXXXXXXX")
  root=$work/root
}

main() {
  local replaced
  read_arguments "$@"
  slug=$(printf '%s' "$tag" | tr -c 'a-zA-Z0-9-' _)
  require_root
  require_docker
  take_turn
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  make_work
  require_debootstrap
  phase "find Debian $suite${over:+ and $over}"
  use_apt_proxy
  find_mirror
  bootstrap
  install_over
  phase 'lay out as the official image'
  lay_out
  slim
  phase "pack $tag"
  replaced=$(image_id)
  pack
  drop_replaced "$replaced"
  image_id
  say "done: $tag, $(docker image inspect --format '{{.Size}}' "$tag" | awk '{ printf "%d MB", $1 / 1000000 }')"
}

main "$@"
