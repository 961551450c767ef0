#!/bin/sh
# Makes the recordings that are shipped: lessons played on the screen at a reader's pace, in Docker on PostgreSQL 18.
#
#   assets/recordings/record.sh target/release/replab [LESSON...]
#
# Needs tmux, a Docker engine and an image of PostgreSQL 18. Takes about a minute a lesson.
set -eu
replab=$1
shift
here=$(dirname "$0")
[ $# -gt 0 ] || set -- 01-first-steps 07-async-failover-loses 23-split-brain

for lesson in "$@"; do
    screen="replab-record-$$"
    file="$here/$lesson.replab"
    state=$(mktemp -d)
    tmux new-session -d -s "$screen" -x 120 -y 40 \
        "XDG_STATE_HOME='$state' COLORTERM=truecolor LC_ALL=C.UTF-8 '$replab' play $lesson --runtime docker --postgres 18 --record '$file'"
    shows() { tmux capture-pane -p -t "$screen" | grep -q "$1"; }
    tries=0
    until shows "goes on"; do
        tries=$((tries + 1))
        [ $tries -lt 120 ] || { echo "$lesson doesn't begin" >&2; tmux kill-session -t "$screen"; exit 1; }
        sleep 1
    done
    # A reader needs some seconds for each text; a question is answered with the second choice.
    while ! shows "over: "; do
        sleep 5
        if shows "1 to [0-9].* answers"; then
            tmux send-keys -t "$screen" 2
        elif shows "Space *goes on"; then
            tmux send-keys -t "$screen" Space
        fi
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo "$lesson doesn't end" >&2; tmux kill-session -t "$screen"; exit 1; }
    done
    sleep 3
    tmux send-keys -t "$screen" q
    sleep 1
    tmux send-keys -t "$screen" Enter
    while tmux has-session -t "$screen" 2>/dev/null; do sleep 1; done
    rm -r "$state"
    ls -l "$file"
done
