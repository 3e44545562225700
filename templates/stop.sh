# Asks a job to end. Nothing happens when it has ended.
#
# folder, from the home
cd && cd "$folder" 2>/dev/null || exit 0
[ -e end ] && exit 0
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
# After a restart of the machine the number is another process's.
read -r supervisor _ then <pid && [ "$then" = "$boot" ] && kill -TERM "$supervisor" 2>/dev/null
exit 0
