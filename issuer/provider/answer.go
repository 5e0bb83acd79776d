package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// An operator is told of a provider's answer by its status, its media type, and the types of its
// members. The text of a library's error is not used, because the next release words it in another
// way; and the answer's own text is not used, because it could hold anything.

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

var mediaTypeForm = lazyregexp.Regexp{Text: `^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+$`}

const maxMediaType = 81 // bytes of one that the log shows

func mediaTypeOf(header http.Header) string {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || len(media) > maxMediaType || !mediaTypeForm.Get().MatchString(media) {
		return ""
	}
	return media
}

// redact keeps what a provider sent, and the URLs it was sent to, out of the log: x/oauth2 puts
// whole bodies into its errors.
func redact(err error) error {
	if answer := (*strangeAnswer)(nil); errors.As(err, &answer) {
		return answer
	}
	return outgoing.Redact(err)
}

// fetched returns the body and media type of an answer of 200 to a GET. Another answer is a
// *strangeAnswer.
func (all *Providers) fetched(r *http.Request, origin string) ([]byte, string, error) {
	resp, err := all.httpClient(origin).Do(r)
	if err != nil {
		return nil, "", redact(err)
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
