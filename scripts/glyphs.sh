#!/bin/sh
# The open-set image set of Han characters: 59 fonts to train on, 14 more only to test on. Installs
# the fonts on Debian 12 (657 MB) where they are missing, then packs three sets of training
# characters, each within the next, and one of 1,000 others to test on.
#     sh scripts/glyphs.sh [FOLDER]
set -eu
out=${1:-shards}
faces=configs/glyphs/faces.tsv
missing=$(tail -n +2 "$faces" | while IFS="$(printf '\t')" read -r _ package version file _; do
    test -f "/usr/share/fonts/$file" || echo "$package=$version"
done | sort -u)
if [ -n "$missing" ]; then
    apt-get update
    # One word a package.
    # shellcheck disable=SC2086
    apt-get install -y --no-install-recommends $missing
fi
mkdir -p "$out"
for count in 100 1000 4856; do
    sf2 pack configs/glyphs/train.yaml "$out/glyphs-$count" --set "train=$count" --overwrite
done
sf2 pack configs/glyphs/test.yaml "$out/glyphs-test" --overwrite
