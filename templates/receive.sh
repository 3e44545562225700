# Runs on the machine: takes a folder that is pushed. Needs POSIX sh, tar, and xargs -0;
# with GNU find, sort and comm it also tells what has changed here since the last push.
#
# Before it stand: folder, patience (seconds), and in "$@" what find leaves out. Beside the folder, in .NAME.cloudrun/, it keeps:
#   manifest   what the last push brought; its first line ends in its digest, ID
#   state.ID   what find said of each thing here after that push
#   coming     the manifest of a push that was cut off while things were moved into place
#   lock       a link that says whose push is under way: HOST:PID
#   new.PID/   what a push has brought and not yet moved into place:
#              files/, manifest (comes last), and the lists folders, gone, rmdir, into, chmod
#
# A file is moved into place by rename: it is the old one or the new one. Cut off before
# all is here, a push changes nothing. Cut off while it moves things into place, some are
# new and some old; the manifest is still the old one and the moved things are not what
# state.ID says, so the next push brings them again and removes what `coming` has too much.
set -eu
export LC_ALL=C

say() { printf '%s\n' "$*"; }

refuse() {
    # One line: a word for the program, and what the tools said.
    say "refused $1 $(printf %s "${2:-}" | tr '\n' ' ' | tail -c 400)"
    exit 3
}

case $folder in '~/'*) folder=$HOME/${folder#??} ;; esac
keep=${folder%/*}/.${folder##*/}.cloudrun
new=$keep/new.$$

# One line a thing, NUL at its end, which changes whenever the thing does.
state() {
    (cd "$folder" && find . -mindepth 1 "$@" \( -type d -printf 'd %m - - - %p\0' \
        -o -printf '%y %m %i %s %C@ %p\0' \)) | sort -z
}

can_tell() {
    [ "$(find . -prune -printf x 2>/dev/null)" = x ] && comm -z /dev/null /dev/null 2>/dev/null
}

kept_id() {
    id=-
    if [ -d "$folder" ] && [ -f "$keep/manifest" ]; then read -r _ id <"$keep/manifest" || :; fi
}

# Shows a manifest: its ID, how long the rest is, the rest. Another push may put a new one
# into its place meanwhile: both files that are open here must be the same.
show() {
    first=- second=
    while [ -f "$2" ] && [ "$first" != "$second" ]; do
        exec 3<"$2" 4<"$2"
        read -r _ first <&3 && read -r _ second <&4
    done
    if [ "$first" = - ]; then
        say "$1 - 0"
    else
        say "$1 $first $(($(wc -c <&3)))"
        cat <&4
    fi
}

look() {
    kept_id
    if [ "$id" != - ] && [ -f "$keep/state.$id" ]; then
        say lost "$id"
        state "$@" | comm -z -23 "$keep/state.$id" - 2>/dev/null
        printf '\0'
    else
        say all "$id"
    fi
    read -r mine || exit 0
    if [ "$id" = "$mine" ]; then say same; else show manifest "$keep/manifest"; fi
    show coming "$keep/coming"
}

# Waits while another push goes on. One that is dead, or brings nothing for so long, has lost
# the lock; it sees that before it moves anything into place.
take_lock() {
    me=$(uname -n):$$ tries=0 still=0 size=
    until ln -s "$me" "$keep/lock" 2>/dev/null; do
        owner=$(readlink "$keep/lock") || [ -w "$keep" ] || refuse cannot "$keep is not writable"
        if [ "${owner%:*}" = "${me%:*}" ] && ! kill -0 "${owner##*:}" 2>/dev/null &&
            [ ! -d "/proc/${owner##*:}" ] || [ "$still" -ge $((patience * 5)) ]; then
            mv -f "$keep/lock" "$keep/dead.$$" 2>/dev/null || :
            rm -f "$keep/dead.$$"
            continue
        fi
        [ "$tries" -lt $((patience * 5)) ] || [ "$still" -gt 0 ] || refuse busy "$owner"
        before=$size size=$(du -sk "$keep" 2>/dev/null || :)
        if [ "$size" = "$before" ]; then still=$((still + 1)); else still=0; fi
        tries=$((tries + 1))
        sleep 0.2 2>/dev/null || sleep 1
    done
    trap 'clean' EXIT
    trap 'exit 129' HUP INT TERM PIPE
}

has_lock() { [ "$(readlink "$keep/lock")" = "$me" ]; }

clean() {
    rm -rf "$new"
    if has_lock; then rm -f "$keep/lock"; fi
}

is_full() { case $1 in *'No space left'* | *'uota exceeded'*) return 0 ;; *) return 1 ;; esac }

