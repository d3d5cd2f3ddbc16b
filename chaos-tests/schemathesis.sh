#!/usr/bin/env bash
# Requests made from the endpoint's own description, good ones and bad ones, against a node with a recipe and a partner who is down:
# no answer may be a 5xx, no route may forget its token, and answers have to be as they are described.
#
#   chaos-tests/schemathesis.sh [target/release/hms] [seconds]
#
# `short` in place of the seconds is the part that the tests run: the same requests each time, as many as there are.
# Needs python3 with venv (python3-venv on Debian); the rest is installed into the folder of builds.
set -euo pipefail

hms=$(realpath "${1:-target/release/hms}")
seconds=${2:-120}
wanted=$(realpath "$(dirname "$0")/schemathesis.txt")
venv=${CARGO_TARGET_DIR:-$(dirname "$wanted")/../target}/schemathesis
if ! cmp -s "$wanted" "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check --no-deps -r "$wanted"
  cp "$wanted" "$venv/installed.txt"
fi
venv=$(realpath "$venv")
home=$(mktemp -d)
cd "$home"
cat > hms.yaml <<'YAML'
data_dir: data
listen: 127.0.0.1:0
connect_to: {away.example:80: 127.0.0.1:9}
YAML
"$hms" serve --config hms.yaml 2> node.log &
node=$!
end() {
  kill "$node" 2> /dev/null || true
  wait "$node" 2> /dev/null || true
  cd /
  rm -rf "$home"
}
trap end EXIT

address=
for _ in $(seq 600); do
  address=$(sed -n 's/.*"message":"the node listens","address":"\([^"]*\)".*/\1/p' node.log)
  [ -n "$address" ] && break
  kill -0 "$node" || { cat node.log >&2; exit 1; }
  sleep 0.1
done
export HMS_NODE="http://$address" HMS_TOKEN_FILE="$home/data/admin.token"

cat > recipe.yaml <<'YAML'
id: described.sync
source:
  feed: described
targets:
  - name: drop
    adapter: file
    path: FOLDER/rows.jsonl
    format: jsonl
  - name: away
    adapter: rest
    url: http://away.example/nobody
schedule: every 1h
YAML
sed -i "s|FOLDER|$home|" recipe.yaml
"$hms" sync apply recipe.yaml
"$hms" ppe event publish described --data '{"id":"e-1"}'
"$hms" sync run described.sync || true

case $seconds in
  short) bounds=(--phases examples,coverage,fuzzing --max-examples 10 --generation-deterministic) ;;
  *) bounds=(--max-time "$seconds" --seed 1 --generation-database none) ;;
esac
# What ends tokens is left to the other tests: without the one that asks, the rest of the run would be 401.
"$venv/bin/schemathesis" run "$HMS_NODE/openapi.json" \
  --header "Authorization: Bearer $(cat data/admin.token)" \
  --exclude-operation-id revokeToken \
  --checks not_a_server_error,ignored_auth,content_type_conformance,response_schema_conformance,allow_header_conformance \
  "${bounds[@]}" --continue-on-failure --no-color
kill -0 "$node"
