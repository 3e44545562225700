# Asks a job to end. Nothing happens when it has ended.
#
# folder, from the home
cd && cd "$folder" 2>/dev/null || exit 0
[ -e end ] && exit 0
read -r supervisor _ <pid && kill -TERM "$supervisor" 2>/dev/null
exit 0
