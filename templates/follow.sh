# Gives a job's streams from the places `out_at` and `err_at` on (bytes), as they grow.
# Ends when the job has ended or the reader is gone. What it could not give any
# more is for look.sh, which knows where the streams end.
#
# folder, from the home; out_at, err_at
cd && cd "$folder" 2>/dev/null || exit 1
if [ -e end ]; then
    tail -c "+$((out_at + 1))" out
    tail -c "+$((err_at + 1))" err >&2
    exit 0
fi
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
exec 5<&0
tail -c "+$((out_at + 1))" -f out 2>/dev/null &
out=$!
tail -c "+$((err_at + 1))" -f err >&2 2>/dev/null &
err=$!
# Our input ends when the reader goes.
(cat <&5; kill "$out" "$err") >/dev/null 2>&1 &
pause=0.01
turns=0
# Without `out`, somebody has removed the folder.
while [ ! -e end ] && [ -e out ] && kill -0 "$out" 2>/dev/null; do
    # The supervisor writes `pid` a moment after it was started.
    if read -r supervisor _ then 2>/dev/null <pid; then
        # After a restart of the machine the number is another process's.
        [ "$then" = "$boot" ] && kill -0 "$supervisor" 2>/dev/null || break
    fi
    sleep "$pause"
    # A short job's end is seen at once; a long one is not to be disturbed.
    turns=$((turns + 1))
    case $turns in 10) pause=0.05 ;; 50) pause=0.2 ;; 200) pause=1 ;; esac
done
# A moment for the last words.
[ -e end ] && sleep 0.02
kill "$out" "$err" 2>/dev/null
exit 0
