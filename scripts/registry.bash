# registry.bash - to be sourced: a registry on a free loopback port.

# start_registry DIRECTORY [PORT]: serves DIRECTORY/data until stop_registry is called with the same
# DIRECTORY. Sets `registry` to its host:port.
start_registry() {
    local directory=$1 port=${2:-0} deadline=$((SECONDS + 30))
    mkdir -p "$directory/data"
    cat > "$directory/config.yml" <<END
version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $directory/data}, delete: {enabled: true}}
http: {addr: 127.0.0.1:$port}
END
    : > "$directory/log"
    docker-registry serve "$directory/config.yml" >> "$directory/log" 2>&1 &
    echo $! > "$directory/pid"
    until registry=$(sed -n 's/.*msg="listening on \([^"]*\)".*/\1/p' "$directory/log") &&
            [ -n "$registry" ]; do
        if ! kill -0 "$(cat "$directory/pid")" 2> /dev/null || [ $SECONDS -ge $deadline ]; then
            cat "$directory/log" >&2
            echo "the registry did not start" >&2
            return 1
        fi
        sleep 0.05
    done
}

stop_registry() {
    local pid
    [ -e "$1/pid" ] || return 0
    pid=$(cat "$1/pid")
    rm "$1/pid"
    kill "$pid" 2> /dev/null || return 0
    wait "$pid" 2> /dev/null || true
}
