#!/usr/bin/env bash
# What the tests need beside Rust: PostgreSQL's programs for the process runtime, and a Docker engine that answers. Installed and
# started where this is root on a Debian-like system, else named.
set -euo pipefail
root() { [ "$(id -u)" = 0 ]; }

if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null 2>&1; then
    if root && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
    else
        echo "PostgreSQL's programs are missing: sudo apt-get install postgresql" >&2
        exit 4
    fi
fi

# What runs other engines beside this one (tests/engines/engine.sh); the rest is there on every Debian-like system.
if ! command -v ip >/dev/null 2>&1; then
    if root && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq iproute2 >/dev/null
    else
        echo "ip is missing: sudo apt-get install iproute2" >&2
        exit 4
    fi
fi

# An engine that somebody started by hand may have ended with that somebody's session.
engine() { docker version >/dev/null 2>&1; }
if command -v dockerd >/dev/null 2>&1 && root && ! engine; then
    echo "The Docker engine doesn't answer: starting it"
    # One that was killed leaves its number behind, which may be another process's by now: the new one would not start.
    pgrep -x dockerd >/dev/null || rm -f /var/run/docker.pid
    pgrep -x containerd >/dev/null || rm -f /var/run/docker/containerd/containerd.pid
    log=$(mktemp)
    setsid dockerd >"$log" 2>&1 </dev/null &
    for _ in $(seq 120); do
        if engine; then break; fi
        sleep 0.5
    done
    engine || { echo "dockerd doesn't come up:" >&2; tail -n 5 "$log" >&2; exit 4; }
fi
