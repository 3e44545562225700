# Puts the workloads, which come as a tar.gz on stdin, into a folder that is named after them.
#
# folder, from the home
cd || exit 1
if [ -d "$folder" ]; then
    cat >/dev/null
    exit 0
fi
mkdir -p "${folder%/*}" && new=$(mktemp -d "$folder.XXXXXX") || exit 1
tar -xzf - -C "$new" || {
    rm -rf "$new"
    exit 1
}
# Another cloudrun may have been faster.
[ -d "$folder" ] || mv "$new" "$folder"
rm -rf "$new"
exit 0
