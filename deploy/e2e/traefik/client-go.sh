#!/usr/bin/env bash
# Usage: client-go.sh FOLDER VERSION makes a copy of Kubernetes' client, with the three groups of
# its API that Traefik asks for. The other twenty are a sixth of what Traefik would have to compile.
set -euo pipefail
groups='(core|discovery|networking)'
source=$(cd / && GOFLAGS= go mod download -json "k8s.io/client-go@$2" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
if [ -e "$1" ]; then chmod -R u+w "$1" && rm -rf "$1"; fi
cp -r "$source" "$1"
chmod -R u+w "$1"
find "$1" -name '*_test.go' -delete
for folder in informers listers kubernetes/typed applyconfigurations; do
  find "$1/$folder" -mindepth 1 -maxdepth 1 -type d | grep -vE "/$groups\$|/(internal|internalinterfaces|meta)\$" | xargs rm -r
done
rm -r "$1/kubernetes/fake" "$1/informers/generic.go"
sed -i -E '
  /"k8s.io\/client-go\/informers\//{/\/('"$groups"'|internalinterfaces)"/!d}
  /^\t[A-Z][a-z]*\(\) [a-z]*\.Interface$/{/ '"$groups"'\./!d}
  / '"$groups"'\.Interface \{$/!{/^func .* [a-z]*\.Interface \{$/,/^}$/d}
  /ForResource|^\tschema "/d
' "$1/informers/factory.go"
# Fields, methods, and where both are filled.
sed -i -E '
  /"k8s.io\/client-go\/kubernetes\/typed\//{/typed\/'"$groups"'\//!d}
  /^\t[A-Za-z0-9]*(\(\))? +\*?[a-z0-9]*v[0-9][a-z0-9]*\.[A-Za-z0-9]*(Client|Interface)$/{/[ *]'"$groups"'v/!d}
  / '"$groups"'v[a-z0-9]*\.[A-Za-z0-9]* \{$/!{/^func \(c \*Clientset\) .* [a-z]*v[0-9].*Interface \{$/,/^}$/d}
  / = '"$groups"'v/!{/^\tcs\..* = [a-z]*v[0-9].*\(&config/,/^\t}$/d}
  /^\tcs\..* = [a-z]*v[0-9][a-z0-9]*\.New\(c\)$/{/ = '"$groups"'v/!d}
' "$1/kubernetes/clientset.go"
