# Starts a job under its supervisor, once, however often this is asked for.
#
# folder, from the home; command and supervisor, the texts of two scripts; upload, that of a
# third (see upload.sh), or nothing; ttl, in seconds; mark, the value of CLOUDRUN_JOB
cd || exit 1
command -v setsid >/dev/null || {
    echo "This machine has no setsid; it comes with util-linux." >&2
    exit 1
}
mkdir -p "${folder%/*}" && chmod 700 "${folder%/*}" || exit 1
# What nobody brought home, or was kept there, goes a month after its end.
for old in "${folder%/*/*}"/*/job/end; do
    [ -n "$(find "$old" -mtime +30 2>/dev/null)" ] && rm -rf "${old%/job/end}"
done
# An answer that was lost makes us ask again: the job is there then.
[ -e "$folder/supervisor" ] && exit 0
mkdir -p "$folder" && cd "$folder" || exit 1
: >out && : >err || exit 1
(umask 077 && printf '%s\n' "$command" >command) || exit 1
[ -z "$upload" ] || (umask 077 && printf '%s\n' "$upload" >upload) || exit 1
printf '%s\n' "$supervisor" >supervisor.new && mv supervisor.new supervisor || exit 1
setsid sh ./supervisor "$ttl" "$mark" </dev/null >/dev/null 2>>trouble &
