package outgoing

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// Redact keeps what was sent to others, and what they answered, out of the log. A URL may be a
// signed one or hold a code, and libraries put whole bodies into their errors. Of an http.Client's
// error its host and its cause stay; of any other error nothing does.
func Redact(err error) error {
	if broken := (*url.Error)(nil); errors.As(err, &broken) {
		return InBounds(weburl.HostOf(broken.URL), broken.Err)
	}
	return errors.New("an answer of no known form")
}

// bounded is an error whose text may hold what a stranger sent: net/http's repeats the line of an
// answer that it cannot read.
type bounded struct {
	text  string
	cause error
}

// InBounds is for an error of a connection to a host: a transport's, which knows no URL, or a
// body's. Its text is one line of at most 300 characters; the cause stays in its chain.
func InBounds(host string, cause error) error {
	return &bounded{PlainText(fmt.Sprintf("%s: %v", host, cause), 300), cause}
}

func (b *bounded) Error() string { return b.text }
func (b *bounded) Unwrap() error { return b.cause }

// PlainText returns a stranger's text as it may stand in a log: on one line, in characters that can
// be seen, and of at most most characters and an ellipsis.
func PlainText(text string, most int) string {
	clean := []rune(strings.ToValidUTF8(text[:min(len(text), 4*most)], "?"))
	if len(clean) > most {
		clean = append(clean[:most:most], '…')
	}
	for i, r := range clean {
		if !unicode.IsPrint(r) {
			clean[i] = '?'
		}
	}
	return string(clean)
}

var errorCode = lazyregexp.Regexp{Text: `^[a-zA-Z0-9_.-]+$`}

// SafeCode returns somebody's error code as it may stand in a log.
func SafeCode(code string) string {
	if len(code) <= 40 && errorCode.Get().MatchString(code) {
		return code
	}
	return "an error code that is not one"
}
