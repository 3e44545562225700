# Runs one job to its end and writes down how it ended; outlives every connection.
#
#   supervisor.sh SECONDS MARK      in the job's folder, in a session of its own
#
# MARK is the value of CLOUDRUN_JOB in the environment of all that the job starts.
#
# The folder holds, each written whole by a rename: `pid` (the supervisor's and
# the job's, and the boot of the machine that they belong to), `end` (see below). `out` and `err` are the job's own streams.
ttl=$1
mark=$2
reason=exit
# So that the end can be written down when the job has filled the disk.
printf '%4096s' '' >reserve

put() {
    printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1"
}

# How many processes the system has killed for want of memory, ever.
oom_kills() {
    total=0
    while read -r name count; do
        [ "$name" = oom_kill ] && total=$count
    done 2>/dev/null </proc/vmstat
    echo "$total"
}

# Ask the job to end; ten seconds later it must.
quit() {
    [ "$reason" = exit ] || return
    reason=$1
    kill -TERM "-$job" 2>/dev/null || kill -TERM "$job" 2>/dev/null
    setsid sh -c 'sleep 10; kill -KILL "-$0"' "$job" 2>/dev/null &
    killer=$!
}

oom_before=$(oom_kills)
started=$(date +%s)
# A shell ignores Ctrl-C for what it runs beside itself; the command must not.
keys=
env --default-signal=INT,QUIT true 2>/dev/null && keys="env --default-signal=INT,QUIT"
CLOUDRUN_JOB=$mark setsid $keys sh ./command </dev/null >>out 2>>err &
job=$!
trap 'quit stopped' TERM
trap 'quit deadline' ALRM
trap '' HUP INT
put pid "$$ $job $(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
# By then another process may have our number, and somebody may have removed this folder.
setsid sh -c 'sleep "$0"; grep -qs supervisor "/proc/$1/cmdline" && kill -ALRM "$1"' "$ttl" "$$" &
timer=$!

# A signal to us ends `wait` before the job has ended.
while :; do
    wait "$job"
    status=$?
    kill -0 "$job" 2>/dev/null || break
done

# All that bears the job's mark: what it started, in whichever session.
others() {
    grep -lz "^CLOUDRUN_JOB=$mark\$" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'
}

# What the job left running goes with it.
if [ -n "$(others)" ] || kill -0 "-$job" 2>/dev/null; then
    kill -TERM "-$job" $(others) 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "-$job" 2>/dev/null || [ -n "$(others)" ] || break
        sleep 0.2
    done
    kill -KILL "-$job" $(others) 2>/dev/null
fi
# Itself first: it may not have come as far as a group of its own.
kill -KILL "$timer" "-$timer" ${killer:+"$killer" "-$killer"} 2>/dev/null

free=$(df -Pk . | { read -r _; read -r _ _ _ free _; echo "$free"; })
oom=$(($(oom_kills) - oom_before))
rm -f reserve
until put end "status=$status reason=$reason started=$started ended=$(date +%s) \
out=$(($(wc -c <out))) err=$(($(wc -c <err))) oom=$oom free_kib=${free:-0}"; do
    # Who removed this folder wants to know nothing.
    [ -e out ] || exit
    sleep 2
done
[ ! -e upload ] || sh ./upload
