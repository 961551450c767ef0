#!/usr/bin/env bash
# Another engine than this machine's own, for one command: Debian's packages unpacked into a folder, run there with mounts, processes,
# a network and data of their own. The command runs in the same network and finds the engine by DOCKER_HOST; when it ends, all of it ends.
#
#   engine.sh ENGINE [--image NAME]... -- COMMAND...     NAMEs are copied from the engine that `docker` reaches here
#   engine.sh clean                                      removes what is kept between runs
#
# ENGINE: docker-28, docker-28-containerd (its other image store), podman-5, podman-5-rootless, podman-4.
# Kept in REPLAB_ENGINES (else ~/.cache/replab-engines): the unpacked packages, and for each engine its images. Nothing of this machine's
# own engines, firewall or packages is touched. Exit status 4: it can't run here, and the last line says why.
set -euo pipefail

keep=${REPLAB_ENGINES:-${XDG_CACHE_HOME:-$HOME/.cache}/replab-engines}
self=$(readlink -f "$0")

say() { printf 'engine.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 4; }

# ---- what an engine is made of ------------------------------------------------------------------------------------

suite_of() {
    case $1 in
        docker-28 | docker-28-containerd | podman-5 | podman-5-rootless) echo sid ;;
        podman-4) echo bookworm ;;
        *) die "no engine is called $1" ;;
    esac
}

packages_of() {
    case $1 in
        sid) echo docker.io podman passt nftables ;;
        bookworm) echo podman ;;
    esac
    echo base-files base-passwd coreutils dash mount iptables crun netavark aardvark-dns uidmap
}

require() {
    [ "$(id -u)" = 0 ] || die 'it needs root'
    local program
    for program in apt-get dpkg-deb unshare setpriv pivot_root ip docker flock; do
        command -v "$program" >/dev/null || die "it needs $program"
    done
}

# The first archive of apt's own that is Debian's. An old snapshot will do: the packages are checked by its signature all the same.
mirror() {
    if [ -n "${REPLAB_DEBIAN_MIRROR-}" ]; then
        echo "${REPLAB_DEBIAN_MIRROR%/}"
        return
    fi
    local found
    found=$(apt-get -o Debug::NoLocking=1 --print-uris update 2>/dev/null |
        sed -n "s,^'\(http[^']*/debian\)/*/dists/.*,\1,p" | head -n 1)
    [ -n "$found" ] || die 'apt is set up with no archive of Debian'
    echo "$found"
}

# apt for another system than this one: lists, packages and settings of its own; proxies are this machine's.
apt_for() {
    local root=$1 suite=$2
    mkdir -p "$root"/apt/{lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d}
    : >"$root/apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$root/apt/etc/sources.list"
    { apt-config dump 2>/dev/null | grep -E '^Acquire::https?::Proxy' || :
      cat <<APT
Dir "$root/apt"; Dir::State "$root/apt"; Dir::State::status "$root/apt/status"; Dir::State::lists "$root/apt/lists";
Dir::Cache "$root/apt/cache"; Dir::Etc "$root/apt/etc"; Dir::Etc::sourcelist "sources.list"; Dir::Etc::sourceparts "-";
Acquire::Check-Valid-Until "false"; Acquire::Languages "none"; APT::Sandbox::User "root"; APT::Install-Recommends "false";
APT
    } >"$root/apt/apt.conf"
}

# Unpacks Debian's packages into $keep/SUITE, without their scripts: what those do for these few is done here.
make_root() {
    local suite=$1 root=$keep/$1 work=$keep/$1.making package wanted
    # What makes it is part of its name.
    wanted=$(sed -n "/^# ---- what/,/^# ---- one/p" "$self" | sha256sum | cut -c 1-16)
    [ "$(cat "$root/.made" 2>/dev/null)" != "$wanted" ] || return 0
    say "unpack $(packages_of "$suite" | tr '\n' ' ')of Debian $suite"
    rm -rf --one-file-system "$root" "$work"
    mkdir -p "$work"/usr/{bin,sbin,lib,lib64}
    for package in bin sbin lib lib64; do ln -s "usr/$package" "$work/$package"; done
    apt_for "$work" "$suite"
    local apt=(env "APT_CONFIG=$work/apt/apt.conf" apt-get -qq)
    # shellcheck disable=SC2046
    { "${apt[@]}" update && "${apt[@]}" --yes --download-only install $(packages_of "$suite"); } >"$work/apt/log" 2>&1 ||
        die "apt can't fetch Debian $suite: $(tail -n 2 "$work/apt/log" | tr '\n' ' ')"
    for package in "$work"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work" --keep-directory-symlink
    done
    rm -rf "$work/apt" "$work"/usr/share/{doc,man,locale,info}
    set_up "$work"
    echo "$wanted" >"$work/.made"
    mv "$work" "$root"
}

