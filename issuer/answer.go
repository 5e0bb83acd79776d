package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// What an operator is told of a provider's answer comes from the answer: its status, its media
// type, and which of its members are of which type. Never from the text of somebody's error, which
// the next release of a library words in another way; and never from the answer's own text, which
// could hold anything.

// strangeAnswer is an answer that came and is not what was asked for.
type strangeAnswer struct {
	status    int    // of HTTP
	mediaType string // without parameters; empty if none came that can be read
	why       string // what an answer of 200 lacks
}

func (a *strangeAnswer) Error() string {
	text := fmt.Sprintf("the provider answered %d", a.status)
	if a.mediaType != "" {
		text += " " + a.mediaType
	}
	if a.why != "" {
		text += ": " + a.why
	}
	return text
}

// passes says whether it is the answer of an outage.
func (a *strangeAnswer) passes() bool {
	return a.status >= http.StatusInternalServerError || a.status == http.StatusTooManyRequests
}

var mediaTypeForm = regexp.MustCompile(`^[a-z0-9!#$&^_.+-]{1,40}/[a-z0-9!#$&^_.+-]{1,40}$`)

func mediaTypeOf(header http.Header) string {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || !mediaTypeForm.MatchString(media) {
		return ""
	}
	return media
}

// unanswered is the error of a question to the provider that taught nothing and may be asked again.
// "Cannot be reached" is said only when nothing came. The cause must have been redacted.
func unanswered(cause error) *Error {
	if answer := (*strangeAnswer)(nil); errors.As(cause, &answer) || errors.Is(cause, errUnusable) {
		return temporarilyUnavailable("the answer of the sign-in provider cannot be used", cause)
	}
	return temporarilyUnavailable("the sign-in provider cannot be reached", cause)
}

// redactUpstream keeps what a provider sent, and the URLs it was sent to, out of the log: x/oauth2
// puts whole bodies into its errors.
func redactUpstream(err error) error {
	if answer := (*strangeAnswer)(nil); errors.As(err, &answer) {
		return answer
	}
	return outgoing.Redact(err)
}

// fetched returns the body and media type of an answer of 200 to a GET. Another answer is a
// *strangeAnswer.
func (s *Issuer) fetched(r *http.Request, issuer string) ([]byte, string, error) {
	resp, err := s.upstreamClient(issuer).Do(r)
	if err != nil {
		return nil, "", redactUpstream(err)
	}
	defer resp.Body.Close()
	media := mediaTypeOf(resp.Header)
	body, err := io.ReadAll(resp.Body) // bounded by limitedTransport
	switch {
	case err != nil:
		return nil, "", outgoing.InBounds(r.URL.Host, err)
	case resp.StatusCode != http.StatusOK:
		return nil, "", &strangeAnswer{resp.StatusCode, media, ""}
	}
	return body, media, nil
}

// typeOf says what came in the words of RFC 8259 §3, with nothing of the value.
func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case float64, json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	}
	return "an object"
}
