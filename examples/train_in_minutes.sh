#!/usr/bin/env bash
# Trains the FER+ recipe on a machine that is lent for minutes, and leaves the weights in parts of at most 16 MB.
# train_in_minutes.sh PACKED SECONDS OUT [OPTION...]: options go to `manet-train fit`, such as --set epochs=8.
# FACE_EMBEDDING, a folder with face-api's face_recognition_model files, adds the identity stage before it.
set -euo pipefail
packed=$1 seconds=$2 out=$3
shift 3
python=${PYTHON:-python3}
run=$(mktemp --directory)
trap 'rm -rf "$run"' EXIT
start=()
if [[ -n ${FACE_EMBEDDING:-} ]]; then
  "$python" -m training cluster-faces ferplus --data "$packed" --embedding "$FACE_EMBEDDING" --out "$run/identities.npz" \
    --clusters "${CLUSTERS:-512}"
  # A third of the time, less what the clusters took.
  "$python" -m training fit ferplus_identity --data "$run/identities.npz" --out "$run/identity" \
    --time-limit $((seconds / 3 - SECONDS > 1 ? seconds / 3 - SECONDS : 1)) "$@"
  start=(--init "$run/identity/best.safetensors")
fi
"$python" -m training fit ferplus --data "$packed" --out "$run/run" "${start[@]}" --time-limit $((seconds - SECONDS)) "$@"
"$python" -m training pack "$run/run" --out "$run/ferplus.safetensors" --provenance "Trained by train_in_minutes.sh."
mkdir -p "$out"
split --bytes=16000000 --numeric-suffixes "$run/ferplus.safetensors" "$out/weights."
cp "$run/run/log.csv" "$run/run/recipe.json" "$out"
