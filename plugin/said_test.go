//go:build go1.21

package plugin

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
)

// saidOf returns the status of a request that names somebody, and whom Traefik's access log would
// name: the log keeps the headers of a request as they are left.
func saidOf(h http.Handler, method, body string, length int64, headers ...string) (int, string) {
	req := httptest.NewRequest(method, wikiURL+"/mcp", strings.NewReader(body))
	req.TLS = nil
	req.ContentLength = length
	req.Header = http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"mcp.localhost"}, "Content-Type": {"application/json"},
		subjectHeader: {"mallory"}, scopesHeader: {"everything"}}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			delete(req.Header, headers[i])
			continue
		}
		req.Header[headers[i]] = []string{headers[i+1]}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	left := ""
	for _, row := range identityTable {
		left += strings.Join(req.Header[row.header], "|")
	}
	return rec.Code, left + strings.Join(req.Header[callHeader], "|")
}

// A request that does not reach the MCP server names nobody in Traefik's access log whom the client
// has made up, whether the way of the request is known or not.
func TestRefusedRequestsNameNobodyInTheAccessLog(t *testing.T) {
	start(t)
	token := "Bearer " + goodToken("k1", nil)
	broken := token[:len(token)-4] + "AAAA"
	call := toolCall("delete_page")
	long := strings.Repeat("x", maxUncounted+1)
	for name, labels := range map[string]func(*Config){
		"no label":         func(c *Config) {},
		"identity headers": func(c *Config) { c.IdentityHeaders = "email=X-Forwarded-User" },
		"rules":            func(c *Config) { c.ToolScopes = "delete_page=wiki:write" },
		"rules and CORS":   func(c *Config) { c.ToolScopes = "delete_page=wiki:write"; c.CORS = true },
		"proofs":           func(c *Config) { c.DPoP = "accept" },
		"backend":          func(c *Config) { c.BackendAuthorization = "env:NONE_BACKEND_AUTHORIZATION" },
	} {
		c := wikiConfig(startSidecar(t).server.URL)
		c.PublicURL = wikiURL
		labels(c)
		h, _ := guard(t, c)
		for i := 0; i < 3; i++ { // the way becomes known
			for _, r := range []struct {
				what, method, body string
				length             int64
				headers            []string
				status             int
			}{
				{"no token", "POST", call, int64(len(call)), nil, 401},
				{"no token, scopes", "GET", "", 0, []string{subjectHeader, ""}, 401},
				{"HEAD", "HEAD", "", 0, nil, 401},
				{"another scheme", "GET", "", 0, []string{"Authorization", "Basic dXNlcg=="}, 401},
				{"a token that is none", "GET", "", 0, []string{"Authorization", "Bearer x.y.z"}, 401},
				{"a wrong signature", "GET", "", 0, []string{"Authorization", broken}, 401},
				{"a new token, short body", "POST", call, int64(len(call)) + 1, []string{"Authorization", "Bearer " + goodToken("k1", map[string]any{"jti": name + strconv.Itoa(i)})}, 503},
				{"a short body", "POST", call, int64(len(call)) + 1, []string{"Authorization", token}, 503},
				{"no body", "POST", "", 9, []string{"Authorization", token}, 503},
				{"a long body that is short", "POST", long, int64(len(long)) + 1, []string{"Authorization", token}, 503},
				{"another media type", "POST", call, int64(len(call)), []string{"Authorization", token, "Content-Type", "text/plain"}, 415},
				{"a call that is refused", "POST", call, int64(len(call)), []string{"Authorization", token}, 403},
				{"a secret that is missing", "GET", "", 0, []string{"Authorization", token}, 503},
			} {
				rules := strings.HasPrefix(name, "rules")
				if r.status == 415 && !rules || r.status == 403 && !rules || r.what == "a secret that is missing" && name != "backend" {
					continue
				}
				status, left := saidOf(h, r.method, r.body, r.length, r.headers...)
				if status != r.status || left != "" {
					t.Errorf("%s, %s, round %d: status %d, want %d; the log names %q", name, r.what, i, status, r.status, left)
				}
			}
			// Who was let in is named as the token says.
			if name == "backend" {
				continue
			}
			status, left := saidOf(h, "GET", "", 0, "Authorization", token)
			if status != 200 || left != "user-1"+"openid mcp" {
				t.Errorf("%s: %d, the log names %q", name, status, left)
			}
		}
	}
}

// So it is where headers are not looked at one by one.
func TestRequestsThatNobodyLooksIntoNameNobody(t *testing.T) {
	start(t)
	h, _ := guard(t, wikiConfig(startSidecar(t).server.URL))
	headers := []string{"X-Mcp-Email", "m@example.com", "X-Mcp-Client-Id", "m", callHeader, "tools/call m"}
	for i := 0; i < maxHeaders; i++ {
		headers = append(headers, "X-A-"+strconv.Itoa(i), "a")
	}
	status, left := saidOf(h, "GET", "", 0, headers...)
	if status != 431 || left != "" {
		t.Errorf("too many headers: %d, the log names %q", status, left)
	}
	h, _ = guard(t, &Config{})
	status, left = saidOf(h, "GET", "", 0, headers[:6]...)
	if status != 503 || left != "" {
		t.Errorf("misconfigured: %d, the log names %q", status, left)
	}
}

// A message that cannot be read is one of whoever has sent it, where calls are recorded.
func TestUnreadMessagesNameTheirSender(t *testing.T) {
	start(t)
	h, _ := audited(t)
	call := toolCall("search")
	for i := 0; i < 3; i++ {
		status, left := saidOf(h, "POST", call, int64(len(call))+1, "Authorization", "Bearer "+goodToken("k1", nil))
		if status != 503 || left != "user-1"+"openid mcp"+"unreadable" {
			t.Errorf("round %d: %d, the log names %q", i, status, left)
		}
	}
}

func TestProofsWithoutAHopKeyNameNobody(t *testing.T) {
	start(t)
	c := wikiConfig(startSidecar(t).server.URL)
	c.PublicURL = wikiURL
	c.DPoP = "accept"
	h, _ := guard(t, c)
	ask(h, "GET", wikiURL+"/mcp")
	os.Setenv(hopVariable, "") // t.Setenv sets another environment than Yaegi's
	defer os.Setenv(hopVariable, testHopKey)
	clock.Add(hopReuse)
	status, left := saidOf(h, "GET", "", 0, "Authorization", "DPoP x")
	if status != 503 || left != "" {
		t.Errorf("%d, the log names %q", status, left)
	}
}

// That a request has been through another bouncer is seen where its way is known too.
func TestTwoBouncersAreSeenOnKnownWays(t *testing.T) {
	for _, credentials := range []string{"", "Bearer for-the-server"} {
		log := start(t)
		c := wikiConfig(startSidecar(t).server.URL)
		c.PublicURL = wikiURL
		h, _ := guard(t, c)
		ask(h, "GET", wikiURL+"/mcp")
		ask(h, "GET", wikiURL+"/mcp")
		if strings.Contains(log.String(), "two are on one way") {
			t.Fatal(log)
		}
		status, _ := saidOf(h, "GET", "", 0, "Authorization", credentials)
		if status != 401 || !strings.Contains(log.String(), "two are on one way") {
			t.Errorf("%q: %d, the log says %s", credentials, status, log)
		}
	}
}
