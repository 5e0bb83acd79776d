package upstreamtoken

import (
	"reflect"
	"strings"
	"testing"
)

func TestUpstreamTokenMember(t *testing.T) {
	long := strings.Repeat("s", 1025)
	for _, c := range []struct {
		name  string
		texts []string
		want  Wanted
		ok    bool
	}{
		{"off", nil, Wanted{}, true},
		{"an empty list", []string{}, Wanted{}, true},
		{"no scopes", []string{"scopes="}, Wanted{On: true, Scopes: []string{}}, true},
		{"scopes", []string{"scopes=repo read:org"}, Wanted{On: true, Scopes: []string{"repo", "read:org"}}, true},
		{"an audience", []string{"scopes=", "exchange=https://api.example.com/a=b"}, Wanted{On: true, Scopes: []string{}, Exchange: "https://api.example.com/a=b"}, true},
		{"scopes that are long", []string{"scopes=" + long[:1024]}, Wanted{On: true, Scopes: []string{long[:1024]}}, true},

		{"an empty text", []string{""}, Wanted{}, false},
		{"no scopes first", []string{"exchange=a"}, Wanted{}, false},
		{"a header", []string{"scopes=", "header=X-A"}, Wanted{}, false},
		{"three texts", []string{"scopes=", "exchange=a", "exchange=b"}, Wanted{}, false},
		{"scopes twice", []string{"scopes=a", "scopes=b"}, Wanted{}, false},
		{"two blanks", []string{"scopes=a  b"}, Wanted{}, false},
		{"a comma", []string{"scopes=a,b"}, Wanted{}, false},
		{"a semicolon", []string{"scopes=a;exchange=b"}, Wanted{}, false},
		{"a quote", []string{`scopes=a"`}, Wanted{}, false},
		{"a variable", []string{"scopes=${A}"}, Wanted{}, false},
		{"scopes that are too long", []string{"scopes=" + long}, Wanted{}, false},
		{"an empty audience", []string{"scopes=", "exchange="}, Wanted{}, false},
		{"an audience with a blank", []string{"scopes=", "exchange=a b"}, Wanted{}, false},
		{"an audience in other letters", []string{"scopes=", "exchange=ü"}, Wanted{}, false},
		{"an audience that is too long", []string{"scopes=", "exchange=" + long[:301]}, Wanted{}, false},
	} {
		got, err := Parse(c.texts)
		if (err == nil) != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}
