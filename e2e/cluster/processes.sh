# Processes of the cluster: started in a session of their own, with a log file
# and a pid file each. To be sourced after env.sh.

# start_time PID: prints when the process started (in ticks since boot); fails
# when there is no such process, or only its remains (a zombie).
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The program's name, in parentheses, may hold spaces: cut it off first.
  read -ra stat <<<"${stat##*) }"
  [[ ${stat[0]} != Z ]] && echo "${stat[19]}"
}

# alive NAME: whether the process that was started as NAME still runs. The
# start time guards against another process that got the same pid since.
alive() {
  local pid time
  read -r pid time 2>/dev/null <"$E2E_RUN/pids/$1" || return 1
  [[ $(start_time "$pid") == "$time" ]]
}

pid_of() { alive "$1" && cut -d' ' -f1 "$E2E_RUN/pids/$1"; }

# start NAME COMMAND...: in a clean environment, so that a proxy setting or a
# kubeconfig of the caller's does not reach the cluster.
start() {
  local name=$1
  shift
  setsid env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$E2E_RUN" "$@" \
    >>"$E2E_RUN/log/$name.log" 2>&1 </dev/null 9>&- &
  echo "$! $(start_time $!)" >"$E2E_RUN/pids/$name"
}

# kill_and_wait PID...: at once; the state is thrown away anyway.
kill_and_wait() {
  local pid
  (($#)) || return 0
  kill -KILL "$@" 2>/dev/null || true
  for pid in "$@"; do
    for _ in {1..100}; do
      start_time "$pid" >/dev/null || break
      sleep 0.05
    done
  done
}
