# What the demo is told with: words on the screen, programs in the background that all end, and asking until it is so.
# shellcheck shell=bash

pids=()
names=()
dir=
part=build
why=
began=${EPOCHREALTIME/[^0-9]/}

# Bold and dim where that is wanted: on a terminal, unless NO_COLOR says otherwise.
bold='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

# elapsed: seconds since the beginning, with a tenth.
elapsed() {
  local tenths=$(((${EPOCHREALTIME/[^0-9]/} - began) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '   %s%6ss%s  %s\n' "$dim" "$(elapsed)" "$plain" "$*"; }
indent() { sed 's/^/   /'; }
quote() { fold -s -w 94 "$1" | sed 's/^/   | /'; }
die() { why=$*; exit 1; }

stop_all() {
  local code=$? i tries
  trap - EXIT INT TERM HUP
  if [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; then
    say "Interrupted. Stopping everything." >&2
  elif [ "$code" -ne 0 ]; then
    for i in "${names[@]}"; do
      # Of sixteen services, those that have something to say.
      case $i in service-*) [ "$(wc -l <"$dir/$i.log")" -gt 1 ] || continue ;; esac
      printf -- '\n-- the last lines of %s\n' "$i" >&2
      tail -n 15 "$dir/$i.log" >&2 || true
    done
    printf '\ndemo: failed in part "%s"%s\n' "$part" "${why:+: $why}" >&2
  fi
  # The youngest first; each gets ten seconds to go by itself.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null || continue
    for ((tries = 0; tries < 200; tries++)); do
      kill -0 "${pids[i]}" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  if [ -n "$dir" ]; then rm -rf "$dir"; fi
  exit "$code"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# start NAME COMMAND...: in the background, with its output in a log.
start() {
  local name=$1
  shift
  "$@" >"$dir/$name.log" 2>&1 </dev/null &
  pids+=($!)
  names+=("$name")
}

# until_true SECONDS WHAT COMMAND...: asks again and again; dies when the time is over or a program is.
until_true() {
  local seconds=$1 what=$2 i
  local end=$((SECONDS + seconds))
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || die "waited $seconds seconds in vain: $what"
    for i in "${!pids[@]}"; do
      kill -0 "${pids[i]}" 2>/dev/null || die "${names[i]} ended by itself"
    done
    sleep 0.2
  done
}

# expect WHAT ACTUAL WANTED: dies where they differ.
expect() { [ "$2" = "$3" ] || die "$1: $2, not $3"; }

fetch() { curl -fsS --noproxy '*' --max-time 5 "$@" 2>/dev/null; }
answers() { fetch -o /dev/null "$1"; }
is_silent() { ! answers "$1"; }

# free_port: into `port`, one that nobody listens on and that was not given before, below those that outgoing
# connections take.
given=' '
free_port() {
  while :; do
    port=$((15000 + RANDOM % 15000))
    case $given in *" $port "*) continue ;; esac
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  given+="$port "
}

# prometheus_says QUERY VALUE: whether the query has exactly one sample, with this value.
prometheus_says() {
  local body
  body=$(fetch -G --data-urlencode "query=$1" "http://$prometheus/api/v1/query") || return 1
  [[ $body =~ \"value\":\[[0-9.]+,\"$2\"\] ]]
}
# alert_in_alertmanager NAME INSTANCE
alert_in_alertmanager() {
  fetch -G --data-urlencode "filter=alertname=\"$1\"" --data-urlencode "filter=instance=\"$2\"" \
    "http://$alertmanager/api/v2/alerts" | grep -q '"fingerprint"'
}

# metric SAMPLE: its value as runbookd exposes it, 0 where it has none.
metric() {
  fetch "http://$runbookd/metrics" |
    awk -v sample="$1" 'index($0, sample " ") == 1 { found = $2 } END { print found + 0 }'
}
at_least() { [ "$(metric "$1")" -ge "$2" ]; }
# outcomes RUNBOOK: how many of its executions ended how, a line each.
outcomes() {
  fetch "http://$runbookd/metrics" |
    sed -n "s/^runbookd_executions_total{runbook=\"$1\",outcome=\"\([a-z_]*\)\"} \([1-9][0-9]*\)$/\1 \2/p"
}
# ended RUNBOOK OUTCOME COUNT: whether so many executions of it did. Another end is the end of the demo.
ended() {
  local outcome count found=1
  while read -r outcome count; do
    [ "$outcome" = "$2" ] || die "an execution of $1 ended as $outcome, not $2"
    [ "$count" -lt "$3" ] || found=0
  done < <(outcomes "$1")
  return "$found"
}
# The command line, as anybody would use it.
cli() { "$bin/runbookd" "$@"; }
# find_execution RUNBOOK TARGET: into `id`.
find_execution() {
  id=$(cli executions list --runbook "$1" --target "$2" --output json | grep -o "$1_[0-9A-Z]\{26\}" | head -n 1)
  [ -n "$id" ]
}
# denied CODE: the instances whose alert ServiceUnavailable was denied with it, each once.
denied() {
  cli decisions list --reason "$1" --alertname ServiceUnavailable --limit 500 --output json |
    { grep -o '"instance": *"127[0-9.:]*"' || true; } | grep -o '127[0-9.:]*' | sort -u
}
count() { wc -l | tr -d ' '; }
messages() { find "$dir/pager" -type f -name '[0-9]*' | sort -V; }
# message TEXT: the newest message at the pager that contains it.
message() { messages | { xargs -r grep -lF -- "$1" || true; } | tail -n 1; }
was_told() { [ -n "$(message "$1")" ]; }
