#!/usr/bin/env bash
# Trains the FER+ recipe on a machine that is lent for minutes, and leaves the weights in parts of at most 16 MB.
# train_in_minutes.sh PACKED SECONDS OUT [OPTION...]: options go to `manet-train fit`, such as --set epochs=8.
set -euo pipefail
packed=$1 seconds=$2 out=$3
shift 3
python=${PYTHON:-python3}
run=$(mktemp --directory)
trap 'rm -rf "$run"' EXIT
"$python" -m training fit ferplus --data "$packed" --out "$run/run" --time-limit "$seconds" "$@"
"$python" -m training pack "$run/run" --out "$run/ferplus.safetensors" --provenance "Trained by train_in_minutes.sh."
mkdir -p "$out"
split --bytes=16000000 --numeric-suffixes "$run/ferplus.safetensors" "$out/weights."
cp "$run/run/log.csv" "$run/run/recipe.json" "$out"
