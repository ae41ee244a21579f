#!/usr/bin/env bash
# From nothing to starter/model: voices, speech, training, figures. Run it again after an interruption:
# it goes on from the last finished shard of speech and the last checkpoint.
#   starter/train.sh [FOLDER (default var/starter)] [MINUTES of training (default 120)]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-var/starter} minutes=${2:-120} cores=$(nproc)
mkdir -p "$folder"

# glibc otherwise gives every large tensor back to the kernel and pays page faults for it: a quarter of the time.
export MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=8000000000

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
python -m starter.heldout --speech "$folder/speech"
python -u -m starter.train --speech "$folder/speech" --run "$folder/run" --minutes "$minutes" --workers "$cores"
cp "$folder"/run/best/* starter/model/
python -m starter.evaluate --speech "$folder/speech" --prompts "$prompts/asterisk/sounds/en_US_f_Allison" \
  --prompt-texts "$texts" --report "$folder/report.json"