set_up() {
    local root=$1 name
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    echo 'lab:x:1000:1000::/home/lab:/bin/sh' >>"$root/etc/passwd"
    printf 'lab:x:1000:\ndocker:x:900:\n' >>"$root/etc/group"
    echo 'lab:100000:65536' | tee "$root/etc/subuid" >"$root/etc/subgid"
    chmod u+s "$root"/usr/bin/newuidmap "$root"/usr/bin/newgidmap
    echo 'nameserver 127.0.0.1' >"$root/etc/resolv.conf"
    echo '127.0.0.1 localhost' >"$root/etc/hosts"
    for name in iptables ip6tables; do
        for name in "$name" "$name-save" "$name-restore"; do ln -sf xtables-nft-multi "$root/usr/sbin/$name"; done
    done
    mkdir -p "$root"/{proc,sys,dev,run,tmp,data,etc/docker,etc/containers} "$root"/home/lab "$root"/var/{tmp,lib/docker,lib/containers}
    chmod 1777 "$root"/tmp "$root"/var/tmp
    printf '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n' >"$root/etc/containers/containers.conf"
    [ -e "$root/etc/containers/policy.json" ] ||
        echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$root/etc/containers/policy.json"
}

# ---- one run --------------------------------------------------------------------------------------------------------

# The control groups of a run are below one of its own in each hierarchy, and nothing in it sees more than those.
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts; }

enter_groups() {
    local name=$1 where file
    for where in $(hierarchies); do
        mkdir "$where/$name"
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$where/cgroup.procs" ] || [ ! -e "$where/$file" ] || cat "$where/$file" >"$where/$name/$file"
        done
        echo "$BASHPID" >"$where/$name/cgroup.procs"
    done
}

# A frozen process doesn't even die.
thaw_groups() {
    local where file
    for where in $(hierarchies); do
        [ -d "$where/$1" ] || continue
        while read -r file; do
            case $file in */freezer.state) echo THAWED >"$file" ;; *) echo 0 >"$file" ;; esac 2>/dev/null || :
        done < <(find "$where/$1" -mindepth 2 -name freezer.state -o -mindepth 2 -name cgroup.freeze)
    done
}

drop_groups() {
    local name=$1 where left
    for _ in $(seq 100); do
        left=
        thaw_groups "$name"
        for where in $(hierarchies); do
            [ -d "$where/$name" ] || continue
            find "$where/$name" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
        done
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    say "control groups $name are left"
}

run() {
    local engine=$1 suite images=() status=0 left
    shift
    suite=$(suite_of "$engine")
    while [ "${1-}" = --image ]; do images+=("$2"); shift 2; done
    [ "${1-}" = -- ] && [ $# -gt 1 ] || die 'no command is named'
    shift
    require
    mkdir -p "$keep"
    exec 7>"$keep/$suite.lock"
    flock 7
    make_root "$suite"
    exec 7>&-
    # One run of an engine at a time: its data are one run's.
    exec 8>"$keep/$engine.lock"
    flock 8
    for left in /tmp/replab-engine."$engine".*; do
        # The one that was killed: its lock is ours now.
        [ ! -O "$left" ] || { drop_groups "${left#/tmp/}"; rm -rf --one-file-system "$left"; }
    done
    work=$(mktemp -d "/tmp/replab-engine.$engine.XXXXXX")
    chmod 711 "$work"
    trap 'kill -KILL "$child" 2>/dev/null || :; drop_groups "${work#/tmp/}"; rm -rf --one-file-system "$work"' EXIT
    trap 'exit 143' INT TERM HUP
    (enter_groups "${work#/tmp/}" && exec setpriv --pdeathsig KILL unshare --mount --net --pid --cgroup --fork --kill-child \
        --mount-proc --propagation private bash "$self" inside "$engine" "$keep/$suite" "$work" "${images[*]-}" "$@") 8>&- <&0 &
    child=$!
    wait "$child" || status=$?
    exit "$status"
}

# The first process of a run: the network, the engine, its images, the command.
inside() {
    local engine=$1 root=$2 work=$3 images=$4 status=0 command=$1
    shift 4
    ip link set lo up
    # A way out for engines that want one; it leads nowhere.
    ip link add up0 type veth peer name up1
    ip address add 10.213.0.1/24 dev up0
    ip link set up0 up
    ip link set up1 up
    ip route add default via 10.213.0.2
    mkdir -p "$work/run" "$keep/$engine.data"
    unshare --mount bash "$self" engine "$engine" "$root" "$work" >"$work/log" 2>&1 </dev/null &
    server=$!
    local socket=$work/run/engine.sock here=${DOCKER_HOST-} tries=0
    export DOCKER_HOST=unix://$socket
    until docker version >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ] || ! kill -0 "$server" 2>/dev/null; then
            tail -n 15 "$work/log" >&2
            die "$engine doesn't come up"
        fi
        sleep 0.1
    done
    # What a run that was killed left.
    local old
    old=$(docker ps -aq)
    [ -z "$old" ] || docker rm -f $old >/dev/null
    docker network prune -f >/dev/null 2>&1 || :
    for image in $images; do load "$image" "$here"; done
    "$@" || status=$?
    # Gently, so that its data stay whole; what doesn't listen is killed.
    thaw_groups "${work#/tmp/}"
    kill "$server" 2>/dev/null || :
    timeout 5 tail --pid="$server" -f /dev/null || :
    kill -KILL -1 2>/dev/null || :
    exit "$status"
}

