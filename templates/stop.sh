# Asks a job to end. Nothing happens when it has ended.
#
# folder, from the home; mark, the value of CLOUDRUN_JOB in the environment of all that it started
cd && cd "$folder" 2>/dev/null || {
    # Somebody has removed its folder, and with it who it is.
    left=$(grep -lz "^CLOUDRUN_JOB=$mark\$" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n')
    [ -z "$left" ] || kill -TERM $left 2>/dev/null
    exit 0
}
[ -e end ] && exit 0
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
# After a restart of the machine the number is another process's.
read -r supervisor _ then <pid && [ "$then" = "$boot" ] && kill -TERM "$supervisor" 2>/dev/null
exit 0
