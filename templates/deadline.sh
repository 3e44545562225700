# The machine's own end, whatever becomes of cloudrun: the first act of its boot, as root.
# Takes: deadline, the moment in seconds since 1970; longest, in seconds from the boot on,
# where the clock is wrong.
left=$((deadline - $(date +%s)))
[ "$left" -le "$longest" ] || left=$longest
[ "$left" -ge 1 ] || left=1
# `shutdown +N` would need logind, which is not there yet. `halt` would not do: only
# power-off ends the machine. The second one is for a system whose services do not end.
off="sleep $left; shutdown -P now || poweroff; sleep 120; poweroff -f"
(echo -1000 >/proc/self/oom_score_adj) 2>/dev/null || true
setsid sh -c "$off" </dev/null >/dev/null 2>&1 &
