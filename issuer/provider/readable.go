package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/oauth2"
)

// Libraries read an answer into typed fields, and refuse all of it for one member of another type:
// an expires_in of 3600.0, say, which nobody here looks at. So they are handed answers in which
// each member that they read has the type they expect, or is missing. The code that needs a missing
// member refuses the answer by the member's name.

// rewritten is an http.RoundTripper whose answers are what rewrite makes of their bodies.
type rewritten struct {
	next    http.RoundTripper
	rewrite func(resp *http.Response, body []byte) ([]byte, error)
}

func (w rewritten) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body) // bounded by limitedTransport
	if err == nil {
		body, err = w.rewrite(resp, body)
	}
	if err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}

// members are those of a JSON object, as they were written.
type members struct {
	all     map[string]json.RawMessage
	changed bool
}

// readMembers returns nil for what is not a JSON object. It removes members whose names differ from
// a known one in letter case alone: encoding/json would take them for that one.
func readMembers(body []byte, known []string) *members {
	m := &members{}
	if json.Unmarshal(body, &m.all) != nil || m.all == nil {
		return nil
	}
	for name := range m.all {
		if slices.Contains(known, name) {
			continue
		}
		for _, other := range known {
			if strings.EqualFold(name, other) {
				m.set(name, nil)
			}
		}
	}
	return m
}

// formMembers are the members of a token response that is a form, as some providers write it; nil
// if it is not a form. x/oauth2 makes no difference between a scope that is missing in a form and
// one that is empty.
func formMembers(media string, body []byte) *members {
	form, err := url.ParseQuery(string(body))
	if isForm := media == "application/x-www-form-urlencoded" || media == "text/plain"; !isForm || err != nil || form.Get("access_token") == "" && form.Get("error") == "" {
		return nil
	}
	m := &members{all: map[string]json.RawMessage{}}
	for name := range form {
		m.set(name, form.Get(name))
	}
	return m
}

// bytes are what came, if nothing was changed.
func (m *members) bytes(came []byte) []byte {
	if !m.changed {
		return came
	}
	return must(json.Marshal(m.all))
}

// set puts a value in the place of a member; nil removes it.
func (m *members) set(name string, value any) {
	m.changed = true
	if value == nil {
		delete(m.all, name)
		return
	}
	m.all[name] = must(json.Marshal(value))
}

func (m *members) value(name string) (v any) {
	json.Unmarshal(m.all[name], &v) // what is missing stays nil
	return v
}

// isText says whether a member is a string that says something.
func (m *members) isText(name string) bool {
	text := m.all[name]
	return len(text) > 2 && text[0] == '"'
}

// texts removes members that are not strings.
func (m *members) texts(names []string) {
	for _, name := range names {
		if text, sent := m.all[name]; sent && text[0] != '"' {
			m.set(name, nil)
		}
	}
}

// lists makes lists of strings of members: of a list, the strings in it; of a string, its words.
func (m *members) lists(names []string) {
	for _, name := range names {
		if m.all[name] == nil {
			continue
		}
		texts, changed := []string{}, true
		switch v := m.value(name).(type) {
		case string:
			texts = strings.Fields(v)
		case []any:
			for _, entry := range v {
				if text, ok := entry.(string); ok {
					texts = append(texts, text)
				}
			}
			changed = len(texts) != len(v)
		}
		if changed {
			m.set(name, texts)
		}
	}
}

