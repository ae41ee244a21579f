#!/usr/bin/env bash
# From nothing to starter/model, stage by stage. Run it again after an interruption: finished stages are skipped, the
# others go on from the last shard of speech or the last checkpoint.
#   starter/train.sh [FOLDER (default var/starter)]
# Environment: FRONT_MINUTES, LETTERS_MINUTES, POLISH_MINUTES of training (20, 90, 60); LIBRISPEECH, a folder with
# train-clean-100, where you have it; OUT (starter/model).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-var/starter} out=${OUT:-starter/model} cores=$(nproc)
mkdir -p "$folder"

# glibc otherwise gives every large tensor back to the kernel and pays page faults for it: a quarter of the time.
export MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=8000000000 OMP_NUM_THREADS=1

# Weights: Whisper's encoder.
[ -e "$folder/whisper/model.safetensors" ] || python -m starter.whisper --out "$folder/whisper"

# Speech: synthesisers and readers.
if [ ! -d "$folder/package/voices" ]; then # Kokoro's style vectors, Apache-2.0
  (cd "$folder" && npm pack --silent kokoro-js@1.2.1 && tar xzf kokoro-js-1.2.1.tgz package/voices)
fi
prompts="$folder/prompts/usr/share"
if [ ! -d "$prompts" ]; then # real prompts: their texts are kept out of training, their audio is only measured
  (cd "$folder" && apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-g722 \
    && for file in asterisk-core-sounds-en*.deb; do dpkg -x "$file" prompts; done)
fi
texts="$prompts/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
python -m starter.synthesize --data "$folder/speech" --kokoro-voices "$folder/package/voices" \
  --prompts "$texts" --workers "$cores"
if [ ! -e "$folder/readers.done" ]; then
  if [ -n "${LIBRISPEECH:-}" ]; then
    readers=(--librispeech "$LIBRISPEECH")
  else
    [ -d "$folder/Resemblyzer" ] || git clone --quiet --depth 1 https://github.com/resemble-ai/Resemblyzer "$folder/Resemblyzer"
    readers=(--clips "$folder/Resemblyzer/audio_data/librispeech_train-clean-100" --whisper-base "$folder/whisper-base")
  fi
  python -m starter.readers --data "$folder/speech" --prompts "$texts" "${readers[@]}"
  touch "$folder/readers.done"
fi

# Training: the convolutions, the letters, and a polish at a lower rate that decays.
[ -d "$folder/front/model" ] || python -m starter.frontend --whisper "$folder/whisper" --speech "$folder/speech" \
  --run "$folder/front" --minutes "${FRONT_MINUTES:-20}"
python -m starter.letters --model "$folder/front/model" --speech "$folder/speech" --run "$folder/letters" \
  --minutes "${LETTERS_MINUTES:-90}" --workers "$cores"
python -m starter.letters --model "$folder/letters/model" --speech "$folder/speech" --run "$folder/polish" \
  --minutes "${POLISH_MINUTES:-60}" --rate 5e-4 --decay-from 0 --seed 2 --workers "$cores"

# The model as it is shipped, the clips that go with it, the figures.
python -m starter.export --model "$folder/polish/model" --out "$out"
python -m starter.heldout --speech "$folder/speech" --model "$out" --out "$folder/clips"
python -m starter.evaluate --model "$out" --speech "$folder/speech" --prompts "$prompts/asterisk/sounds/en_US_f_Allison" \
  --prompt-texts "$texts" --report "$folder/report.json"
