#!/usr/bin/env bash
# Start-up script of a training machine, at every boot: waits for a dataset's id, gets the code, runs mondegreen.cloud.job,
# and switches the machine off. What goes wrong before the job can speak is told in runs/<id>/state.json and boot.txt.
set -uo pipefail
metadata=${MONDEGREEN_METADATA:-http://metadata.google.internal}/computeMetadata/v1/instance
storage=${STORAGE_EMULATOR_HOST:-https://storage.googleapis.com}
home=${MONDEGREEN_HOME:-/opt/mondegreen}
boot=$(mktemp)

about() { curl -sf -H 'Metadata-Flavor: Google' "$metadata/$1"; }
token() { about service-accounts/default/token | sed 's/.*"access_token" *: *"\([^"]*\)".*/\1/'; }
key() { printf '%s' "${prefix:+$prefix/}$1" | sed 's|/|%2F|g'; }
get() { curl -sSf --retry 5 -H "Authorization: Bearer $(token)" -o "$2" "$storage/storage/v1/b/$bucket/o/$(key "$1")?alt=media"; }
put() {
  curl -sSf --retry 5 -X POST -H "Authorization: Bearer $(token)" -H 'Content-Type: application/octet-stream' \
    --data-binary @"$2" "$storage/upload/storage/v1/b/$bucket/o?uploadType=media&name=$(key "$1")" >/dev/null
}

install() {
  command -v git >/dev/null && python3 -c 'import ensurepip' 2>/dev/null \
    || { apt-get update -qq && apt-get install -y -qq git python3-venv; } || return
  mkdir -p "$home" && cd "$home" || return
  if [ ! -d project ]; then
    get "datasets/$dataset/source.bundle" source.bundle && rm -rf cloning \
      && git clone --quiet source.bundle cloning && mv cloning project || return
  fi
  cd project && { [ -x .venv/bin/python ] || python3 -m venv .venv; } || return
  if grep -qs '^name = "mondegreen"' pyproject.toml; then # the repository of mondegreen itself
    .venv/bin/pip install --quiet --constraint constraints.txt --editable '.[gcp]'
  else # a project of `mondegreen init`; the extra comes last: pip must have read by then where mondegreen is fetched from
    echo 'mondegreen[gcp]' >../extra.txt \
      && .venv/bin/pip install --quiet --requirement requirements.txt --requirement ../extra.txt
  fi
}

bucket=$(about attributes/mondegreen-bucket) || exit 1
prefix=$(about attributes/mondegreen-prefix) || prefix=
until dataset=$(about attributes/mondegreen-dataset); do sleep "${MONDEGREEN_PAUSE:-10}"; done

if install >"$boot" 2>&1; then
  PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m mondegreen.cloud.job \
    --bucket "$bucket" --prefix "$prefix" --dataset-id "$dataset" 2>&1 | tee -a "$boot" \
    || put "runs/$dataset/boot.txt" "$boot" # what the job could not say itself, as when it cannot be imported
else
  put "runs/$dataset/boot.txt" "$boot"
  printf '{"state": "failed", "at": "%s", "message": "the machine could not be set up, see boot.txt beside this"}\n' \
    "$(date -u +%FT%TZ)" >"$boot.json" && put "runs/$dataset/state.json" "$boot.json"
fi
shutdown -h now