var (
	discoveryTexts = []string{"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "revocation_endpoint", "device_authorization_endpoint"}
	discoveryLists = []string{
		"id_token_signing_alg_values_supported", "token_endpoint_auth_methods_supported", "scopes_supported",
		"prompt_values_supported", "token_endpoint_auth_signing_alg_values_supported",
	}
	discoveryKnown = slices.Concat(discoveryTexts, discoveryLists, []string{sendsIss})

	tokenTexts = []string{"access_token", "token_type", "refresh_token", "error", "error_description", "error_uri"}
	tokenKnown = slices.Concat(tokenTexts, []string{"expires_in"})
)

const sendsIss = "authorization_response_iss_parameter_supported" // RFC 9207 §3

// readableDiscovery makes a discovery document (OpenID Connect Discovery §3) readable. A body that
// is not a JSON object is left as it is.
func readableDiscovery(body []byte) []byte {
	m := readMembers(body, discoveryKnown)
	if m == nil {
		return body
	}
	m.texts(discoveryTexts)
	m.lists(discoveryLists)
	// A string that says so counts: otherwise an answer without iss would be accepted.
	switch v := m.value(sendsIss).(type) {
	case nil, bool:
	default:
		m.set(sendsIss, v == "true")
	}
	return m.bytes(body)
}

// lifeOf is the life of an access token in whole seconds; nil if it says none. A life that is not
// understood must not be taken for a token that never expires.
func lifeOf(v any) any {
	n, isNumber := v.(float64)
	if text, isText := v.(string); isText {
		n, isNumber = seconds(strings.TrimSpace(text))
	}
	if !isNumber || n <= 0 {
		return nil
	}
	return int64(min(max(n, 1), 999_999_999))
}

// isWholeSeconds says whether a number is one that every library reads: up to nine digits.
func isWholeSeconds(number []byte) bool {
	return len(number) <= 9 && len(bytes.Trim(number, "0123456789")) == 0
}

// readableTokens makes an answer of a token endpoint (RFC 6749 §5) readable. Its error is a
// *strangeAnswer: an answer that looks like success and has no access token would count as no
// answer at all.
func readableTokens(resp *http.Response, body []byte) ([]byte, error) {
	success := resp.StatusCode >= 200 && resp.StatusCode <= 299
	if success {
		if token, plain := plainToken(body); plain {
			resp.Header.Set("Content-Type", "application/json")
			if token != nil && resp.Request != nil {
				if read, ok := resp.Request.Context().Value(alreadyRead{}).(*alreadyRead); ok {
					read.token, body = token, []byte(`{"access_token":"read already"}`)
				}
			}
			return body, nil
		}
	}
	return mendedTokens(resp, success, body)
}

// alreadyRead takes a plain answer past x/oauth2, which reads each one twice, into a type of its
// own and into a map.
type alreadyRead struct{ token *oauth2.Token }

// askToken asks a token endpoint by x/oauth2, and returns what that would have read.
func askToken(ctx context.Context, ask func(context.Context) (*oauth2.Token, error)) (*oauth2.Token, error) {
	read := &alreadyRead{}
	token, err := ask(context.WithValue(ctx, alreadyRead{}, read))
	if err == nil && read.token != nil {
		return read.token, nil
	}
	return token, err
}

// plainToken says whether a token response is as simple as most are: a flat object of whole numbers
// and of strings in plain ASCII, whose names have no capitals. Then there is nothing to mend, and
// it is read here, unless it is an error. In doubt it says no.
func plainToken(body []byte) (token *oauth2.Token, plain bool) {
	rest, ok := bytes.CutPrefix(trimBlanks(body), []byte("{"))
	token = &oauth2.Token{}
	extra := map[string]any{}
	isError := false
	for ok {
		var name, value []byte
		var isText bool
		if name, rest, ok = cutPlainText(rest); !ok || bytes.ContainsAny(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			return nil, false
		}
		if rest, ok = bytes.CutPrefix(trimBlanks(rest), []byte(":")); !ok {
			return nil, false
		}
		if value, rest, isText = cutPlainText(rest); !isText {
			rest = trimBlanks(rest)
			value = rest[:len(rest)-len(bytes.TrimLeft(rest, "0123456789"))]
			rest = rest[len(value):]
			if len(value) == 0 || len(value) > 9 || value[0] == '0' {
				return nil, false
			}
		}
		text := string(value)
		switch string(name) {
		case "access_token":
			token.AccessToken = text
			ok = isText && text != ""
		case "token_type":
			token.TokenType = text
			ok = isText
		case "refresh_token":
			token.RefreshToken = text
			ok = isText
		case "error":
			isError = text != ""
			ok = isText
		case "error_description", "error_uri":
			ok = isText
		case "expires_in":
			token.ExpiresIn, _ = strconv.ParseInt(text, 10, 64)
			ok = !isText
		case "scope":
			ok = isText
			extra["scope"] = text
		default:
			if extra[string(name)] = any(text); !isText {
				n, _ := strconv.ParseInt(text, 10, 64)
				extra[string(name)] = float64(n)
			}
		}
		rest = trimBlanks(rest)
		if ok && len(rest) == 1 && rest[0] == '}' {
			if plain = token.AccessToken != ""; !plain || isError {
				return nil, plain
			}
			return token.WithExtra(extra), true
		}
		if ok {
			rest, ok = bytes.CutPrefix(rest, []byte(","))
		}
	}
	return nil, false
}

// cutPlainText cuts a JSON string without escapes and of US-ASCII alone.
func cutPlainText(rest []byte) (text, after []byte, ok bool) {
	rest = trimBlanks(rest)
	if len(rest) < 2 || rest[0] != '"' {
		return nil, rest, false
	}
	for i, c := range rest[1:] {
		switch {
		case c == '"':
			return rest[1 : 1+i], rest[2+i:], true
		case c < ' ' || c > '~' || c == '\\':
			return nil, rest, false
		}
	}
	return nil, rest, false
}

// trimBlanks takes JSON's white space from both ends (RFC 8259 §2); bytes.TrimSpace takes more.
func trimBlanks(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// mendedTokens is readableTokens for an answer that is not plain.
func mendedTokens(resp *http.Response, success bool, body []byte) ([]byte, error) {
	media := mediaTypeOf(resp.Header)
	m := readMembers(body, tokenKnown)
	if m == nil && !success {
		return body, nil
	}
	if m == nil {
		if m = formMembers(media, body); m == nil {
			return nil, &strangeAnswer{resp.StatusCode, media, "no token response"}
		}
	}
	if success && !m.isText("access_token") && !m.isText("error") {
		why := "access_token is missing"
		if v := m.value("access_token"); v != nil && v != "" {
			why = "access_token is " + typeOf(v)
		}
		return nil, &strangeAnswer{resp.StatusCode, media, why}
	}
	m.texts(tokenTexts)
	if life := m.all["expires_in"]; life != nil && !isWholeSeconds(life) {
		m.set("expires_in", lifeOf(m.value("expires_in")))
	}
	// A list of scopes is understood. A value that is not understood must not be taken for "all
	// that was asked for", which is what a missing scope says (§5.1).
	if !m.isText("scope") {
		switch m.value("scope").(type) {
		case nil, string:
		case []any:
			m.lists([]string{"scope"})
			var words []string
			json.Unmarshal(m.all["scope"], &words)
			m.set("scope", strings.Join(words, " "))
		default:
			m.set("scope", "")
		}
	}
	resp.Header.Set("Content-Type", "application/json") // by which x/oauth2 decides how it reads
	return m.bytes(body), nil
}
