#!/usr/bin/env bash
# A person whose account an administrator deactivates stays signed in everywhere: the refresh token
# goes on, and each answer has a new id_token, from which only the claim email_verified has gone.
# The userinfo endpoint, asked with the new access token, answers 200 with a page of HTML, where
# OpenID Connect Core section 5.3.3 has an error of RFC 6750: who looks at the status alone sees a
# success. Needs gcc; Gitea is built once, into ../build, which takes up to 15 minutes.
. "$(dirname "$0")/lib.sh"

gitea=$findings/../build/gitea
[ -x "$gitea" ] || CGO_ENABLED=1 go -C "$findings/../deploy/e2e/gitea" build -trimpath -tags sqlite,sqlite_unlock_notify -ldflags='-s -w' -o "$gitea" code.gitea.io/gitea
port=$(free_port)
url=http://localhost:$port
cat >app.ini <<INI
RUN_MODE = prod
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
WORK_PATH = $work
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = $port
ROOT_URL = $url/
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
STATIC_ROOT_PATH = $(go -C "$findings/../deploy/e2e/gitea" list -m -f '{{.Dir}}' code.gitea.io/gitea)
[database]
DB_TYPE = sqlite3
PATH = $work/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = a-secret-for-a-test-alone
INTERNAL_TOKEN = eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJuYmYiOjE3MDAwMDAwMDB9.x
[oauth2]
JWT_SECRET = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
[log]
LEVEL = Warn
INI
export HOME=$work USER=${USER:-root}
run() { "$gitea" -c "$work/app.ini" "$@"; }
run migrate >log 2>&1
run admin user create --admin --username boss --password correct-Horse-7 --email boss@example.com --must-change-password=false >>log
run admin user create --username carol --password correct-Horse-7 --email carol@example.com --must-change-password=false >>log
# Without run, whose shell would be ended in the place of Gitea.
"$gitea" -c "$work/app.ini" web >>log 2>&1 &
started=$!
until curl -fs -o /dev/null "$url/api/healthz"; do
  kill -0 $started || { cat log; exit 1; }
  sleep 0.2
done

api() { curl -fs -u boss:correct-Horse-7 -H 'Content-Type: application/json' "$@"; }
member() { node -e 'const m = JSON.parse(require("fs").readFileSync(0)); console.log(m[process.argv[1]])' "$1"; }
claim() { node -e 'const m = JSON.parse(require("fs").readFileSync(0)); console.log(JSON.parse(Buffer.from(m.id_token.split(".")[1], "base64url"))[process.argv[1]])' "$1"; }
callback=http://localhost:9/callback
api -d "{\"name\":\"wiki\",\"redirect_uris\":[\"$callback\"],\"confidential_client\":true}" "$url/api/v1/user/applications/oauth2" >app
id=$(member client_id <app) secret=$(member client_secret <app)
token() { curl -s -o answer -w '%{http_code}' -u "$id:$secret" "$url/login/oauth/access_token" "$@"; }

# She signs in, and lets the application in.
browse() { curl -s -b jar -c jar -H 'Sec-Fetch-Site: same-origin' "$@"; }
browse -o /dev/null -d user_name=carol -d password=correct-Horse-7 "$url/user/login"
browse -o /dev/null "$url/login/oauth/authorize?client_id=$id&redirect_uri=$callback&response_type=code&scope=openid+email&state=s"
browse -o /dev/null -D headers -d "client_id=$id" -d "redirect_uri=$callback" -d state=s -d 'scope=openid email' -d granted=true "$url/login/oauth/grant"
code=$(sed -n 's/^[Ll]ocation: .*[?&]code=\([^&[:space:]]*\).*/\1/p' headers)
token -d grant_type=authorization_code -d "code=$code" -d "redirect_uri=$callback" >status
userinfo() { curl -s -o body -w '%{http_code} %{content_type}' -H "Authorization: Bearer $(member access_token <answer)" "$url/login/oauth/userinfo"; }
seen "the version" v1.26.0 "$(go version -m "$gitea" | awk '$1 == "mod" {print $3}')"
seen "the login, and email_verified of its id_token" "200 true" "$(cat status) $(claim email_verified <answer)"
seen "userinfo" "200 application/json;charset=utf-8" "$(userinfo)"

api -X PATCH -d '{"source_id":0,"login_name":"carol","active":false}' "$url/api/v1/admin/users/carol" >/dev/null
token -d grant_type=refresh_token -d "refresh_token=$(member refresh_token <answer)" >status
seen "a refresh after the account was deactivated, and email_verified" "200 undefined" "$(cat status) $(claim email_verified <answer)"
seen "userinfo with the new access token" "200 text/html; charset=utf-8" "$(userinfo)"
done_with "Gitea 1.26.0"
