# A notebook server on the machine, for as long as our input is open; prints its port first.
#
# folder, from the home; python; token
cd && mkdir -p "$folder" && cd "$folder" || exit 1
port=$("$python" -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])') || exit 1
case $python in */.cloudrun/environments/*) touch "${python%/bin/python}.used" ;; esac
root=
[ "$(id -u)" = 0 ] && root=--allow-root
# The token is in the environment, not in the command line, which everybody can list.
JUPYTER_TOKEN=$token setsid "$python" -m jupyterlab --no-browser --ip=127.0.0.1 \
    --port="$port" --ServerApp.port_retries=0 $root </dev/null >&2 &
server=$!
exec 5<&0
# Our input ends when the reader goes, however he goes.
(
    cat <&5 >/dev/null
    kill -TERM "-$server"
    sleep 3
    kill -KILL "-$server"
) 2>/dev/null &
echo "$port"
exec >&-
wait "$server"
