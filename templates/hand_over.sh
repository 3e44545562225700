# Hands a Python program, which follows on stdin, to a Python of this machine.
# Prepended: size (of the program, in bytes), python (which one; empty: find one).
# Says what it found instead, on a line marked "cloudrun: ", when there is none.

cd /

limited() {
    if command -v timeout >/dev/null 2>&1; then timeout 20 "$@"; else "$@"; fi
}

# Sets `version` to what a Python says of itself, or to nothing.
ask_version() {
    version=$(limited "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' \
        </dev/null 2>/dev/null | head -n 1)
    case $version in *[!0-9.]*) version= ;; esac
}

# Sets `python` to the first of those given that is new enough, and notes those that are not.
choose() {
    for candidate; do
        found=$(command -v "$candidate" 2>/dev/null) || continue
        ask_version "$found"
        case $version in
        3.9.* | 3.[1-9][0-9].*) python=$found && return ;;
        ?*) too_old="${too_old:+$too_old,}\"$version\"" ;;
        esac
    done
}

too_old=
PATH=${PATH:-/usr/bin:/bin}:/usr/local/bin:/usr/bin:/bin:$HOME/.local/bin
if [ -z "$python" ]; then
    choose python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python \
        /opt/pytorch/bin/python /opt/conda/bin/python "$HOME"/miniconda3/bin/python \
        "$HOME"/miniforge3/bin/python "$HOME"/anaconda3/bin/python /anaconda/bin/python \
        "$HOME"/.local/share/uv/python/*/bin/python3 "$HOME"/.pyenv/versions/*/bin/python3
fi
if [ -z "$python" ]; then
    echo "cloudrun: {\"is\": \"no_python\", \"too_old\": [$too_old]}"
    exit 0
fi
# The program goes over stdin, so that it and what it is told are in no list of processes.
exec "$python" -I -c "import sys; exec(sys.stdin.buffer.read($size).decode())"
