#!/usr/bin/env bash
# Usage: without.sh FOLDER MODULE [MODFILE] makes a copy of a module without what no test drives:
# each package in FOLDER/without takes the place of that of the module. Where its first line is
# `//without [FILE...]`, only the file of its name goes, and those. What is left out refuses, and
# says so. FOLDER/MODFILE, by default go.mod, replaces the module by the copy, which must be there
# before any go command runs in the folder.
set -euo pipefail
cd "$(dirname "$0")/$1"

mod=${3:-go.mod}
copy=$(sed -n "s|^.*$2 => ./\(.*\)|\1|p" "$mod")
version=$(sed -n "s|^.*$2 \(v[0-9][^ ]*\).*|\1|p" "$mod" | head -n 1)
if [ -z "$copy" ] || [ -z "$version" ]; then
  echo "without.sh: $1/$mod does not require and replace $2" >&2
  exit 1
fi
stamp=$({ echo "$2@$version"; find without -type f -exec sha256sum {} + | sort; } | sha256sum)
if [ "$(cat "$copy/.stamp" 2>/dev/null)" != "$stamp" ]; then
  source=$(cd / && GOFLAGS= go mod download -json "$2@$version" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
  rm -rf "$copy"
  cp -r "$source" "$copy"
  chmod -R u+w "$copy"
  find "$copy" -name '*_test.go' -delete
  find without -name '*.go.txt' -printf '%P\n' | while read -r file; do
    package=$copy/$(dirname "$file")
    if ! ls "$package"/*.go >/dev/null 2>&1; then
      echo "without.sh: $2 $version has no $(dirname "$file"): bring $1/without up to date" >&2
      exit 1
    fi
    line=$(head -n 1 "without/$file")
    if [ "${line%% *}" = //without ]; then
      # rm fails where one of them is no longer there.
      (cd "$package" && rm ${line#//without} "$(basename "$file" .txt)")
    else
      rm "$package"/*.go
    fi
    cp "without/$file" "$package/$(basename "$file" .txt)"
  done
  echo "$stamp" >"$copy/.stamp"
fi
