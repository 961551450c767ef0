#!/usr/bin/env bash
# PostgreSQL programs for the process runtime: installed where this is root on a Debian-like system, else named.
set -euo pipefail
if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
else
    echo "PostgreSQL's programs are missing: sudo apt-get install postgresql" >&2
    exit 4
fi
