# The guard of one throwaway server. It waits until db-race is gone, and then clears away: no
# postgres process of the run directory ($1) stays, nor the directory. POSIX sh and its usual tools
# only; every wait has a bound.

# A closing terminal must not end it before its work is done.
trap '' HUP INT TERM

directory=$1

# A line means that db-race has cleared away itself; the end of the file, that it is dead.
if read -r _; then
    exit 0
fi

# Reads "pid command line" and prints the pids of the servers in our directory. Nobody else that
# happens to have the path in its arguments (an editor, tail -f) is meant. Sessions have another
# command line, and end with their postmaster.
only_ours() {
    while read -r pid command; do
        case $command in
            *postgres*" -D $directory/data "* | *initdb*" -D $directory/data "*) echo "$pid" ;;
        esac
    done
}

# Slim containers have no ps, and macOS has no /proc.
ours() {
    if [ -r /proc/self/cmdline ]; then
        grep -lF -e "$directory/data" /proc/[0-9]*/cmdline | while read -r file; do
            pid=${file#/proc/}
            echo "${pid%/cmdline} $(tr '\0\n' '  ' <"$file") "
        done | only_ours
    else
        ps -A -ww -o pid= -o args= | sed 's/$/ /' | only_ours
    fi
}

# $1: the signal; $2: how many times to look, at most; $3: "-" to send it to the whole process group,
# which each of ours leads. True when they are gone.
end_with() {
    pids=$(ours)
    [ -n "$pids" ] || return 0
    for pid in $pids; do
        kill -s "$1" -- "${3:-}$pid"
    done
    looks=$2
    while [ "$looks" -gt 0 ]; do
        pids=$(ours)
        [ -n "$pids" ] || return 0
        # A sleep that knows no fractions waits a second instead of 0.05.
        sleep 0.05 || { sleep 1 && looks=$((looks - 19)); }
        looks=$((looks - 1))
    done
    return 1
}

# QUIT makes the postmaster end its sessions and go at once. It kills those that don't go itself
# after 5 s, so it gets 7 s; killed any earlier, it would leave them behind. initdb goes when the
# step it is at is done; when that takes long, the server that does the step is ended too, though
# then a bit of shared memory stays behind.
#
# The postmaster may have been started in the moment of death: once its directory is gone, look
# again.
for _ in 1 2; do
    end_with QUIT 100 || end_with QUIT 40 - || end_with KILL 20 -
    rm -rf -- "$directory"
done