# Copies an image, unless this very one is there.
load() {
    local image=$1 here=$2 id known=$keep/$engine.data/.loaded.${1//[^a-z0-9]/_}
    id=$(DOCKER_HOST=$here docker image inspect --format '{{.Id}}' "$image") || die "there is no image $image to copy"
    if [ "$(cat "$known" 2>/dev/null)" != "$id" ] || ! docker image inspect "$image" >/dev/null 2>&1; then
        DOCKER_HOST=$here docker save "$image" | docker load >/dev/null || die "$image can't be copied"
        echo "$id" >"$known"
    fi
}

# The groups as this run's own namespace shows them. crun takes no machine that has both kinds: then only the first kind is shown.
mount_groups() {
    local where name
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup2 "$1"
        # A group whose children are limited has no processes of its own.
        mkdir "$1/run"
        while read -r where; do echo "$where" >"$1/run/cgroup.procs" 2>/dev/null || :; done <"$1/cgroup.procs"
        for name in $(cat "$1/cgroup.controllers"); do echo "+$name" >"$1/cgroup.subtree_control"; done
        return
    fi
    mount -t tmpfs -o mode=755 tmpfs "$1"
    for where in $(awk '$3 == "cgroup" { print $2 }' /proc/mounts); do
        name=$(basename "$where")
        mkdir "$1/$name"
        mount -t cgroup -o "$([ "$name" = systemd ] && echo none,name=)$name" cgroup "$1/$name"
    done
}

# Devices of its own, so that an engine without root may use those it needs.
devices() {
    local name numbers
    mount -t tmpfs -o mode=755 tmpfs "$1"
    while read -r name numbers; do
        mkdir -p "$(dirname "$1/$name")"
        # shellcheck disable=SC2086
        mknod -m 666 "$1/$name" c $numbers
    done <<<$'null 1 3\nzero 1 5\nfull 1 7\nrandom 1 8\nurandom 1 9\ntty 5 0\nfuse 10 229\nnet/tun 10 200'
    mkdir "$1/pts" "$1/shm" "$1/mqueue"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$1/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$1/shm"
    ln -s pts/ptmx "$1/ptmx"
    ln -s /proc/self/fd "$1/fd"
}

# Becomes the engine, with the unpacked packages as its root: not by chroot, in which no user namespace can be made.
engine() {
    local engine=$1 root=$2 work=$3 data=$keep/$1.data
    mount --rbind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount_groups "$root/sys/fs/cgroup"
    devices "$root/dev"
    mount --bind "$work/run" "$root/run"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --bind "$data" "$root/data"
    echo '{}' >"$root/etc/docker/daemon.json"
    [ "$engine" != docker-28-containerd ] || echo '{"features":{"containerd-snapshotter":true}}' >"$root/etc/docker/daemon.json"
    cd "$root"
    pivot_root . .
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    umount -l .
    cd /
    case $engine in
        docker-*)
            exec dockerd --host unix:///run/engine.sock --data-root /data --exec-root /run/docker --pidfile /run/docker.pid \
                --exec-opt native.cgroupdriver=cgroupfs ;;
        podman-5-rootless)
            mkdir -p /data/home /run/user/1000
            mount --bind /data/home /home/lab
            chown 1000:1000 /home/lab /run/user/1000
            chmod 711 /run/user
            # Where the command looks for it.
            ln -sf user/1000/engine.sock /run/engine.sock
            unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME
            exec chroot --userspec=1000:1000 --groups=1000 / env HOME=/home/lab USER=lab XDG_RUNTIME_DIR=/run/user/1000 \
                podman --log-level=warn system service --time=0 unix:///run/user/1000/engine.sock ;;
        podman-*)
            mount --bind /data /var/lib/containers
            exec podman --log-level=warn system service --time=0 unix:///run/engine.sock ;;
    esac
}

case ${1-} in
    inside | engine) "$@" ;;
    clean) rm -rf --one-file-system "$keep" ;;
    '' | -*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$self" ;;
    *) run "$@" ;;
esac