receive() {
    rm -rf "$keep"/new.*
    free=$(df -Pk "$keep" | awk 'NR == 2 { print $4 }')
    if [ -n "$free" ] && [ "$((need / 1024))" -gt "$free" ]; then refuse full "$free"; fi
    mkdir "$new" || refuse cannot "$new"
    said=$({ tar "$unpack" - -C "$new" && echo ' ok'; } 2>&1 | tail -c 1000)
    case $said in
    *' ok') ;;
    *)
        if is_full "$said"; then refuse full ''; fi
        refuse broken "$said"
        ;;
    esac
    [ -f "$new/manifest" ] || refuse broken 'its end is missing'
    mkdir -p "$new/files"
}

# Run for lists of names. Each item of `folders` is what to do and a folder, those above first:
#   755./src   make it, with this mode      ===./src   make it
#   xxx./src   it is no more: what stands there instead is a job's, but nothing of ours is to
#              be removed through a link
place_folders='
for item do
    path=${item#???} todo=${item%"$path"}
    if [ -L "$path" ]; then rm -f "$path"; fi
    if [ "$todo" = xxx ]; then continue; fi
    if [ -e "$path" ] && [ ! -d "$path" ]; then rm -f "$path"; fi
    if [ -d "$path" ]; then
        if [ "$todo" != === ]; then chmod "$todo" "$path"; fi
    elif [ -d "$new/files/$path" ]; then
        mv "$new/files/$path" "$path"
    else
        mkdir "$path"
    fi
done'

# Moves what lies in these folders of new/files, save folders, into the same ones in place.
place_files='
for path do
    cd "$new/files/$path" 2>/dev/null || continue
    set --
    for name in * .[!.]* ..?*; do
        if [ -d "$name" ] && [ ! -L "$name" ]; then continue; fi
        if [ ! -e "$name" ] && [ ! -L "$name" ]; then continue; fi
        there=$folder/$path/$name
        if [ -d "$there" ] && [ ! -L "$there" ] && ! rmdir "$there" 2>/dev/null; then
            # What a job has put into it is not ours to remove.
            mv "$there" "$there.aside-$$"
        fi
        set -- "$@" "./$name"
        if [ $# -ge 500 ]; then mv -f "$@" "$folder/$path/"; set --; fi
    done
    if [ $# -gt 0 ]; then mv -f "$@" "$folder/$path/"; fi
done'

change_modes='for item do chmod "${item%"${item#???}"}" "${item#???}"; done'

each() {
    list=$new/$1
    shift
    [ ! -s "$list" ] || xargs -0 "$@" <"$list"
}

place() {
    if [ ! -L "$folder" ] && { [ ! -e "$folder" ] || rmdir "$folder" 2>/dev/null; }; then
        mv "$new/files" "$folder"
        return
    fi
    export new folder
    cd "$folder" &&
        each folders sh -euc "$place_folders" sh &&
        each gone rm -f -- &&
        { each rmdir rmdir -- 2>/dev/null || :; } &&
        each into sh -euc "$place_files" sh &&
        each chmod sh -euc "$change_modes" sh
}

keep_state() {
    rm -f "$keep/state.next"
    if can_tell && state "$@" >"$keep/state.next" 2>/dev/null; then
        mv -f "$keep/state.next" "$keep/state.$id"
    else
        # Without it, the next push brings everything again.
        rm -f "$keep/state.next" "$keep/state.$id"
    fi
}

disk_of() { df -P "$1" | awk 'NR == 2 { print $1, $6 }'; }

take() {
    mkdir -p "$keep" 2>/dev/null || refuse cannot "$keep"
    take_lock
    kept_id
    [ "$id" = "$seen" ] || refuse again
    if [ -d "$folder" ] && [ "$(disk_of "$folder")" != "$(disk_of "$keep")" ]; then
        refuse mounted
    fi
    receive
    has_lock || refuse stolen
    # From here on it goes to its end, whoever listens.
    trap '' HUP INT TERM PIPE
    mv -f "$new/manifest" "$keep/coming"
    said=$(place 2>&1) || { is_full "$said" && refuse full '' || refuse cannot "$said"; }
    before=$id
    read -r _ id <"$keep/coming"
    keep_state "$@"
    mv -f "$keep/coming" "$keep/manifest"
    for old in "$keep"/state.*; do
        if [ "$old" != "$keep/state.$id" ]; then rm -f "$old"; fi
    done
    say "done"
}

look "$@"
read -r seen need unpack || exit 0
take "$@"
