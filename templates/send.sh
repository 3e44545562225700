# Runs on the machine: sends what has changed below a folder since the marker was made.
# With GNU find, sort, comm and cut it sends only that; elsewhere everything each time.
#
# Before it stand: folder, marker (a file that remembers what was there), again (yes or no:
# send everything), far (yes or no: compress what shrinks), and in "$@" what find leaves out.
# The new marker is made before the archive, from what find says of each thing, and moved
# into place only when the other side says that it has everything: what changes meanwhile,
# or was lost on the way, is sent the next time.
set -eu
export LC_ALL=C

case $folder in '~/'*) folder=$HOME/${folder#??} ;; esac
case $marker in '~/'*) marker=$HOME/${marker#??} ;; esac
next=$marker.$$

state() {
    find . -mindepth 1 "$@" \( -type d -printf 'd %m - - - %p\0' \
        -o -type f -printf 'f %m %i %s %C@ %p\0' -o -type l -printf 'l - %i - %C@ %p\0' \) |
        sort -z
}

can_tell() {
    [ "$(find . -prune -printf x 2>/dev/null)" = x ] &&
        comm -z /dev/null /dev/null 2>/dev/null && cut -z -f 1 /dev/null 2>/dev/null
}

changed() {
    if [ "$again" = no ] && [ -f "$marker" ]; then comm -z -13 "$marker" "$next"; else cat "$next"; fi |
        cut -z -d ' ' -f 6-
}

archive() {
    if [ -f "$next" ]; then
        # A hard link is sent as the file that it is.
        changed | tar --null --no-recursion --hard-dereference --format=gnu -T - -cf -
    else
        tar -cf - .
    fi
}

if ! cd "$folder" 2>/dev/null; then
    echo none
    exit 0
fi
trap 'rm -f "$next"' EXIT
trap 'exit 129' HUP INT TERM PIPE
mkdir -p "${marker%/*}"
# Where a full disk has no room for it, everything is sent.
if can_tell; then state "$@" >"$next" 2>/dev/null || rm -f "$next"; fi
packed=no
if [ "$far" = yes ]; then
    # Its beginning tells whether it shrinks: on a far link too, zlib is no gain for what does not.
    whole=$(archive 2>/dev/null | head -c 1000000 | wc -c)
    small=$(archive 2>/dev/null | head -c 1000000 | gzip -1 | wc -c)
    if [ "$small" -lt $((whole * 9 / 10)) ]; then packed=yes; fi
fi
if [ "$packed" = yes ]; then echo packed; else echo archive; fi
# tar's own status says no more than its words, which the other side reads.
if [ "$packed" = yes ]; then archive | gzip -1; else archive || :; fi
read -r _ || exit 0
if [ -f "$next" ]; then mv -f "$next" "$marker"; fi
